"""`dockerfile`: a Dockerfile of one's own becomes an OCI image, by `docker buildx build` over declared files only."""

from __future__ import annotations

import re
from typing import Any, Literal

from forge.api import (
    Artifact,
    Attributes,
    Context,
    Field,
    ImageInfo,
    Provider,
    SourceFile,
    SourceFiles,
    TargetLabel,
    is_excepted,
    is_secret_file,
    is_secret_name,
    rule,
    secret_in,
)

_NAMES = {
    "args": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "contexts": re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*"),
    "secrets": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "target": re.compile(r"[A-Za-z][A-Za-z0-9_.-]*"),
}


class Attrs(Attributes):
    """Attributes of `dockerfile`."""

    dockerfile: SourceFile
    """The Dockerfile; its bases have a digest, or are named contexts."""
    srcs: SourceFiles = ()
    """The files that `COPY` sees, by their paths below the package; nothing else is in the context."""
    args: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Values of its `ARG`s."""
    contexts: dict[str, TargetLabel] = Field(default_factory=dict)
    """Named contexts: images for `FROM name`, what other targets make for `COPY --from=name`."""
    target: str = ""
    """The stage that becomes the image; empty for the last one."""
    architectures: tuple[Literal["amd64", "arm64"], ...] = ()
    """What it is built for, in one index; empty for the architecture of the target's platform."""
    secrets: tuple[str, ...] = ()
    """Names that `RUN --mount=type=secret` may mount; the values are of the environment, and in no key."""
    not_secret: tuple[str, ...] = ()
    """Files, by path or glob, that look like secrets and are none."""
    setuid: tuple[str, ...] = ()
    """Programs, by absolute path, that may have the set-user-id or set-group-id bit."""
    network: bool = False
    """Let its steps use the network; then the same key may give another image."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port that it listens on; 0 where it listens on none."""


@rule("dockerfile", Attrs)
def analyze(context: Context, attrs: Attrs) -> ImageInfo:
    """Ask for the one action and, for one architecture, for the file system as a tree."""
    architectures = _architectures(context, attrs)
    _refuse(context, attrs)
    ref = f"{context.settings['repository']}/{context.label.package or context.label.name}".lower()
    ref = f"{ref}:{re.sub(r'[^a-z0-9_.-]', '_', context.label.name.lower())}"
    parameters: dict[str, Any] = {
        "architectures": list(architectures),
        "args": {name: _text(value) for name, value in sorted(attrs.args.items())},
        "created": context.settings["created"],
        "network": attrs.network,
        "not_secret": sorted(set(attrs.not_secret)),
        "path": attrs.dockerfile.path,
        "ref": ref,
        "secrets": sorted(set(attrs.secrets)),
        "setuid": sorted(set(attrs.setuid)),
        "target": attrs.target,
    }
    layout, digest = context.tool(
        "dockerfile",
        parameters,
        inputs=_inputs(context, attrs),
        outputs=["layout/", "digest"],
        mnemonic="Dockerfile",
        description=f"Build {attrs.dockerfile.path} for {context.label}",
    )
    files = {context.label.name: layout}
    if len(architectures) > 1:
        return ImageInfo(files, layout, digest, ref=ref, port=attrs.port)
    inputs = {"layout": layout}
    (root,) = context.tool("flatten", {}, inputs=inputs, outputs=["root/"], description=f"Flatten {context.label}")
    return ImageInfo(files, layout, digest, root, arch=architectures[0], ref=ref, port=attrs.port)


def _architectures(context: Context, attrs: Attrs) -> tuple[str, ...]:
    if context.platform is not None:
        if attrs.architectures not in ((), (context.platform.arch,)):
            hint = "Leave `platforms` out for one index of several architectures"
            raise context.error(f"`{context.label}` has `platforms` and other `architectures`", hint)
        return (context.platform.arch,)
    if not attrs.architectures or len(set(attrs.architectures)) < len(attrs.architectures):
        hint = 'Such as `architectures = ["amd64", "arm64"]`, each once'
        raise context.error(f"`{context.label}` needs `platforms` or `architectures`", hint)
    return attrs.architectures


def _refuse(context: Context, attrs: Attrs) -> None:
    for what, names in (
        ("args", list(attrs.args)),
        ("contexts", list(attrs.contexts)),
        ("secrets", list(attrs.secrets)),
        ("target", [attrs.target] if attrs.target else []),
    ):
        for name in names:
            if not _NAMES[what].fullmatch(name):
                raise context.error(f"`{name!a}` of `{what}` of `{context.label}` cannot be such a name")
    for name, value in attrs.args.items():
        if "\0" in _text(value):
            raise context.error(f"`{name}` of `args` of `{context.label}` holds a NUL character")
        kind = "a secret" if is_secret_name(name) else secret_in(_text(value))
        if kind:
            hint = "Images show their build's arguments: name it in `secrets`, and mount it where it is needed"
            raise context.error(f"`args.{name}` of `{context.label}` looks like {kind}", hint)
    for path in map(context.below, attrs.srcs):
        if is_secret_file(path) and not is_excepted(path, attrs.not_secret):
            hint = "Images are shared: name it in `secrets`, or in `not_secret` if it is none"
            raise context.error(f"`{path}` of `{context.label}` is where secrets are kept", hint)
    if "SOURCE_DATE_EPOCH" in attrs.args:
        raise context.error(f"`{context.label}` sets SOURCE_DATE_EPOCH: it is `created` of `[image]`")


def _inputs(context: Context, attrs: Attrs) -> dict[str, Artifact]:
    inputs: dict[str, Artifact] = {"dockerfile": attrs.dockerfile}
    inputs |= {f"context/{context.below(source)}": source for source in attrs.srcs}
    for name, label in attrs.contexts.items():
        providers = context.deps(label, Provider)
        images = [each for each in providers if isinstance(each, ImageInfo)]
        if images and len(images) < len(providers):
            raise context.error(f"`{label}` of `contexts` of `{context.label}` is images and other things")
        for number, image in enumerate(images):
            if image.layout is not None:
                inputs[f"images/{name}/{number}"] = image.layout
        if not images:
            made = {file: artifact for each in providers for file, artifact in each.files.items()}
            inputs |= {f"files/{name}/{file.rstrip('/')}": artifact for file, artifact in made.items()}
    return inputs


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
