"""A program `docker` that notes how it was called, and builds by copying a layout that was laid ready."""

from __future__ import annotations

import sys
from pathlib import Path

SCRIPT = """\
#!{python}
import csv, json, os, pathlib, shutil, sys
here = pathlib.Path({folder!r})
words = sys.argv[1:]
with (here / "calls").open("a") as calls:
    print(json.dumps(words), file=calls)
if words[:2] == ["buildx", "version"]:
    print("github.com/docker/buildx v0.30.1 abc")
elif words[:2] == ["buildx", "inspect"]:
    if not (here / "builder").exists():
        sys.exit(1)
    print((here / "builder").read_text())
elif words[:2] == ["buildx", "create"]:
    (here / "builder").write_text("Name: made")
elif words[:1] == ["version"]:
    print("28.0.1")
else:
    if (here / "fail").exists():
        print((here / "fail").read_text(), file=sys.stderr)
        sys.exit(1)
    words = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word)
    (here / "dockerfile").write_text(pathlib.Path(words["file"]).read_text())
    fields = next(csv.reader([words["output"]]))
    out = next(field.removeprefix("dest=") for field in fields if field.startswith("dest="))
    shutil.copytree(here / "layout", out)
    print("token is", os.environ.get("TOKEN"), file=sys.stderr)
"""


def install(folder: Path) -> Path:
    """Write the program; the folder to put on PATH."""
    program = folder / "bin/docker"
    program.parent.mkdir(parents=True)
    program.write_text(SCRIPT.format(python=sys.executable, folder=str(folder)))
    program.chmod(0o755)
    return program.parent
