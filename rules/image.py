"""`image`: a composed service, or its client, becomes an OCI image."""

from __future__ import annotations

from typing import Any, Literal

from forge.api import (
    AppInfo,
    Artifact,
    Attributes,
    Context,
    EnvironmentInfo,
    Field,
    ImageInfo,
    Lock,
    ModelInfo,
    Source,
    TargetLabel,
    WheelInfo,
    image_reference,
    rule,
    secret_in,
)

_APP, _RUNTIME, _MODELS, _CONFIG = "opt/forge/app", "opt/forge/runtime", "models", "etc/forge/config.json"
_TEMPLATE = Source("templates/image.Dockerfile", "rules")
_OWN = ("Handler and data", "Configuration")
"""Layers of files that people write, in which secrets would be."""
_TITLE = "org.opencontainers.image."


class Attrs(Attributes):
    """Attributes of `image`."""

    apps: tuple[TargetLabel, ...] = Field(min_length=1)
    """Composed services and clients; each platform takes the one that has it."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the image's configuration."""
    assembler: Literal["", "embedded", "buildx"] = ""
    """Who puts the image together; empty for the workspace's choice."""


@rule("image", Attrs, platforms_from="apps")
def analyze(context: Context, attrs: Attrs) -> ImageInfo:
    """Ask for the layers, in order of churn, and for the image over them."""
    if len(attrs.apps) != 1 or context.platform is None:
        raise context.error(f"`{context.label}` needs exactly one service a platform, `apps` gives {len(attrs.apps)}")
    for name, value in attrs.labels.items():
        if kind := secret_in(value):
            raise context.error(f"`labels.{name}` of `{context.label}` looks like {kind}", "Images are shared")
    app = context.dep(attrs.apps[0], AppInfo)
    if None in (app.environment, app.runtime, app.app, app.config) or (app.model and app.model.tree is None):
        raise context.error(f"`{attrs.apps[0]}` is not a whole service")
    layers = _layers(app)
    inputs = _layered(context, layers, sorted(set(app.not_secret)))
    if app.environment and app.environment.base:
        inputs["base"] = app.environment.base.layout
    ref = image_reference(context)
    parameters = _parameters(context, app, attrs, ref, [what for what, _, _ in layers])
    layout, digest, *dockerfile = _assembled(context, attrs, parameters, inputs)
    base = app.environment.base if app.environment else None
    placed = [(base.root, "")] if base else []
    placed += [(artifact, place) for _, artifact, place in layers]
    (root,) = context.tool(
        "tree",
        {"place": {f"{number:04}": place for number, (_, place) in enumerate(placed)}, "replace": True},
        inputs={f"{number:04}": artifact for number, (artifact, _) in enumerate(placed)},
        outputs=["root/"],
        mnemonic="Root",
        description=f"Flatten {context.label}",
    )
    sbom = _sbom(context, app, ref, digest)
    files = {context.label.name: layout, f"{context.label.name}.sbom.json": sbom}
    files |= {f"{context.label.name}.Dockerfile": each for each in dockerfile}
    about = app.entrypoint, app.environ, app.workdir, app.port, context.platform.arch, ref
    return ImageInfo(files, layout, digest, root, *about, sbom, context.platform, app)


def _assembled(
    context: Context, attrs: Attrs, parameters: dict[str, Any], inputs: dict[str, Artifact]
) -> tuple[Artifact, ...]:
    """Ask for the image: its layout, its digest and, by buildx, the Dockerfile that it was built from."""
    outputs, description = ["layout/", "digest"], f"Assemble {context.label}"
    if (context.settings["assembler_flag"] or attrs.assembler or context.settings["assembler"]) == "embedded":
        return context.tool("image", parameters, inputs=inputs, outputs=outputs, description=description)
    if context.settings["stages"]:
        parameters = {**parameters, "stages": True}
    return context.tool(
        "buildx",
        parameters,
        inputs={**inputs, "template": _TEMPLATE},
        outputs=[*outputs, "dockerfile"],
        mnemonic="Image",
        description=description,
    )


def _layers(app: AppInfo) -> list[tuple[str, Artifact, str]]:
    """List what becomes a layer each, lowest first: what it is, its content, and where that lies."""
    assert app.environment is not None and app.runtime is not None and app.app is not None and app.config is not None
    layers = [(what, tree, "") for what, tree in app.environment.layers]
    if app.deps is not None:
        layers.append(("Packages of the handler", app.deps, ""))
    if app.model is not None and app.model.tree is not None:
        layers.append(("Model", app.model.tree, f"{_MODELS}/{app.model.name}"))
    layers += [("Runtime", app.runtime, _RUNTIME), ("Handler and data", app.app, _APP)]
    return [*layers, ("Configuration", app.config, _CONFIG)]


