"""Which platforms a declaration is for: those that it selects, or those of the targets that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from forge.core.errors import LoadError
from forge.core.label import Label
from forge.core.platform import Platform
from forge.loading.package import Declaration, Package, instance_name, override_faults, select_platforms
from forge.loading.reader import Reader
from forge.loading.toolchain import Toolchains


class Packages(Protocol):
    """Where declarations come from."""

    root: Path
    toolchains: Toolchains
    execution: Platform
    reader: Reader
    overrides: Mapping[Label, Label]

    def package(self, name: str) -> Package | None: ...
    def unknown_package(self, name: str, wanted: str, place: str = "") -> LoadError: ...


class Selection:
    """Finds the platforms of labels, and remembers them.

    The targets that an image is made of may be instances, whose names are known only once the platforms of their
    generators are. So a search may meet a label that it is still at work on; it then goes on without, and what
    it finds meanwhile is not remembered.
    """

    def __init__(self, packages: Packages) -> None:
        self._packages = packages
        self._found: dict[Label, tuple[Platform, ...]] = {}
        self._open: set[Label] = set()
        self._met: set[Label] = set()

    def of(self, label: Label, place: str) -> tuple[Platform, ...]:
        """List the platforms of a label; none for a target that all platforms share."""
        label = self._packages.overrides.get(label, label)
        if label in self._found:
            return self._found[label]
        if label in self._open:
            self._met.add(label)
            return ()
        self._open.add(label)
        try:
            package = require(self._packages, label.package, str(label), place)
            if label.name in package.declarations:
                result = self._declared(package.declarations[label.name])
            else:
                result = self._of_instance(label, package)
        finally:
            self._open.discard(label)
            self._met.discard(label)
        if not self._met:
            self._found[label] = result
        return result

    def _of_instance(self, label: Label, package: Package) -> tuple[Platform, ...]:
        # A label that is unknown is reported with the target that names it.
        for declaration in package.declarations.values():
            for platform in self.of(declaration.label, declaration.place()):
                if instance_name(declaration, platform) == label.name:
                    return (platform,)
        return ()

    def _declared(self, declaration: Declaration) -> tuple[Platform, ...]:
        platforms: dict[str, Platform] = {}
        attribute = declaration.rule.platforms_from
        if "platforms" in declaration.table:
            selected = select_platforms(declaration, self._packages.toolchains.platforms)
            platforms = {each.name: each for each in selected}
        elif attribute:
            value = declaration.attributes.get(attribute, [])
            for text in value if isinstance(value, list) else [value]:
                if label := label_of(text, declaration.label.package):
                    platforms.update({each.name: each for each in self.of(label, declaration.place(attribute))})
        if "override" in declaration.table:
            faults = override_faults(declaration, platforms.values())
            if faults:
                raise LoadError(*faults)
        return tuple(platforms[name] for name in sorted(platforms))


def require(packages: Packages, name: str, wanted: str, place: str = "") -> Package:
    """Take a package; LoadError where there is none."""
    package = packages.package(name)
    if package is None:
        raise packages.unknown_package(name, wanted, place)
    return package


def label_of(value: object, package: str) -> Label | None:
    """Read a label; None for what is none, which the rule's attributes report with its place."""
    try:
        return Label.parse(value, package) if isinstance(value, str) else None
    except LoadError:
        return None
