"""Locks Python packages for arm64, wherever it runs: argv is the index, a folder to write in, the requirements."""

from __future__ import annotations

import platform
import sys

from forge.core.lock_text import render
from forge.packages.lock_python import PythonRequest, lock_python
from forge.packages.sources import Sources
from forge.packages.target_python import PythonTarget


def main(index: str, folder: str, *requirements: str) -> None:
    """Write the lock to standard output, and the machine's name to standard error."""
    environ = {"HOME": folder, "TMPDIR": folder, "UV_CACHE_DIR": f"{folder}/cache", "PIP_INDEX_URL": index}
    lock = lock_python(PythonRequest(requirements, PythonTarget("arm64")), Sources.read({}, environ))
    sys.stdout.write(render(lock))
    sys.stderr.write(platform.machine())


if __name__ == "__main__":
    main(*sys.argv[1:])
