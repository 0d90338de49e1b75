"""`environment`: locked packages become a root file system, for one architecture."""

from __future__ import annotations

from typing import Any

from forge.api import (
    Artifact,
    Attributes,
    Context,
    EnvironmentInfo,
    Field,
    LockRequest,
    Material,
    Platform,
    TargetLabel,
    WheelInfo,
    check_compatibility,
    rule,
)

_MOUNT_POINTS = ["dev", "proc", "run", "sys", "tmp", "var/tmp", "build"]


class Attrs(Attributes):
    """Attributes of `environment`."""

    base: TargetLabel | None = None
    """Environment that it adds to."""
    debs: tuple[str, ...] = ()
    """Debian packages; what they depend on comes along."""
    exclude: tuple[str, ...] = ()
    """Packages to cut from what comes along: those that only maintainer scripts need."""
    wheels: tuple[str, ...] = ()
    """Python requirements."""
    exclude_wheels: tuple[str, ...] = ()
    """Python packages to leave out though something requires them: a base has them, or nothing here runs them."""
    sources: dict[str, str] = Field(default_factory=dict)
    """Python packages that come from a source of their own, by its id, and from nowhere else."""
    built: tuple[TargetLabel, ...] = ()
    """Wheels that are built from source, `wheel` targets."""
    python: str = "3.11"
    """Version of the base's interpreter."""
    busybox_applets: bool = False
    """Link busybox's applets into place."""


def lock_requests(name: str, platform: Platform | None, attrs: Any) -> tuple[LockRequest, ...]:
    """Say which locks an instance needs."""
    if platform is None:
        return ()
    requests = []
    if attrs.debs:
        lock = f"{name}.{platform.arch}.deb"
        requests.append(LockRequest(lock, "deb", platform.arch, attrs.debs, attrs.exclude))
    if attrs.wheels or attrs.sources:
        # A platform's own environment has its name; another one of the same platform needs a lock of its own.
        lock = f"{name}.python" if name == platform.name else f"{name}.{platform.name}.python"
        requests.append(
            LockRequest(
                lock,
                "python",
                platform.arch,
                attrs.wheels,
                attrs.exclude_wheels,
                python=attrs.python,
                sources=tuple(sorted(attrs.sources.items())),
            )
        )
    return tuple(requests)


@rule("environment", Attrs, locks=lock_requests)
def analyze(context: Context, attrs: Attrs) -> EnvironmentInfo:
    """Ask for each package to be fetched and unpacked, and for the trees to be merged."""
    if context.platform is None:
        raise context.error(f"`{context.label}` needs `platforms`", 'Such as `platforms = ["amd64", "arm64"]`')
    locks = {request.kind: context.lock(request) for request in context.target.lock_requests}
    check_compatibility(context, locks.values())
    base = context.dep(attrs.base, EnvironmentInfo) if attrs.base else EnvironmentInfo()
    layers = list(base.layers)
    if "deb" in locks:
        packages = [_unpacked(context, each, "deb", attrs) for each in locks["deb"].materials]
        params = {"conflicts": "refuse", "synthesize": True, "busybox_applets": attrs.busybox_applets}
        layers.append(("Debian packages", _root(context, packages, {**params, "mount_points": _MOUNT_POINTS}, "deb")))
    if "python" in locks:
        packages = [_unpacked(context, each, "wheel", attrs) for each in locks["python"].materials]
        layers.append(("Python packages", _root(context, packages, {"conflicts": "replace"}, "python")))
    wheels = tuple(each for label in attrs.built for each in context.deps(label, WheelInfo))
    if wheels:
        packages = [_tree(context, wheel.file, wheel.name, "wheel", attrs) for wheel in wheels if wheel.file]
        layers.append(("Built packages", _root(context, packages, {"conflicts": "replace"}, "built")))
    if not layers:
        raise context.error(f"`{context.label}` is empty", "Give it `debs`, `wheels` or a `base`")
    tree = layers[0][1]
    if len(layers) > 1:
        tree = _root(context, [layer for _, layer in layers], {"conflicts": "replace"}, "merged")
    arch = context.platform.arch
    made = (*base.locks, *locks.values()), (*base.built, *wheels)
    return EnvironmentInfo({context.label.name: tree}, arch, tree, tuple(layers), *made)


def _unpacked(context: Context, material: Material, kind: str, attrs: Attrs) -> Artifact:
    return _tree(context, context.fetch(material), material.file, kind, attrs)


def _tree(context: Context, file: Artifact, name: str, kind: str, attrs: Attrs) -> Artifact:
    params = {"format": kind, "name": name, **({"python": attrs.python} if kind == "wheel" else {})}
    (tree,) = context.tool("unpack", params, inputs={"file": file}, outputs=["tree/"], description=f"Unpack {name}")
    return tree


def _root(context: Context, trees: list[Artifact], params: dict[str, Any], what: str) -> Artifact:
    (tree,) = context.tool(
        "root",
        {**params, "name": f"{context.label} ({what})"},
        inputs={f"{number:04}": tree for number, tree in enumerate(trees)},
        outputs=["tree/"],
        description=f"Merge {what} {context.label}",
    )
    return tree
