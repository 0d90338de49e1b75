"""forge's own wheel, packed from the forge that runs: what another workspace installs, by its digest.

Entries are sorted, stored and of a fixed time, so that the same forge gives the same bytes on every machine.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from forge import __version__
from forge.core.errors import HostError

NAME = "forge-build"
FILE = f"forge_build-{__version__}-py3-none-any.whl"

_PACKAGE = Path(__file__).resolve().parents[1]
_BUILTIN = "forge/builtin"
_INFO = f"forge_build-{__version__}.dist-info"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_FOLDERS = ("rules", "toolchains", "runtime/forge_client", "runtime/forge_runtime")
"""What forge brings along beside its own package."""
_FILES = ("forgew", "requirements/environment.sh", "requirements/forge.lock", "LICENSE")
"""What it gives to the workspaces that it makes."""


def brought(name: str) -> Path:
    """Find a file that forge brings along: beside its package in a checkout, inside it when installed."""
    for folder in (_PACKAGE / "builtin", _PACKAGE.parent):
        if (folder / name).exists():
            return folder / name
    raise HostError(f"This forge lacks its own `{name}`", hint="Install it from a wheel, or run it from a checkout")


def pack() -> bytes:
    """Write the wheel."""
    contents = dict(_contents())
    contents |= {f"{_INFO}/{name}": text.encode() for name, text in _metadata().items()}
    record = "".join(f"{name},{_hashed(data)},{len(data)}\n" for name, data in sorted(contents.items()))
    contents[f"{_INFO}/RECORD"] = f"{record}{_INFO}/RECORD,,\n".encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        # The record last, as the specification of wheels recommends.
        for name, data in sorted(contents.items(), key=lambda item: (item[0].endswith("/RECORD"), item[0])):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return out.getvalue()


def _contents() -> Iterator[tuple[str, bytes]]:
    yield from _below(_PACKAGE, "forge", skip="builtin")
    for folder in _FOLDERS:
        yield from _below(brought(folder), f"{_BUILTIN}/{folder}")
        if folder.startswith("runtime/"):  # `forge bench` imports its client
            yield from _below(brought(folder), folder.removeprefix("runtime/"))
    for file in _FILES:
        yield f"{_BUILTIN}/{file}", brought(file).read_bytes()


def _below(folder: Path, name: str, skip: str = "") -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.iterdir()):
        if path.name in ("__pycache__", skip) or path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _below(path, f"{name}/{path.name}")
        elif path.suffix != ".pyc":
            yield f"{name}/{path.name}", path.read_bytes()


def _metadata() -> dict[str, str]:
    lock = brought("requirements/forge.lock").read_text(encoding="utf-8")
    pins = [line.rstrip(" \\") for line in lock.splitlines() if line[:1].isalnum()]
    head = ["Metadata-Version: 2.4", f"Name: {NAME}", f"Version: {__version__}", "Requires-Python: >=3.11"]
    head += ["Summary: A hermetic build system for machine-learning inference images", "License-Expression: Apache-2.0"]
    return {
        "METADATA": "\n".join([*head, *(f"Requires-Dist: {pin}" for pin in pins)]) + "\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: forge\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": "[console_scripts]\nforge = forge.cli.main:main\n",
    }


def _hashed(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
