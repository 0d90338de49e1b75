"""What stops a conversion with one line instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable


class BadFile(ValueError):
    """A file is not what its name says, or breaks a limit."""


class Unsupported(ValueError):
    """A model that is whole, and that this converter does not know."""


def run(main: Callable[[], None]) -> None:
    """Run a script; what is wrong with its input is a line on stderr and exit code 1."""
    try:
        main()
    except (BadFile, Unsupported) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
