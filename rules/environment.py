"""`environment`: locked packages, a vendor's image, or both, become a root file system for one architecture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from forge.api import (
    Annotated,
    Artifact,
    Attributes,
    BaseInfo,
    Context,
    EnvironmentInfo,
    Field,
    ForExecution,
    ImageName,
    Lock,
    LockRequest,
    Material,
    Platform,
    TargetLabel,
    WheelInfo,
    check_compatibility,
    image_blob,
    image_document,
    model_validator,
    rule,
    with_byte_code,
)

_MOUNT_POINTS = ["dev", "proc", "run", "sys", "tmp", "var/tmp", "build"]


class Attrs(Attributes):
    """Attributes of `environment`."""

    base: TargetLabel | None = None
    """Environment that it adds to."""
    image: str = ""
    """Image of a registry that it adds to, in place of `base` and `debs`: `nvcr.io/nvidia/l4t-jetpack:r36.4.0`."""
    digest: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$")
    """What `image` must be, `sha256:…`; without it the lock pins what the registry has."""
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
    glibc: str = Field(default="2.36", pattern=r"^2\.[0-9]{1,3}$")
    """Version of the base's C library: Debian 12 has 2.36, Ubuntu 22.04 2.35, Ubuntu 24.04 2.39."""
    site: Literal["dist-packages", "site-packages"] = "dist-packages"
    """Where the base's interpreter looks for packages: `dist-packages` is Debian's and Ubuntu's."""
    byte_code: Annotated[TargetLabel | None, ForExecution()] = None
    """Environment with the same version of Python, which compiles the modules of this one and of its base."""
    busybox_applets: bool = False
    """Link busybox's applets into place."""

    @model_validator(mode="after")
    def _agrees(self) -> Attrs:
        """State contradictions, in words."""
        if self.image:
            if self.base or self.debs or self.exclude or self.busybox_applets:
                raise ValueError("`image` brings its own packages: it takes neither `base` nor `debs`")
            named = ImageName.parse(self.image).digest
            if self.digest and named and named != self.digest:
                raise ValueError(f"`image` and `digest` name two digests, {named} and {self.digest}")
        elif self.digest:
            raise ValueError("`digest` is for `image`")
        return self

    @property
    def name(self) -> ImageName:
        """The image, with the digest that is declared."""
        found = ImageName.parse(self.image)
        return replace(found, digest=self.digest or found.digest)


def lock_requests(name: str, platform: Platform | None, attrs: Any) -> tuple[LockRequest, ...]:
    """Say which locks an instance needs."""
    if platform is None:
        return ()
    requests = []
    if attrs.image:
        requests.append(LockRequest(f"{name}.{platform.arch}.image", "image", platform.arch, image=attrs.name))
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
                glibc=attrs.glibc,
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
    _agree(context, attrs, base)
    layers = list(base.layers)
    below = _pulled(context, attrs, locks["image"]) if "image" in locks else base.base
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
    compiler = context.dep(attrs.byte_code, EnvironmentInfo) if attrs.byte_code else None
    layers = [(what, with_byte_code(context, compiler, layer, "", what)) for what, layer in layers]
    trees = [below.root] if below else []
    trees += [layer for _, layer in layers]
    if not trees:
        raise context.error(f"`{context.label}` is empty", "Give it `debs`, `wheels`, an `image` or a `base`")
    tree = trees[0]
    if len(trees) > 1:
        tree = _root(context, trees, {"conflicts": "replace"}, "merged")
    arch = context.platform.arch
    made = (*base.locks, *locks.values()), (*base.built, *wheels)
    info = EnvironmentInfo({context.label.name: tree}, arch, tree, tuple(layers), *made, base=below)
    return replace(info, python=attrs.python, glibc=attrs.glibc, site=attrs.site, compiler=compiler)


def _agree(context: Context, attrs: Attrs, base: EnvironmentInfo) -> None:
    """Refuse wheels for another Python than the base's: nothing would find them, or they would not run."""
    for key in ("python", "glibc", "site") if attrs.wheels or attrs.built else ():
        own, needed = getattr(attrs, key), getattr(base, key)
        if needed and own != needed:
            text = f"`{context.label}` is for {key} {own}, its base `{attrs.base}` has {needed}"
            raise context.error(text, f'Write `{key} = "{needed}"`')


def _pulled(context: Context, attrs: Attrs, lock: Lock) -> BaseInfo:
    """Ask for the image: its manifest, what lies below that, and the file system of it."""
    image = lock.image
    assert image is not None and image.digest is not None
    name = image.name
    inputs = {"pinned": context.fetch(image_document(image, image.digest))}
    if image.manifest is not None and image.manifest.digest.hash != image.digest.hash:
        inputs["manifest"] = context.fetch(image_document(image, image.manifest.digest))
    for number, blob in enumerate(image.blobs()):
        inputs[f"blob.{number:03}"] = context.fetch(image_blob(image, blob.digest))
    about = {"registry": name.registry, "repository": name.repository, "tag": name.tag, "arch": lock.arch}
    (layout,) = context.tool("pull", about, inputs=inputs, outputs=["layout/"], description=f"Pull {name.tagged}")
    what = f"Flatten {name.tagged}"
    (flat,) = context.tool("flatten", {}, inputs={"layout": layout}, outputs=["tree/"], description=what)
    root = _root(context, [flat], {"mount_points": _MOUNT_POINTS}, "image")
    return BaseInfo(image, layout, root)


def _unpacked(context: Context, material: Material, kind: str, attrs: Attrs) -> Artifact:
    return _tree(context, context.fetch(material), material.file, kind, attrs)


def _tree(context: Context, file: Artifact, name: str, kind: str, attrs: Attrs) -> Artifact:
    params = {"format": kind, "name": name, **_layout(kind, attrs)}
    (tree,) = context.tool("unpack", params, inputs={"file": file}, outputs=["tree/"], description=f"Unpack {name}")
    return tree


def _layout(kind: str, attrs: Attrs) -> dict[str, str]:
    """Say where a wheel goes; what all have goes without saying, so that keys stay as they are."""
    if kind != "wheel":
        return {}
    return {"python": attrs.python, **({"site": attrs.site} if attrs.site != "dist-packages" else {})}


def _root(context: Context, trees: list[Artifact], params: dict[str, Any], what: str) -> Artifact:
    (tree,) = context.tool(
        "root",
        {**params, "name": f"{context.label} ({what})"},
        inputs={f"{number:04}": tree for number, tree in enumerate(trees)},
        outputs=["tree/"],
        description=f"Merge {what} {context.label}",
    )
    return tree
