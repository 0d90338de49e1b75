"""Lock files: beside the file that declares what they lock, or in the folder `locks` there."""

from __future__ import annotations

from collections.abc import Iterable

from forge.core.errors import LoadError
from forge.core.lock import Lock, LockRequest
from forge.core.lock_text import LockError, parse
from forge.loading.reader import Reader
from forge.loading.table import TomlFile, parse_toml


class LockFiles:
    """Reads lock files, each once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._locks: dict[str, Lock | None] = {}

    def read(self, declaring: TomlFile, requests: Iterable[LockRequest]) -> dict[str, Lock]:
        """Take those of the requested locks that exist, by name; LoadError when one cannot be read."""
        found: dict[str, Lock] = {}
        for request in requests:
            key = str(declaring.folder / request.file)
            if key not in self._locks:
                self._locks[key] = self._parse(declaring, request.file)
            lock = self._locks[key]
            if lock is not None:
                found[request.name] = lock
        return found

    def _parse(self, declaring: TomlFile, file: str) -> Lock | None:
        path = declaring.folder / file
        content = self._reader.read(path)
        if content is None:
            return None
        shown = f"{declaring.name.rpartition('/')[0]}/{file}".lstrip("/")
        try:
            return parse(parse_toml(content, shown, path.parent).table)
        except LockError as error:
            raise LoadError(str(error), place=shown, hint="Run `forge lock` to write it anew") from error
