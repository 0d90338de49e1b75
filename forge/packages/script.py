"""The programs that a wheel brings: entry points and files of its `scripts` folder.

https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import configparser
import re

from forge.packages.archive import ArchiveError

INTERPRETER = "/usr/bin/python3"

_GROUPS = ("console_scripts", "gui_scripts")
_NAME = re.compile(r"[\w.-]+")
_REFERENCE = re.compile(r"(?P<module>\w+(\.\w+)*)\s*:\s*(?P<attribute>\w+(\.\w+)*)\s*(\[.*\])?")
_SHEBANG = re.compile(rb"\A#!pythonw?(?=[ \t\r\n]|$)")

_TEMPLATE = """\
#!{interpreter}
import sys

from {module} import {name}

if __name__ == "__main__":
    sys.exit({attribute}())
"""


def entry_points(text: str) -> dict[str, bytes]:
    """Write a program for each script that an `entry_points.txt` declares."""
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False, default_section="")
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ArchiveError(f"entry_points.txt cannot be read: {error.message}") from error
    scripts: dict[str, bytes] = {}
    for group in _GROUPS:
        for name, value in parser.items(group) if parser.has_section(group) else ():
            scripts[name] = _program(name, value.strip())
    return scripts


def first_line(data: bytes) -> bytes:
    """Name the interpreter outright where a script's first line is `#!python`."""
    return _SHEBANG.sub(f"#!{INTERPRETER}".encode(), data)


def _program(name: str, reference: str) -> bytes:
    match = _REFERENCE.fullmatch(reference)
    if match is None or not _NAME.fullmatch(name) or name.strip(".") == "":
        raise ArchiveError(f"`{name} = {reference}` is no entry point")
    attribute = match["attribute"]
    first = attribute.partition(".")[0]
    return _TEMPLATE.format(interpreter=INTERPRETER, module=match["module"], name=first, attribute=attribute).encode()
