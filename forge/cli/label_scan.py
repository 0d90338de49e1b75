"""The labels of a workspace, read in a hurry: for a shell that completes one.

This is no loader. It takes milliseconds, knows names alone, and makes do with what can be read: a file that is broken
costs its own labels and nothing else.
"""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

_PLATFORMS_FROM = re.compile(r"""@rule\(\s*"([^"]+)"[^)]*platforms_from="([^"]+)\"""")
_TABLE = re.compile(r"""(?m)^\[\s*(?:"([^".]+)"|'([^'.]+)'|([A-Za-z0-9_-]+))\s*\]""")
_NO_DEVICES = ("backends.toml", "environments.toml")
TOOLCHAINS = "toolchains"
"""The package that is forge's own."""


class LabelScan:
    """Looks at the files of the workspace at `root`; `builtin` holds forge's own `rules` and `toolchains`."""

    def __init__(self, root: Path, builtin: Path) -> None:
        self._root, self._builtin = root, builtin
        self._read_tables: dict[str, Mapping[str, Mapping[str, Any]]] = {}
        self._open: set[tuple[str, str]] = set()

    @cached_property
    def workspace(self) -> Mapping[str, Any]:
        """WORKSPACE.toml, as far as it can be read."""
        return _read(self._root / "WORKSPACE.toml")

    @property
    def configurations(self) -> list[str]:
        """Names that `--config` takes."""
        build = _table(self.workspace.get("build"))
        return sorted(name for name, value in build.items() if isinstance(value, dict))

    @cached_property
    def packages(self) -> list[str]:
        """Names of all packages, with forge's own."""
        return sorted({*_packages(self._folder("packages", "targets")), TOOLCHAINS})

    def package_of(self, folder: Path) -> str | None:
        """Name the package that a folder is; None where it lies elsewhere."""
        base = self._folder("packages", "targets")
        name = folder.relative_to(base).as_posix() if folder.is_relative_to(base) else ""
        return name if name in self.packages else None

    def targets(self, package: str) -> list[str]:
        """Name all that a label can name in a package: declared targets, and their instances."""
        names: set[str] = set()
        for name, table in self._tables(package).items():
            platforms = self._platforms(package, name)
            template = table.get("name") if isinstance(table.get("name"), str) else "{target}@{platform}"
            filled = {str(template).replace("{target}", name).replace("{platform}", each) for each in platforms}
            names |= {name} | filled
        return sorted(names)

    def _platforms(self, package: str, name: str) -> set[str]:
        table = self._tables(package).get(name, {})
        if isinstance(globs := table.get("platforms"), list):
            return self._selected([each for each in globs if isinstance(each, str)])
        values = table.get(self._inherited.get(str(table.get("rule")), ""), [])
        if (package, name) in self._open:
            return set()
        self._open.add((package, name))
        found: set[str] = set()
        for text in values if isinstance(values, list) else [values]:
            if isinstance(text, str) and ":" in text:
                where, _, target = text.partition(":")
                found |= self._platforms(where.removeprefix("//") if where else package, target)
        self._open.discard((package, name))
        return found

    def _selected(self, globs: list[str]) -> set[str]:
        chosen: set[str] = set()
        for glob in globs:
            names = fnmatch.filter(self._devices, glob.removeprefix("!"))
            if glob in ("amd64", "arm64"):
                names.append(glob)
            chosen = chosen - set(names) if glob.startswith("!") else chosen | set(names)
        return chosen

    @cached_property
    def _devices(self) -> list[str]:
        return [name for path in self._files("toolchains", ".toml") for name in _device(path)]

    @cached_property
    def _inherited(self) -> dict[str, str]:
        """Rule -> its attribute that names the targets whose platforms it takes."""
        found: dict[str, str] = {}
        for path in self._files("rules", ".py"):
            with suppress(OSError, ValueError):
                found.update(_PLATFORMS_FROM.findall(path.read_text(encoding="utf-8")))
        return found

    def _tables(self, package: str) -> Mapping[str, Mapping[str, Any]]:
        if package not in self._read_tables:
            file = self._folder("packages", "targets") / package / "BUILD.toml"
            self._read_tables[package] = self._toolchains() if package == TOOLCHAINS else _targets(file)
        return self._read_tables[package]

    def _toolchains(self) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for path in self._files("toolchains", ".toml"):
            if path.name == "environments.toml":
                found.update(_targets(path))
            else:
                found.update({name: {"platforms": [name], "name": "{platform}"} for name in _device(path)})
        return found

    def _files(self, what: str, suffix: str) -> list[Path]:
        folders = dict.fromkeys((self._builtin / what, self._folder(what, what)))
        return [path for folder in folders if folder.is_dir() for path in sorted(folder.glob(f"*{suffix}"))]

    def _folder(self, key: str, default: str) -> Path:
        value = _table(self.workspace.get("workspace")).get(key, default)
        return self._root / value if isinstance(value, str) else self._root / default


def _packages(base: Path, below: str = "") -> Iterator[str]:
    folder = base / below
    if (folder / "BUILD.toml").is_file():
        yield below
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] not in "._" and entry.name != "forge-out" and entry.is_dir(follow_symlinks=False):
                yield from _packages(base, f"{below}/{entry.name}".lstrip("/"))


def _device(path: Path) -> list[str]:
    """Name the platforms of a device's file."""
    return [] if path.name in _NO_DEVICES else [name for name in _targets(path) if name != "device"]


def _targets(path: Path) -> dict[str, Mapping[str, Any]]:
    """Take the tables of a file."""
    return {name: table for name, table in _read(path).items() if isinstance(table, dict)}


def _read(path: Path) -> dict[str, Any]:
    """Read a file; of one that is no TOML the tables that can be found, by their headers and one at a time."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        pass
    found: dict[str, Any] = {}
    headers = list(_TABLE.finditer(text))
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        name = next(filter(None, header.groups()))
        found.setdefault(name, {})
        with suppress(ValueError, RecursionError):
            found[name] = tomllib.loads(text[header.start() : following.start() if following else None])[name]
    return found


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
