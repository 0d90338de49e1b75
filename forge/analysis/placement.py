"""Files of a package, and the places that they get in an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from forge.analysis.context import Context
from forge.core.artifact import Artifact, Placement
from forge.core.secret import is_excepted, is_secret_file


def place_files(
    context: Context, placements: Iterable[Placement], not_secret: Sequence[str] = ()
) -> dict[str, Artifact]:
    """Say where files go; AnalysisError for two in one place, and for a file in which secrets are kept."""
    found: dict[str, Artifact] = {}
    for each in placements:
        for source in each.sources:
            path = context.below(source)
            if is_secret_file(path) and not is_excepted(path, not_secret):
                hint = "Images are shared: give secrets when the container runs"
                raise context.error(f"`{path}` of `{context.label}` is where secrets are kept", hint)
            place = _place(each, path)
            if found.setdefault(place, source) != source:
                raise context.error(f"`{path}` and another file of `{context.label}` both go to `{place}`")
    return found


def _place(placement: Placement, path: str) -> str:
    if not placement.to or (placement.is_file and not placement.to.endswith("/")):
        return placement.to or path
    folder = path.rpartition("/")[0] if placement.is_file else placement.folder
    below = path.removeprefix(f"{folder}/" if folder else "")
    return f"{placement.to.rstrip('/')}/{below}".removeprefix("./")
