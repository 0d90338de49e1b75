"""`test`: what is expected of an image.

Boots its file system, waits until it is ready, sends requests and checks the answers; or looks at its files and
configuration, and runs nothing, which it does with images of other architectures too.
"""

from __future__ import annotations

from typing import Any, Literal

from forge.api import (
    Artifact,
    Attributes,
    Context,
    Field,
    ImageInfo,
    Provider,
    Source,
    SourceFile,
    SourceFiles,
    TargetLabel,
    TestInfo,
    rule,
)

_HARNESS = Source("forge_runtime/harness.py", "runtime")


class FileCheck(Attributes):
    """What is expected of a file of the image, links followed."""

    exists: bool = True
    """Whether it is there."""
    kind: Literal["", "file", "folder"] = ""
    """What it is; empty for either."""
    executable: bool | None = None
    """Whether it can be run; images know no other modes."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Of its content."""
    contains: str = ""
    """Text in it."""


class ConfigCheck(Attributes):
    """What is expected of the image's configuration."""

    user: str | None = None
    """User and group, `65532:65532`."""
    workdir: str | None = None
    """Folder that it starts in."""
    entrypoint: tuple[str, ...] | None = None
    """Program and arguments, all of them."""
    cmd: tuple[str, ...] | None = None
    """Arguments that a caller may replace, all of them."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables that are among its own."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels that are among its own."""
    ports: tuple[int, ...] = ()
    """Ports that are among those that it exposes."""


class Attrs(Attributes):
    """Attributes of `test`."""

    image: TargetLabel
    """Image that it is about."""
    cases: SourceFile | None = None
    """JSON: a list of requests, each with what its answer must be; see the runtime's README. The image is booted."""
    script: SourceFile | None = None
    """Python program that is run beside the booted image, whose address is FORGE_TEST_URL; it passes by exit code 0."""
    files: dict[str, FileCheck] = Field(default_factory=dict)
    """Absolute path in the image -> what is expected of it."""
    config: ConfigCheck = Field(default_factory=ConfigCheck)
    """What is expected of its configuration."""
    data: SourceFiles = ()
    """Files that `file` of a request names and that `script` finds where it starts, from the package's folder on."""
    deps: tuple[TargetLabel, ...] = ()
    """Targets whose outputs it names, as `forge-out` does below the package."""
    timeout: int = Field(default=300, gt=0)
    """Seconds for everything."""


@rule("test", Attrs, platforms_from="image", is_test=True)
def analyze(context: Context, attrs: Attrs) -> TestInfo:
    """Ask for one action that boots the image, one that looks at it, or both."""
    image = context.dep(attrs.image, ImageInfo)
    expected = _expected(context, attrs)
    if attrs.cases is None and attrs.script is None and not expected:
        hint = "Requests in `cases`, a `script`, or what its files and configuration must be in `files` and `config`"
        raise context.error(f"`{context.label}` expects nothing of its image", hint)
    reports: list[Artifact] = []
    is_booted = attrs.cases is not None or attrs.script is not None
    if is_booted:
        reports.append(_booted(context, attrs, image))
    if expected:
        reports.append(_inspected(context, image, expected))
    names = [f"{context.label.name}.report.json", f"{context.label.name}.inspection.json"]
    return TestInfo(dict(zip(names if is_booted else names[1:], reports, strict=False)), reports[0])


def _expected(context: Context, attrs: Attrs) -> dict[str, Any]:
    """Write down what `files` and `config` say, and no more: what is not given is not looked at."""
    config = {name: value for name, value in attrs.config.model_dump().items() if value is not None}
    config = {name: value for name, value in config.items() if value or name not in ("env", "labels", "ports")}
    files = {}
    for path, check in sorted(attrs.files.items()):
        given = {name: value for name, value in check.model_dump().items() if value not in (None, "")}
        if not path.startswith("/") or {"", ".", ".."} & set(path[1:].split("/")):
            raise context.error(
                f"`{path!a}` of `files` of `{context.label}` is no absolute path", "Such as `/etc/passwd`"
            )
        if not check.exists and len(given) > 1:
            raise context.error(f"`{path}` of `files` of `{context.label}` is not to exist, and to be something")
        if check.kind == "folder" and given.keys() & {"executable", "sha256", "contains"}:
            raise context.error(f"`{path}` of `files` of `{context.label}` is to be a folder, and to have content")
        files[path] = given
    return {name: table for name, table in (("config", config), ("files", files)) if table}


def _inspected(context: Context, image: ImageInfo, expected: dict[str, Any]) -> Artifact:
    if image.layout is None or image.root is None:
        raise context.error(f"`{context.label}` needs one image, not one of several architectures")
    (report,) = context.tool(
        "inspect",
        expected,
        inputs={"layout": image.layout, "root": image.root},
        outputs=["report.json"],
        mnemonic="Test",
        description=f"Inspect {context.label}",
    )
    return report


def _booted(context: Context, attrs: Attrs, image: ImageInfo) -> Artifact:
    """Ask for server and client in one sandbox, with a loopback of its own."""
    inputs: dict[str, Artifact] = {"harness.py": _HARNESS}
    argv = ["/usr/bin/python3", "/build/harness.py", "--data", "/build/data"]
    if attrs.cases is not None:
        inputs["cases.json"] = attrs.cases
        argv += ["--cases", "/build/cases.json"]
    if attrs.script is not None:
        inputs["script.py"] = attrs.script
        argv += ["--script", "/build/script.py"]
    for source in attrs.data:
        inputs[f"data/{source.path.partition(f'/{context.label.package}/')[2] or source.path}"] = source
    for label in attrs.deps:
        for provider in context.deps(label, Provider):
            inputs.update({f"data/{name}": artifact for name, artifact in provider.files.items()})
    return context.boot(
        image,
        [*argv, "--report", "/build/out/report.json"],
        inputs=inputs,
        outputs=["report.json"],
        timeout=attrs.timeout,
    )
