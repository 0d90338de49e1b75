"""Compiles the Python modules of a tree, the same bytes every time; runs in a sandbox, by the Python that imports them.

What is compiled never looks at its source again (PEP 552, unchecked), so no time of a file and no clock counts. How
often `marshal` meets an object is in its bytes: each group of files begins in a process that is as the others were.
"""

from __future__ import annotations

import importlib.util
import os
import py_compile
import sys
import traceback
from pathlib import Path

GROUP = 64
"""Files for one process; how many there are at a time says the machine, and it does not show in the bytes."""


def main() -> None:
    """Compile `tree/` into `out/tree/`, as if it lay at the place that is given."""
    place = sys.argv[1].rstrip("/")
    source, out = Path("tree"), Path("out/tree")
    files = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.py") if is_module(path))
    running: set[int] = set()
    failed = False
    for start in range(0, len(files), GROUP):
        if len(running) >= len(os.sched_getaffinity(0)):
            pid, status = os.wait()
            running.remove(pid)
            failed |= status != 0
        child = os.fork()
        if not child:
            compile_group(source, out, place, files[start : start + GROUP])
        running.add(child)
    for _ in running:
        failed |= os.wait()[1] != 0
    sys.exit(failed)


def is_module(path: Path) -> bool:
    """Say whether it is a file of its own: what a link leads to is compiled where it is."""
    return path.is_file() and not path.is_symlink()


def compile_group(source: Path, out: Path, place: str, files: list[str]) -> None:
    """Compile files, and end the process; what is no valid Python, such as a template, is left out, as pip does."""
    status = 1
    try:
        for file in files:
            made = out / importlib.util.cache_from_source(file)
            made.parent.mkdir(parents=True, exist_ok=True)
            try:
                py_compile.compile(
                    str(source / file),
                    cfile=str(made),
                    dfile=f"{place}/{file}",
                    doraise=True,
                    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                )
            except (py_compile.PyCompileError, SyntaxError, ValueError, RecursionError, UnicodeDecodeError):
                continue
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
