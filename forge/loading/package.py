"""One BUILD.toml: its tables, and the platforms that they are expanded over."""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forge.core.artifact import Source
from forge.core.errors import Fault, LoadError
from forge.core.glob import is_glob, matches
from forge.core.label import Label, is_name
from forge.core.platform import Platform
from forge.core.rule import Rule
from forge.loading.reader import Reader
from forge.loading.table import TomlFile, nearest

BUILD_FILE = "BUILD.toml"
RESERVED = ("rule", "name", "platforms", "override", "tags", "description")
"""Keys of every table that are the loader's, not the rule's."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A table of a BUILD.toml, as written."""

    label: Label
    rule: Rule
    table: Mapping[str, Any]
    file: TomlFile
    keys: tuple[str, ...]

    @property
    def attributes(self) -> dict[str, Any]:
        """The rule's part of the table."""
        return {key: value for key, value in self.table.items() if key not in RESERVED}

    def tags(self, platform: Platform | None) -> frozenset[str]:
        """Its tags on a platform; none where they are no list, which is a fault of the package."""
        tables = [table for _, table in self.tagged(platform) if isinstance(table, dict) and "tags" in table]
        tags = tables[0]["tags"] if tables else []
        return frozenset(map(str, tags)) if isinstance(tags, list) else frozenset()

    def tagged(self, platform: Platform | None) -> list[tuple[tuple[str, ...], Any]]:
        """List the tables that may give tags, with their keys: overrides, the most specific first, then its own."""
        override = self.table.get("override", {})
        if not isinstance(override, dict):
            override = {}
        names = [key for key in (_specific(platform) if platform else override) if key in override]
        return [*((("override", key), override[key]) for key in names), ((), self.table)]

    def place(self, *keys: str) -> str:
        """Name `file:line` of one of its keys."""
        return self.file.place(*self.keys, *keys)

    def override_place(self, platform: Platform | None, *keys: str) -> str:
        """Name the place that gives a key its value on a platform: an override, or the table itself."""
        override = self.table.get("override", {})
        for each in _specific(platform) if keys else ():
            table = override.get(each, {})
            for path in (keys, keys[1:]):
                if path and path[0] in table:
                    return self.place("override", each, *path)
        return self.place(*keys)


@dataclass(frozen=True, slots=True)
class Package:
    """A folder with a BUILD.toml."""

    name: str
    folder: Path
    declarations: dict[str, Declaration] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    """What is wrong with its tables so far."""
    tables: frozenset[str] = frozenset()
    """Names of all tables, also of those that are no targets."""


def declare(
    package: str, tables: Iterable[tuple[str, Any, TomlFile]], rules: Mapping[str, Rule], faults: list[Fault]
) -> dict[str, Declaration]:
    """Read a package's tables; what is wrong with them goes to `faults`."""
    found: dict[str, Declaration] = {}
    for name, table, file in tables:
        place = file.place(name)
        if not isinstance(table, dict):
            faults.append(Fault(f"`{name}` must be a table", place, f"Write `[{name}]` and `rule = …` below it"))
        elif not is_name(name):
            faults.append(Fault(f"`{name}` cannot be the name of a target", place))
        elif not isinstance(table.get("rule"), str):
            faults.append(Fault(f"`{name}` needs the attribute `rule`", place, nearest("", rules)))
        elif table["rule"] not in rules:
            text = f"Unknown rule `{table['rule']}` of target `//{package}:{name}`"
            faults.append(Fault(text, file.place(name, "rule"), nearest(table["rule"], rules)))
        else:
            label = Label(package, name)
            found[name] = Declaration(label, rules[table["rule"]], table, file, (name,))
            faults.extend(_reserved_faults(found[name]))
    return found


def select_platforms(declaration: Declaration, platforms: Mapping[str, Platform]) -> tuple[Platform, ...]:
    """Apply a table's own platform globs; LoadError for one that matches nothing."""
    globs = declaration.table["platforms"]
    place = declaration.place("platforms")
    if not isinstance(globs, list) or not all(isinstance(each, str) for each in globs):
        raise LoadError(f"`platforms` of `{declaration.label}` must be a list of globs", place=place)
    chosen: dict[str, Platform] = {}
    faults = []
    for glob in globs:
        bare = glob.removeprefix("!")
        names = [name for name, each in platforms.items() if _matches(bare, name, each)]
        if not names:
            text = f"Platform glob `{glob}` of `{declaration.label}` matches nothing"
            faults.append(Fault(text, place, nearest(bare, platforms)))
        for name in names:
            if glob.startswith("!"):
                chosen.pop(name, None)
            else:
                chosen[name] = platforms[name]
    if faults:
        raise LoadError(*faults)
    if not chosen:
        raise LoadError(f"`platforms` of `{declaration.label}` selects none", place=place)
    return tuple(chosen[name] for name in sorted(chosen))


