"""`index`: one name for the images of several architectures; whoever pulls it gets the one for the machine at hand."""

from __future__ import annotations

from fnmatch import fnmatchcase

from forge.api import (
    Attributes,
    Context,
    Field,
    ImageInfo,
    IndexInfo,
    Platform,
    TargetLabel,
    image_reference,
    rule,
)

_TITLE = "org.opencontainers.image."


class Attrs(Attributes):
    """Attributes of `index`."""

    images: tuple[TargetLabel, ...] = Field(min_length=1)
    """Images, one of each architecture; a label of several instances gives all that `only` selects."""
    only: tuple[str, ...] = ("*",)
    """Globs of platforms; `!` before one takes away."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """More annotations of the index."""


@rule("index", Attrs)
def analyze(context: Context, attrs: Attrs) -> IndexInfo:
    """Refuse what one machine could not choose from, and ask for the index."""
    images = [
        (platform, image)
        for label in attrs.images
        for image in context.deps(label, ImageInfo)
        if (platform := image.platform) is not None and _selected(attrs.only, platform.name)
    ]
    if not images:
        raise context.error(f"`only` of `{context.label}` leaves none of its images: [{', '.join(attrs.only)}]")
    images = list({platform.name: (platform, image) for platform, image in images}.values())
    _refuse_two_of_one(context, [platform for platform, _ in images])
    ref = image_reference(context)
    layout, digest = context.tool(
        "index",
        {
            "annotations": {
                f"{_TITLE}title": context.label.package or context.label.name,
                f"{_TITLE}created": context.settings["created"],
                f"{_TITLE}ref.name": ref,
                "io.forge.target": str(context.label),
                **dict(sorted(attrs.annotations.items())),
            },
            "platforms": [platform.name for platform, _ in images],
            "ref": ref,
        },
        inputs={f"layout.{number}": image.layout for number, (_, image) in enumerate(images) if image.layout},
        outputs=["layout/", "digest"],
        description=f"Index {context.label}",
    )
    return IndexInfo({context.label.name: layout}, layout, digest, tuple(image for _, image in images), ref)


def _refuse_two_of_one(context: Context, platforms: list[Platform]) -> None:
    """A machine looks for its architecture and takes the first entry: a second one would never be run."""
    known: dict[str, Platform] = {}
    for platform in platforms:
        other = known.setdefault(platform.arch, platform)
        if other is platform:
            continue
        boards, servers = [
            [each for each in (other, platform) if bool(each.jetpack) is is_board] for is_board in (True, False)
        ]
        if boards and servers:
            text = (
                f"`{boards[0].name}` is for a Jetson (JetPack {boards[0].jetpack}) and `{servers[0].name}` for any "
                f"{platform.arch} machine: in `{context.label}` they would be one entry"
            )
            raise context.error(text, "Give the Jetson an index of its own")
        text = (
            f"`{other.name}` and `{platform.name}` are both for {platform.arch}: `{context.label}` has one entry for it"
        )
        raise context.error(text, 'Choose by `only`, such as `only = ["*_llama"]`, or name the images')


def _selected(globs: tuple[str, ...], name: str) -> bool:
    found = False
    for glob in globs:
        if fnmatchcase(name, glob.removeprefix("!")):
            found = not glob.startswith("!")
    return found
