"""Random trees for Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from forge.core.digest import Digest
from forge.core.tree import Entry, File, Folder, Symlink

NAMES = ("a", "b", "c", "a.b", "\u00e9", "\U0001f600", "n" * 60, "m" * 101, "tmp")
CONTENTS = (b"", b"x", b"y" * 511, b"z" * 512, b"w" * 513)
CONTENT = {Digest.of(data): data for data in CONTENTS}

_file = st.builds(File, st.sampled_from(sorted(CONTENT)), st.booleans())
_link = st.builds(Symlink, st.sampled_from(("a", "../b", "/c", "\u00fc", "t" * 130)))
_leaf: st.SearchStrategy[Entry] = st.one_of(_file, _link, st.just(Folder()))


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Entry]:
    """Draw entries that can stand in one tree."""
    found: dict[str, Entry] = {}
    paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(tuple)
    for parts, entry in draw(st.dictionaries(paths, _leaf, max_size=8)).items():
        path = "/".join(parts)
        parents = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        taken = any(isinstance(found.get(parent), File | Symlink) for parent in parents)
        below = any(other.startswith(f"{path}/") for other in found)
        if not taken and (not below or isinstance(entry, Folder)):
            found[path] = entry
    return found
