"""Pictures out of the bytes of a request: one, or a zip of them, within limits.

A few kilobytes can say that they are gigabytes, as an archive or as a picture: what they say is judged before
anything is unpacked, and no more is unpacked than they said.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image  # type: ignore[import-not-found, unused-ignore]

from forge_runtime.error import RequestError

__all__ = ["Limits", "decode_picture", "split_body"]

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
"""What is decoded; Pillow knows fifty more, and some start other programs."""
SINGLE = "image"
"""Name of a picture that came without one."""
MAX_NAME = 1024
RATIO_FREE = 2**16
"""An entry up to so many bytes may shrink as much as it will."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may bring."""

    entries: int = 1024
    entry_bytes: int = 32 * 2**20
    total_bytes: int = 128 * 2**20
    ratio: int = 200
    """Of unpacked to packed bytes of an entry."""
    pixels: int = 32 * 2**20
    """Of one picture."""
    total_pixels: int = 256 * 2**20
    """Of all pictures of a request: a few bytes may hold very many."""


def split_body(body: bytes, limits: Limits) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each picture."""
    if not body:
        raise RequestError("Expected a picture, or a zip of pictures; the body is empty", code="empty_body")
    if not zipfile.is_zipfile(io.BytesIO(body)) and body[:2] != b"PK":
        yield SINGLE, body
        return
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            entries = _entries(archive, limits)
            for name, entry in zip(_labels(entries), entries, strict=True):
                yield name, _read(archive, entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise _bad_zip(f"The zip cannot be read: {' '.join(str(error).split())[:120]}") from error


def decode_picture(name: str, data: bytes, size: tuple[int, int], limits: Limits) -> tuple[NDArray[np.uint8], int]:
    """Decode to RGB of a width and height: an array (height, width, 3), and how many pixels the picture had."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > limits.pixels:
                raise Image.DecompressionBombError
            count = picture.width * picture.height
            rgb = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    except Image.DecompressionBombError as error:  # Pillow raises it too, for what is larger still
        text = f"{name[:80]!a} has more than {limits.pixels} pixels"
        raise RequestError(text, status=413, param=name[:80], code="picture_too_large") from error
    except Exception as error:  # whatever a decoder makes of bytes that are none of its format
        raise RequestError(
            f"{name[:80]!a} is no whole picture in one of [{', '.join(FORMATS)}]", param=name[:80], code="not_a_picture"
        ) from error
    array: NDArray[Any] = np.asarray(rgb, dtype=np.uint8)
    return array, count


def _entries(archive: zipfile.ZipFile, limits: Limits) -> list[zipfile.ZipInfo]:
    found = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_litter(entry.filename)]
    if not found:
        raise _bad_zip("The zip holds no picture", code="empty_zip")
    if len(archive.infolist()) > limits.entries:
        raise _too_large(f"The zip has {len(archive.infolist())} entries, at most {limits.entries} are read")
    if sum(entry.file_size for entry in found) > limits.total_bytes:
        raise _too_large(f"The zip unpacks to more than {limits.total_bytes} bytes")
    for entry in found:
        _check(entry, limits)
    return found


def _check(entry: zipfile.ZipInfo, limits: Limits) -> None:
    name = repr(entry.filename[:80])
    if entry.file_size > limits.entry_bytes:
        raise _too_large(f"{name} unpacks to {entry.file_size} bytes, at most {limits.entry_bytes} are read")
    if entry.file_size > max(RATIO_FREE, limits.ratio * entry.compress_size):
        raise _too_large(f"{name} unpacks to more than {limits.ratio} times its size")
    if entry.flag_bits & 1:
        raise _bad_zip(f"{name} is encrypted")
    if entry.compress_type not in METHODS:
        raise _bad_zip(f"{name} is neither stored nor deflated")
    if len(entry.filename) > MAX_NAME:
        raise _bad_zip("A name is too long")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    # zipfile stops at the declared size and checks the sum; is the entry shorter, that fails.
    return archive.read(entry)


def _labels(entries: list[zipfile.ZipInfo]) -> list[str]:
    """Name each entry; without the folder, where one holds them all. Names are labels, never paths."""
    names = [entry.filename for entry in entries]
    folders = {name.partition("/")[0] if "/" in name else None for name in names}
    if len(folders) == 1 and None not in folders:
        names = [name.partition("/")[2] for name in names]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise _bad_zip(f"{twice[:80]!a} is in the zip twice")
    return names


def _is_litter(name: str) -> bool:
    """Say whether it is what a desktop adds to an archive."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2] in (".DS_Store", "Thumbs.db", "desktop.ini")


def _bad_zip(message: str, code: str = "bad_zip") -> RequestError:
    return RequestError(message, code=code)


def _too_large(message: str) -> RequestError:
    return RequestError(message, status=413, code="zip_too_large")
