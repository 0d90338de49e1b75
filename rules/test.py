"""`test`: boots an image's file system, waits until it is ready, sends requests and checks the answers."""

from __future__ import annotations

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


class Attrs(Attributes):
    """Attributes of `test`."""

    image: TargetLabel
    """Image to boot."""
    cases: SourceFile
    """JSON: a list of requests, each with what its answer must be; see the runtime's README."""
    data: SourceFiles = ()
    """Files that `file` of a request names, from the package's folder on."""
    deps: tuple[TargetLabel, ...] = ()
    """Targets whose outputs it names, as `forge-out` does below the package."""
    timeout: int = Field(default=300, gt=0)
    """Seconds for everything."""


@rule("test", Attrs, platforms_from="image", is_test=True)
def analyze(context: Context, attrs: Attrs) -> TestInfo:
    """Ask for one action: server and client in one sandbox, with a loopback of its own."""
    image = context.dep(attrs.image, ImageInfo)
    inputs: dict[str, Artifact] = {"harness.py": _HARNESS, "cases.json": attrs.cases}
    for source in attrs.data:
        inputs[f"data/{source.path.partition(f'/{context.label.package}/')[2] or source.path}"] = source
    for label in attrs.deps:
        for provider in context.deps(label, Provider):
            inputs.update({f"data/{name}": artifact for name, artifact in provider.files.items()})
    argv = ["/usr/bin/python3", "/build/harness.py", "--cases", "/build/cases.json", "--data", "/build/data"]
    report = context.boot(
        image,
        [*argv, "--report", "/build/out/report.json"],
        inputs=inputs,
        outputs=["report.json"],
        timeout=attrs.timeout,
    )
    return TestInfo({f"{context.label.name}.report.json": report}, report)
