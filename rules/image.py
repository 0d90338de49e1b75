"""`image`: a composed service, or its client, becomes an OCI image."""

from __future__ import annotations

import re
from typing import Any

from forge.api import AppInfo, Artifact, Attributes, Context, Field, ImageInfo, TargetLabel, rule

_APP, _RUNTIME, _MODELS, _CONFIG = "opt/forge/app", "opt/forge/runtime", "models", "etc/forge/config.json"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(rf"(?:[a-z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*:[a-z0-9_][a-z0-9_.-]{{0,127}}")
_TITLE = "org.opencontainers.image."


class Attrs(Attributes):
    """Attributes of `image`."""

    apps: tuple[TargetLabel, ...] = Field(min_length=1)
    """Composed services and clients; each platform takes the one that has it."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the image's configuration."""


@rule("image", Attrs, platforms_from="apps")
def analyze(context: Context, attrs: Attrs) -> ImageInfo:
    """Ask for the layers, in order of churn, and for the image over them."""
    if len(attrs.apps) != 1 or context.platform is None:
        raise context.error(f"`{context.label}` needs exactly one service a platform, `apps` gives {len(attrs.apps)}")
    app = context.dep(attrs.apps[0], AppInfo)
    if app.environment is None or (app.model is not None and app.model.tree is None):
        raise context.error(f"`{attrs.apps[0]}` is not a whole service")
    if app.runtime is None or app.app is None or app.config is None:
        raise context.error(f"`{attrs.apps[0]}` is not a whole service")
    layers = [(what, tree, "") for what, tree in app.environment.layers]
    if app.model is not None and app.model.tree is not None:
        layers.append(("Model", app.model.tree, f"{_MODELS}/{app.model.name}"))
    layers += [("Runtime", app.runtime, _RUNTIME), ("Handler and data", app.app, _APP)]
    layers.append(("Configuration", app.config, _CONFIG))
    inputs: dict[str, Artifact] = {}
    for number, (what, artifact, place) in enumerate(layers):
        tool = "model_layers" if what == "Model" else "layer"
        outputs = ["layers/"] if what == "Model" else ["layer", "descriptor"]
        params: dict[str, Any] = {"place": {"content": place}}
        made = context.tool(
            tool,
            params if what == "Model" else {**params, "compression": "gzip"},
            inputs={"content": artifact},
            outputs=outputs,
            mnemonic="Layer",
            description=f"Layer {what.lower()} {context.label}",
        )
        names = [f"layers.{number}"] if what == "Model" else [f"layer.{number}", f"descriptor.{number}"]
        inputs.update(zip(names, made, strict=True))
    ref = _reference(context)
    layout, digest = context.tool(
        "image",
        _parameters(context, app, attrs, ref, [what for what, _, _ in layers]),
        inputs=inputs,
        outputs=["layout/", "digest"],
        description=f"Assemble {context.label}",
    )
    (root,) = context.tool(
        "tree",
        {"place": {f"{number:04}": place for number, (_, _, place) in enumerate(layers)}, "replace": True},
        inputs={f"{number:04}": artifact for number, (_, artifact, _) in enumerate(layers)},
        outputs=["root/"],
        mnemonic="Root",
        description=f"Flatten {context.label}",
    )
    files = {context.label.name: layout}
    return ImageInfo(
        files, layout, digest, root, app.entrypoint, app.environ, app.workdir, app.port, context.platform.arch, ref
    )


def _parameters(context: Context, app: AppInfo, attrs: Attrs, ref: str, history: list[str]) -> dict[str, Any]:
    assert context.platform is not None
    created = context.settings["created"]
    return {
        "architecture": context.platform.arch,
        "os": "linux",
        "user": "65532:65532",
        "env": [f"{name}={value}" for name, value in app.environ],
        "entrypoint": list(app.entrypoint),
        "workdir": app.workdir,
        # Root is read-only: what needs a scratch file finds a volume there, also where nobody mounts a tmpfs.
        "volumes": ["/tmp"],
        "ports": [f"{app.port}/tcp"] if app.port else [],
        "labels": dict(sorted(attrs.labels.items())),
        "annotations": {
            f"{_TITLE}title": f"{context.label.package or context.label.name} on {context.platform.name}",
            f"{_TITLE}created": created,
            f"{_TITLE}ref.name": ref,
            "io.forge.platform": context.platform.name,
            "io.forge.target": str(context.label),
        },
        "created": created,
        "history": history,
        "ref": ref,
        "stop_signal": "SIGTERM",
        # The tool `layer` has judged each layer's content when it made it.
        "recheck": False,
    }


def _reference(context: Context) -> str:
    """Name the image: `<repository>/<package>:<tag>`."""
    assert context.platform is not None
    tag = context.settings["tag"].replace("{name}", context.label.name).replace("{platform}", context.platform.name)
    tag = re.sub(r"[^a-z0-9_.-]", "_", tag.replace("{package}", context.label.package).lower())
    name = "/".join(filter(None, (context.settings["repository"], context.label.package))).lower().replace("+", "_")
    if not _REFERENCE.fullmatch(f"{name}:{tag}"):
        hint = "Set `repository` and `tag` of `[image]` in WORKSPACE.toml"
        raise context.error(f"`{name}:{tag}` of `{context.label}` cannot be the name of an image", hint)
    return f"{name}:{tag}"
