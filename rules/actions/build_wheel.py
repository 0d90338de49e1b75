"""Builds a wheel from an sdist by its PEP 517 backend, the same bytes every time; runs in a sandbox, without pip.

The sources lie at a fixed path, compilers are told to forget it, and the archive that the backend wrote is
written anew: sorted, fixed times, fixed modes, RECORD to match.
"""

from __future__ import annotations

import argparse
import base64
import csv
import fnmatch
import hashlib
import importlib
import io
import json
import os
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

SOURCE = Path("/tmp/source")
EPOCH = (2000, 1, 1, 0, 0, 0)


def main() -> None:
    """Unpack, build, write anew."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sdist", required=True)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--settings", default="{}", help="config settings of the backend, JSON")
    parser.add_argument("--exclude", action="append", default=[], help="files to leave out of the wheel, a glob")
    parser.add_argument("--tag", default="", help="platform tag that the wheel must have")
    args = parser.parse_args()
    out: Path = args.out.absolute()
    source = unpack(args.sdist)
    os.chdir(source)
    prefix = f"-ffile-prefix-map={SOURCE}=. -Wno-builtin-macro-redefined"
    for name in ("CFLAGS", "CXXFLAGS"):
        os.environ[name] = f"{os.environ.get(name, '')} {prefix}".strip()
    system = tomllib.loads((source / "pyproject.toml").read_text())["build-system"]
    sys.path[:0] = [str(source / each) for each in system.get("backend-path", [])]
    backend = importlib.import_module(system["build-backend"].partition(":")[0])
    folder = Path("/tmp/wheel")
    folder.mkdir()
    name = backend.build_wheel(str(folder), json.loads(args.settings))
    rewrite(folder / name, out, args.exclude, args.tag)
    print(f"{name}: {out.stat().st_size} bytes")


def unpack(sdist: str) -> Path:
    """Unpack the one folder of an sdist to SOURCE."""
    with tarfile.open(sdist) as archive:
        archive.extractall("/tmp/unpacked")  # a hostile path finds nothing to overwrite in the sandbox
    (inner,) = Path("/tmp/unpacked").iterdir()
    inner.rename(SOURCE)
    return SOURCE


def rewrite(built: Path, out: Path, exclude: list[str], tag: str) -> None:
    """Write a wheel's files into a new archive, in a fixed order and with nothing of the moment in it."""
    with zipfile.ZipFile(built) as archive:
        modes = {each.filename: each.external_attr >> 16 for each in archive.infolist() if not each.is_dir()}
        files = {name: archive.read(name) for name in modes if not any(fnmatch.fnmatch(name, each) for each in exclude)}
    record = next(name for name in files if name.endswith(".dist-info/RECORD"))
    wheel = next(name for name in files if name.endswith(".dist-info/WHEEL"))
    if tag:
        lines = files[wheel].decode().splitlines()
        kept = [line if not line.startswith("Tag: ") else f"Tag: {line[5:].rpartition('-')[0]}-{tag}" for line in lines]
        files[wheel] = ("\n".join(kept) + "\n").encode()
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    for name in sorted(files):
        if name != record:
            digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
            writer.writerow([name, f"sha256={digest}", len(files[name])])
    writer.writerow([record, "", ""])
    files[record] = table.getvalue().encode()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(files, key=lambda each: (".dist-info/" in each, each)):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = (0o100755 if modes[name] & 0o100 else 0o100644) << 16
            info.compress_type = zipfile.ZIP_STORED  # what compresses differs between builds of zlib
            archive.writestr(info, files[name])


main()
