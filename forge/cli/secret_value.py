"""Values of secrets, for the one process that needs them: in no key, log, image or list of arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from forge.core.errors import HostError, UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def secret_values(declared: Iterable[str], given: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Find the value of each secret: that of `NAME=VALUE` or `NAME=@FILE`, else of the environment.

    There it is `NAME`, or the path of a file that holds it as `NAME_FILE`, as for the rule `dockerfile`. HostError for
    one that is not there, UsageError for one that cannot be.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not _NAME.fullmatch(name) or name in found:
            # Not the text: it may hold the value.
            raise UsageError(
                f"`--secret {name}` is no name, or is given twice", hint="Write NAME, NAME=@FILE or =VALUE"
            )
        if not equals:
            found[name] = _of_environment(name, environ)
        else:
            found[name] = _read(name, value[1:]) if value.startswith("@") else value
    for name in declared:
        if name not in found:
            found[name] = _of_environment(name, environ)
    for name, value in found.items():
        if "\0" in value:
            raise UsageError(f"The secret `{name}` holds a NUL character, which no variable can")
    return found


def _of_environment(name: str, environ: Mapping[str, str]) -> str:
    if name in environ:
        return environ[name]
    if path := environ.get(f"{name}_FILE"):
        return _read(name, path)
    hint = f"Set it in the environment, or its file as `{name}_FILE`, or give `--secret {name}=@FILE`"
    raise HostError(f"The secret `{name}` is not there", hint=hint)


def _read(name: str, path: str) -> str:
    try:
        # The line break at its end is the editor's.
        return Path(path).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise HostError(f"The secret `{name}` cannot be read from `{path}`: {why}") from error