def _layered(context: Context, layers: list[tuple[str, Artifact, str]], not_secret: list[str]) -> dict[str, Artifact]:
    """Ask for the layers, by the names that the tool `image` has for them."""
    inputs: dict[str, Artifact] = {}
    for number, (what, artifact, place) in enumerate(layers):
        tool = "model_layers" if what == "Model" else "layer"
        outputs = ["layers/"] if what == "Model" else ["layer", "descriptor"]
        params: dict[str, Any] = {"place": {"content": place}}
        if what in _OWN:
            params["not_secret"] = not_secret
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
    return inputs


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
            **_base_annotations(app.environment),
        },
        "created": created,
        "history": history,
        "ref": ref,
        "stop_signal": "SIGTERM",
        # The tool `layer` has judged each layer's content when it made it.
        "recheck": False,
    }


def _base_annotations(environment: EnvironmentInfo | None) -> dict[str, str]:
    if environment is None or environment.base is None:
        return {}
    image = environment.base.image
    return {f"{_TITLE}base.name": image.name.tagged, f"{_TITLE}base.digest": f"sha256:{image.digest}"}


def _sbom(context: Context, app: AppInfo, ref: str, digest: Artifact) -> Artifact:
    """Ask for the list of what the image is made of. It names the image's digest, and so cannot be in the image."""
    environment, runtime, own, config = app.environment, app.runtime, app.app, app.config
    assert context.platform is not None and environment is not None
    assert runtime is not None and own is not None and config is not None
    models: list[dict[str, str]] = []
    inputs = {"app": own, "config": config, "digest": digest, "runtime": runtime}
    model = app.model
    while model is not None and model.tree is not None:
        inputs[f"model.{len(models)}"] = model.tree
        models.append(_model(model))
        model = model.original
    wheels = [wheel for wheel in environment.built if wheel.file is not None]
    inputs |= {f"built.{number}": wheel.file for number, wheel in enumerate(wheels) if wheel.file is not None}
    own_locks = [app.deps_lock] if app.deps_lock is not None else []
    params: dict[str, Any] = {
        "name": context.label.package or context.label.name,
        "ref": ref,
        "target": str(context.label),
        "platform": context.platform.name,
        "arch": context.platform.arch,
        "packages": [row for lock in (*environment.locks, *own_locks) for row in _packages(lock)],
        "built": [_built(wheel) for wheel in wheels],
        "models": models,
        **_base_row(environment),
        "place": f"{_MODELS}/{app.model.name}" if app.model is not None else "",
        "runtime_place": _RUNTIME,
        "app_place": _APP,
        "config_place": _CONFIG,
    }
    trees = [tree for _, tree in environment.layers] + ([app.deps] if app.deps is not None else [])
    inputs |= {f"environment.{number:02}": tree for number, tree in enumerate(trees)}
    what = f"List what {context.label} is made of"
    (sbom,) = context.tool("sbom", params, inputs=inputs, outputs=["sbom"], mnemonic="Sbom", description=what)
    return sbom


def _base_row(environment: EnvironmentInfo) -> dict[str, list[dict[str, str]]]:
    if environment.base is None:
        return {}
    image = environment.base.image
    row = {"registry": image.name.registry, "repository": image.name.repository, "tag": image.name.tag}
    return {"bases": [{**row, "sha256": str(image.digest)}]}


def _packages(lock: Lock) -> list[dict[str, str]]:
    return [
        {
            "kind": lock.kind,
            "name": each.name,
            "version": each.version,
            "file": each.file,
            "sha256": each.digest.hash,
            "source": each.source,
            "suite": each.suite,
        }
        for each in lock.materials
    ]


def _model(model: ModelInfo) -> dict[str, str]:
    found = {"name": model.name, "format": model.format, "precision": model.precision}
    lock = model.lock
    source = lock.materials[0].source if lock is not None and lock.materials else ""
    fetched = {"repository": lock.repository, "revision": lock.revision} if lock is not None else {}
    return {**found, "source": source, "repository": "", "revision": "", **fetched}


def _built(wheel: WheelInfo) -> dict[str, str]:
    name, version, *_ = wheel.name.split("-")
    found = {"name": name, "version": version, "file": wheel.name, "sdist": "", "sdist_sha256": ""}
    if wheel.sdist is None:
        return found
    sdist = wheel.sdist
    own = {"name": sdist.name, "version": sdist.version, "sdist": sdist.file, "sdist_sha256": sdist.digest.hash}
    return {**found, **own}