def instance_name(declaration: Declaration, platform: Platform | None) -> str:
    """Name an instance; LoadError when the template does not give a name."""
    template = declaration.table.get("name", "{target}@{platform}")
    if platform is None:
        if "name" in declaration.table:
            hint = "The header is the name of a target; `name` is that of its instances"
            raise LoadError("`name` has no meaning without platforms", place=declaration.place("name"), hint=hint)
        return declaration.label.name
    name = str(template).replace("{target}", declaration.label.name).replace("{platform}", platform.name)
    if not is_name(name):
        hint = "Use `{target}` and `{platform}`"
        raise LoadError(f'`name = "{template}"` gives no name', place=declaration.place("name"), hint=hint)
    return name


def overridden(declaration: Declaration, platform: Platform, fields: Iterable[str]) -> dict[str, Any]:
    """Apply `override` to a table's attributes, device before backend before platform."""
    result = declaration.attributes
    known = set(fields)
    override = declaration.table.get("override", {})
    for key in reversed(_specific(platform)):
        for name, value in override.get(key, {}).items():
            if name == "tags":
                continue  # the loader's, see Declaration.tags
            name, value = (name, value) if name in known or "params" not in known else ("params", {name: value})
            present = result.get(name)
            if isinstance(value, dict) and isinstance(present, dict):
                value = {**present, **value}
            result[name] = value
    return result


def override_faults(declaration: Declaration, platforms: Iterable[Platform]) -> list[Fault]:
    """Find override keys that are no device, backend or name of a selected platform."""
    override = declaration.table.get("override", {})
    if not isinstance(override, dict) or not all(isinstance(value, dict) for value in override.values()):
        return [Fault(f"`override` of `{declaration.label}` must hold tables", declaration.place("override"))]
    known = {key for each in platforms for key in (each.device, each.backend, each.name) if key}
    return [
        Fault(
            f"`override.{key}` of `{declaration.label}` matches no selected platform",
            declaration.place("override", key),
            nearest(key, known),
        )
        for key in override
        if key not in known
    ]


def source_files(reader: Reader, root: Path, folder: Path, text: str) -> tuple[Source, ...]:
    """Find the files that a path or glob below a package names; ValueError in words when there are none."""
    parts = text.split("/")
    if text.startswith("/") or ".." in parts or "" in parts:
        raise ValueError(f"`{text}` must lie below the package's folder")
    if not is_glob(text):
        _check_source(root, folder / text, text)
        reader.exists(folder / text)
        return (Source((folder / text).relative_to(root).as_posix()),)
    found = [name for name in reader.walk(folder) if matches(name, text)]
    if not found:
        raise ValueError(f"`{text}` matches no file")
    for name in found:
        _check_source(root, folder / name, name)
        reader.exists(folder / name)
    return tuple(Source((folder / name).relative_to(root).as_posix()) for name in sorted(found))


def _specific(platform: Platform | None) -> tuple[str, ...]:
    """List what an override may be for, the most specific first."""
    return tuple(filter(None, (platform.name, platform.backend, platform.device))) if platform else ()


def _reserved_faults(declaration: Declaration) -> list[Fault]:
    """Check the keys that every table may have, but for `platforms` and `override`, which expansion checks."""
    table, faults = declaration.table, []
    for keys, each in declaration.tagged(None):
        tags = each.get("tags", []) if isinstance(each, dict) else []
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            place = declaration.place(*keys, "tags")
            faults.append(Fault(f"`tags` of `{declaration.label}` must be a list of texts", place))
    faults += [
        Fault(f"`{key}` of `{declaration.label}` must be text", declaration.place(key))
        for key in ("name", "description")
        if not isinstance(table.get(key, ""), str)
    ]
    return faults


def _matches(glob: str, name: str, platform: Platform) -> bool:
    # A bare architecture is no place to serve on: only its own name selects it.
    return name == glob or (platform.is_service and fnmatch.fnmatchcase(name, glob))


def _check_source(root: Path, path: Path, text: str) -> None:
    try:
        resolved = path.resolve(strict=True)
        mode = resolved.stat().st_mode
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"`{ascii(text)[1:-1]}` is a name that is not UTF-8") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise ValueError(f"`{text}` does not exist") from error
    if not resolved.is_relative_to(root.resolve()):
        raise ValueError(f"`{text}` leads out of the workspace")
    if not stat.S_ISREG(mode):
        raise ValueError(f"`{text}` is not a regular file")
