"""What people put into an image and should not: secrets in files, configuration and history; set-user-id programs.

Looked at is what people put into an image themselves. Packages are others' and are in locks by digest; their
documentation is full of examples that look like logins. Weights are binary, and larger than what is read.
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Collection, Mapping
from typing import BinaryIO, Final, cast

from forge.core.blob import BlobStore
from forge.core.secret import is_excepted, is_secret_file, secret_in
from forge.core.tool import Json
from forge.core.tree import Entry, File
from forge.oci.check import Check
from forge.oci.mediatype import Compression
from forge.oci.reader import CHUNK, LayerReader
from forge.oci.scan import WHITEOUT

LARGEST: Final = CHUNK
"""Bytes of a file that is read; keys and settings are smaller."""

_AS_OWNER: Final = stat.S_ISUID | stat.S_ISGID
_HINT: Final = "Images are shared: give it when the container runs, or name the file in `not_secret` if it is none"


def check_entries(check: Check, entries: Mapping[str, Entry], store: BlobStore, excepted: Collection[str]) -> None:
    """Look through files before they become a layer."""
    for path, entry in entries.items():
        if isinstance(entry, File) and not is_excepted(path, excepted):
            _check_file(check, path, store.read(entry.digest) if entry.digest.size <= LARGEST else b"")


def check_layer(
    check: Check,
    blob: BinaryIO,
    compression: Compression,
    excepted: Collection[str],
    setuid: Collection[str] = (),
) -> None:
    """Look through a layer that somebody else's steps made; the validator has read it.

    Other than forge's own layers it may have programs that act as their owner; `setuid` are those that shall.
    """
    file = cast("BinaryIO", LayerReader(blob, compression))
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        while member := archive.next():
            archive.members.clear()  # type: ignore[attr-defined]
            path = member.name.removeprefix("./")
            if member.isreg() and member.mode & _AS_OWNER and f"/{path}" not in setuid:
                hint = "Take that from it in the same step (`chmod a-s`), or name the program in `setuid`"
                check.fault(f"`/{_shown(path)}` acts as its owner, whoever runs it", hint)
            if not member.isreg() or path.rpartition("/")[2].startswith(WHITEOUT) or is_excepted(path, excepted):
                continue
            content = archive.extractfile(member) if member.size <= LARGEST else None
            _check_file(check, _shown(path), content.read() if content else b"")


def check_texts(check: Check, value: Json, what: str) -> None:
    """Look through a document: variables, labels, commands, and the history with the arguments of a build."""
    if isinstance(value, str) and (kind := secret_in(value)):
        check.fault(
            f"`{what}` looks as if it held {kind}", "Mount secrets when the image is built, give them when it runs"
        )
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        check_texts(check, inner, f"{what}.{key}")


def _shown(path: str) -> str:
    return path.encode(errors="backslashreplace").decode()


def _check_file(check: Check, path: str, data: bytes) -> None:
    if is_secret_file(path):
        check.fault(f"`{path}` is where secrets are kept", _HINT)
    elif b"\0" not in data and (kind := secret_in(data.decode(errors="replace"))):
        check.fault(f"`{path}` looks as if it held {kind}", _HINT)
