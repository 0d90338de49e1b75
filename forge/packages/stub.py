"""Stubs: wheels that hold a name and nothing else.

Owners of a package that is really somewhere else, or not released, put such a file on a public index. A resolver takes
it like any other, and the fault shows when a service starts.
"""

from __future__ import annotations

import io
import zipfile

_MAX_SIZE = 16 << 10
"""Larger wheels hold something; smaller ones are cheap to look at."""


def may_be_stub(size: int) -> bool:
    """Say whether a wheel of `size` bytes is worth a look."""
    return size <= _MAX_SIZE


def is_stub(wheel: bytes) -> bool:
    """Say whether a wheel has no file but its own metadata, and requires nothing, as a package of packages does."""
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            names = [each for each in archive.namelist() if not each.endswith("/")]
            if any(not each.partition("/")[0].endswith(".dist-info") for each in names):
                return False
            texts = [archive.read(each) for each in names if each.endswith(".dist-info/METADATA")]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError):
        return False  # the unpacker will say more of what is wrong with it
    return not any(b"\nRequires-Dist:" in each for each in texts)
