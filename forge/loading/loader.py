"""From patterns to the graph of targets: loads the packages that are needed, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forge.core.artifact import Source
from forge.core.errors import Fault, LoadError
from forge.core.label import Label, TargetPattern, is_package
from forge.core.platform import Platform
from forge.core.rule import Rule
from forge.core.target import Target, TargetGraph, requested_labels
from forge.loading.expansion import Expansion
from forge.loading.package import BUILD_FILE, Package, declare
from forge.loading.reader import Reader
from forge.loading.table import TomlFile, nearest, parse_toml
from forge.loading.toolchain import PACKAGE as TOOLCHAINS
from forge.loading.toolchain import Toolchains

_RUNTIME = ("forge_client", "forge_runtime")
"""Packages that images carry; each rule takes its own."""


@dataclass(slots=True)
class Loader:
    """Loads packages as they are asked for; every package is parsed once."""

    root: Path
    packages_folder: str
    rules: Mapping[str, Rule]
    toolchains: Toolchains
    execution: Platform
    reader: Reader
    overrides: Mapping[Label, Label] = field(default_factory=dict)
    """Put one target in place of another wherever it is a dependency."""
    runtime_folder: Path | None = None
    """Folder that holds the packages of images, `forge_runtime` and `forge_client`."""
    _packages: dict[str, Package | None] = field(default_factory=dict)
    _targets: dict[str, dict[Label, Target]] = field(default_factory=dict)

    def load(self, patterns: Iterable[TargetPattern], *, manual: bool = False) -> TargetGraph:
        """Load what the patterns need; LoadError with every fault of the files that were read.

        With `manual`, wildcards match targets with that tag too.
        """
        wanted = tuple(patterns)
        targets: dict[Label, Target] = {}
        expansion = Expansion(self)
        for label in self.overrides:
            expansion.instances_named(label)
        pending = self._packages_of(wanted)
        faults: list[Fault] = []
        loaded: set[str] = set()
        while pending:
            name = pending.pop(0)
            if name in loaded:
                continue
            loaded.add(name)
            try:
                expanded = expansion.targets(name)
            except LoadError as error:
                faults.extend(error.faults)
                continue
            targets.update(expanded)
            pending.extend(dict.fromkeys(dep.package for each in expanded.values() for dep in each.dependencies()))
        if faults:
            raise LoadError(*dict.fromkeys(faults))
        found, outright = requested_labels(wanted, targets.values(), expansion.instances_named, manual=manual)
        # A wildcard does not ask for what another target stands in for.
        replaced = {label for label in found if (targets[label].generator or label) in self.overrides}
        requested = tuple(label for label in found if label in outright or label not in replaced)
        return self._graph(targets, expansion, requested, outright)

    def package(self, name: str) -> Package | None:
        """Parse a package; None where there is none."""
        if name not in self._packages:
            self._packages[name] = self._toolchain_package() if name == TOOLCHAINS else self._parse(name)
        return self._packages[name]

    def package_names(self, below: str = "") -> Iterator[str]:
        """Find every package below a folder, sorted."""
        base = self.root / self.packages_folder
        if (base / below / BUILD_FILE).is_file():
            yield below
        for name in self.reader.names(base / below):
            path = f"{below}/{name}" if below else name
            folder = base / path
            if name[0] not in "._" and name != "forge-out" and folder.is_dir() and not folder.is_symlink():
                yield from self.package_names(path)
        if below == TOOLCHAINS:  # forge's own: `//...` means the workspace's
            yield TOOLCHAINS

    def folder(self, package: str) -> Path:
        """Name the folder of a package."""
        return self.root / self.packages_folder / package

    def _graph(
        self,
        targets: Mapping[Label, Target],
        expansion: Expansion,
        requested: tuple[Label, ...],
        outright: frozenset[Label],
    ) -> TargetGraph:
        needed: dict[Label, Target] = {}
        pending = list(requested)
        while pending:
            label = pending.pop()
            if label not in needed:
                needed[label] = targets[label]
                pending.extend(targets[label].dependencies())
        generators = expansion.generators()
        toolchains = self.toolchains.toolchains
        runtime = self._runtime()
        graph = TargetGraph(needed, generators, toolchains, self.execution, requested, outright, runtime)
        graph.order()
        return graph

    def _runtime(self) -> tuple[Source, ...]:
        folder = self.runtime_folder
        if folder is None:
            return ()
        found = (path for package in _RUNTIME for path in self.reader.walk(folder, package))
        paths = [path for path in found if path.endswith((".py", ".html"))]
        for path in paths:
            self.reader.exists(folder / path)
        return tuple(Source(path, "runtime") for path in sorted(paths))

    def _packages_of(self, patterns: tuple[TargetPattern, ...]) -> list[str]:
        """Name the packages to begin with; what a later pattern takes away as a whole is not read."""
        found: dict[str, None] = {}
        for pattern in patterns:
            names = self._covered(pattern)
            if not (pattern.exclude and pattern.is_wildcard):
                found.update(dict.fromkeys(names))
            else:
                for name in names:
                    found.pop(name, None)
        return list(found)

    def _covered(self, pattern: TargetPattern) -> list[str]:
        if pattern.kind != "recursive":
            if self.package(pattern.package) is None:
                raise self.unknown_package(pattern.package, str(pattern))
            return [pattern.package]
        found = [name for name in self.package_names(pattern.package) if pattern.covers(name)]
        if not found and not pattern.exclude:
            raise LoadError(f"No package matches `{pattern}`", hint=f"A package is a folder with a {BUILD_FILE}")
        return found

    def unknown_package(self, name: str, wanted: str, place: str = "") -> LoadError:
        """Make the error for a package that is not there."""
        folder = "/".join(filter(None, (self.packages_folder.removeprefix("."), name, BUILD_FILE)))
        if not name:
            text = f"`{wanted}` is a name in the package `//`, and there is no `{folder}`"
            return LoadError(text, place=place, hint="Write `//package:name`; `forge query //...` lists the targets")
        return LoadError(
            f"Unknown package `//{name}` of `{wanted}`: there is no `{folder}`",
            place=place,
            hint=nearest(name, [*self.package_names(), TOOLCHAINS]),
        )

    def _parse(self, name: str) -> Package | None:
        folder = self.folder(name)
        content = self.reader.read(folder / BUILD_FILE)
        if content is None:
            return None
        shown = (folder / BUILD_FILE).relative_to(self.root).as_posix()
        if not is_package(name):
            hint = "Use letters, digits, `_`, `.`, `+`, `-`"
            raise LoadError(f"{name!a} cannot be the name of a package", place=ascii(shown)[1:-1], hint=hint)
        file = parse_toml(content, shown, folder)
        return self._declared(name, folder, [(key, table, file) for key, table in file.table.items()])

    def _toolchain_package(self) -> Package:
        own = self.folder(TOOLCHAINS) / BUILD_FILE
        if self.reader.exists(own):
            place = own.relative_to(self.root).as_posix()
            raise LoadError(f"The package `//{TOOLCHAINS}` is forge's own", place=place, hint="Rename the folder")
        tables = [(key, table, file) for key, (table, file) in self.toolchains.tables.items()]
        return self._declared(TOOLCHAINS, self.root, tables)

    def _declared(self, name: str, folder: Path, tables: Iterable[tuple[str, object, TomlFile]]) -> Package:
        faults: list[Fault] = []
        given = list(tables)
        declarations = declare(name, given, self.rules, faults)
        return Package(name, folder, declarations, tuple(faults), frozenset(key for key, _, _ in given))
