"""Tables to targets: one instance per platform, each dependency resolved for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from forge.core.artifact import Source
from forge.core.errors import Fault, LoadError
from forge.core.label import Label
from forge.core.lock import Lock, LockError, LockRequest
from forge.core.lock import parse as parse_lock
from forge.core.platform import Platform
from forge.core.target import Target
from forge.loading.attribute import Scope, collect, execution_fields
from forge.loading.package import (
    Declaration,
    Package,
    instance_name,
    override_faults,
    overridden,
    select_platforms,
    source_files,
)
from forge.loading.reader import Reader
from forge.loading.table import nearest, parse_toml
from forge.loading.toolchain import Toolchains
from forge.loading.workspace import faults_of


class Packages(Protocol):
    """Where declarations come from."""

    root: Any
    toolchains: Toolchains
    execution: Platform
    reader: Reader
    overrides: Mapping[Label, Label]

    def package(self, name: str) -> Package | None: ...
    def unknown_package(self, name: str, wanted: str, place: str = "") -> LoadError: ...


class Expansion:
    """Expands declarations; remembers what it has expanded."""

    def __init__(self, packages: Packages) -> None:
        self._packages = packages
        self._platforms: dict[Label, tuple[Platform | None, ...] | None] = {}
        self._names: dict[str, dict[str, tuple[Declaration, Platform | None]]] = {}
        self._locks: dict[str, Lock | None] = {}

    def targets(self, package: str) -> dict[Label, Target]:
        """Expand a whole package; LoadError with all its faults at once."""
        loaded = self._package(package, f"//{package}")
        faults = list(loaded.faults)
        found: dict[Label, Target] = {}
        try:
            names = self._instances(package)
        except LoadError as error:
            raise LoadError(*dict.fromkeys([*faults, *error.faults])) from error
        for name, (declaration, platform) in names.items():
            try:
                found[Label(package, name)] = self._target(name, declaration, platform)
            except LoadError as error:
                faults.extend(error.faults)
        if faults:
            raise LoadError(*dict.fromkeys(faults))
        return found

    def generators(self) -> dict[Label, tuple[Label, ...]]:
        """List what has been expanded over platforms so far."""
        found: dict[Label, list[Label]] = {}
        for package, names in self._names.items():
            for name, (declaration, platform) in names.items():
                if platform is not None:
                    found.setdefault(declaration.label, []).append(Label(package, name))
        return {label: tuple(sorted(instances)) for label, instances in found.items()}

    def instances_named(self, label: Label) -> tuple[Label, ...]:
        """List what a label on the command line means: a target, or all instances of a generator."""
        package = self._package(label.package, str(label))
        names = self._instances(label.package)
        if label.name in package.declarations:
            declaration = package.declarations[label.name]
            return tuple(Label(label.package, name) for name, (each, _) in names.items() if each is declaration)
        if label.name in names:
            return (label,)
        raise self._unknown(label, package)

    def _target(self, name: str, declaration: Declaration, platform: Platform | None) -> Target:
        label = Label(declaration.label.package, name)
        rule = declaration.rule
        model = rule.attributes
        table = declaration.attributes
        if platform is not None:
            table = overridden(declaration, platform, model.model_fields)
            table = self._for_platform(declaration, table, platform)
        attrs, sources = self._parse(declaration, model, table)
        deps = self._dependencies(declaration, attrs, platform)
        requests = rule.locks(declaration.label.name, platform, attrs) if rule.locks else ()
        tags = declaration.table.get("tags", [])
        return Target(
            label=label,
            rule=rule.name,
            attrs=attrs,
            platform=platform,
            deps=deps,
            sources=tuple(dict.fromkeys(sources)),
            lock_requests=requests,
            locks=self._read_locks(declaration, requests),
            folder=str(declaration.file.folder),
            place=declaration.place(),
            tags=frozenset(map(str, tags)),
            generator=declaration.label if platform is not None else None,
            description=str(declaration.table.get("description", "")),
            declared={"rule": rule.name, **table},
        )

    def _parse(self, declaration: Declaration, model: Any, table: dict[str, Any]) -> tuple[BaseModel, list[Source]]:
        packages = self._packages
        folder = declaration.file.folder

        def find(text: str) -> tuple[Source, ...]:
            return source_files(packages.reader, packages.root, folder, text)

        try:
            attrs: BaseModel = model.model_validate(table, context=Scope(declaration.label.package, find))
        except ValidationError as error:
            what = f"`{declaration.rule.name}` target `{declaration.label}`"
            raise LoadError(*faults_of(error, model, declaration.file, declaration.keys, what=what)) from error
        return attrs, collect(attrs, Source)

    def _dependencies(
        self, declaration: Declaration, attrs: BaseModel, platform: Platform | None
    ) -> dict[Label, tuple[Label, ...]]:
        marked = execution_fields(type(attrs))
        found: dict[Label, tuple[Label, ...]] = {}
        faults: list[Fault] = []
        for name in type(attrs).model_fields:
            for label in collect(getattr(attrs, name), Label):
                where = self._packages.execution if name in marked else platform
                try:
                    found[label] = self._resolve(label, where, declaration.place(name))
                except LoadError as error:
                    faults.extend(error.faults)
        toolchain = self._packages.toolchains.toolchains.get(platform.name) if platform else None
        if declaration.rule.needs_toolchain and toolchain is not None:
            environment = toolchain.environment
            found[environment] = self._resolve(environment, platform, declaration.place("platforms"))
        if faults:
            raise LoadError(*faults)
        return found

    def _resolve(self, declared: Label, platform: Platform | None, place: str) -> tuple[Label, ...]:
        label = self._packages.overrides.get(declared, declared)
        package = self._package(label.package, str(label), place)
        names = self._instances(label.package)
        if label.name in package.declarations:
            declaration = package.declarations[label.name]
            instances = {each.name if each else "": name for name, (d, each) in names.items() if d is declaration}
            if "" in instances:
                return (label,)
            if platform is None:
                return tuple(Label(label.package, name) for name in sorted(instances.values()))
            for wanted in (platform.name, platform.arch):
                if wanted in instances:
                    return (Label(label.package, instances[wanted]),)
            text = f"`{label}` has no instance for platform `{platform.name}`"
            raise LoadError(text, place=place, hint=f"It has [{', '.join(sorted(instances))}]")
        if label.name in names:
            return (label,)
        raise self._unknown(label, package, place)

    def _for_platform(self, declaration: Declaration, table: dict[str, Any], platform: Platform) -> dict[str, Any]:
        """Of the targets that gave the platforms, keep those that have this one."""
        attribute = declaration.rule.platforms_from
        if "platforms" in declaration.table or not isinstance(table.get(attribute), list):
            return table
        kept = []
        for text in table[attribute]:
            platforms = self._platforms_of(Label.parse(text, declaration.label.package), declaration.place(attribute))
            if platforms is None or platform in platforms:
                kept.append(text)
        return {**table, attribute: kept}

    def _instances(self, package: str) -> dict[str, tuple[Declaration, Platform | None]]:
        if package in self._names:
            return self._names[package]
        names: dict[str, tuple[Declaration, Platform | None]] = {}
        faults: list[Fault] = []
        loaded = self._package(package, f"//{package}")
        for declaration in loaded.declarations.values():
            try:
                for platform in self._platforms_of(declaration.label, declaration.place()) or (None,):
                    name = instance_name(declaration, platform)
                    other = names.get(name) or loaded.declarations.get(name)
                    if other is not None and other is not declaration:
                        first = other[0] if isinstance(other, tuple) else other
                        text = f"`//{package}:{name}` is also the name of a target at {first.place()}"
                        raise LoadError(text, place=declaration.place("name"), hint="Give one another name")
                    names[name] = (declaration, platform)
            except LoadError as error:
                faults.extend(error.faults)
        if faults:
            raise LoadError(*dict.fromkeys([*loaded.faults, *faults]))
        self._names[package] = names
        return names

    def _platforms_of(self, label: Label, place: str) -> tuple[Platform | None, ...] | None:
        """List the platforms of a declared target; None for one that all platforms share."""
        if label in self._platforms:
            return self._platforms[label]
        self._platforms[label] = None  # a cycle ends here; the graph reports it
        package = self._package(label.package, str(label), place)
        declaration = package.declarations.get(label.name)
        if declaration is None:
            found = self._instances(label.package).get(label.name)
            if found is None:
                raise self._unknown(label, package, place)
            return (found[1],) if found[1] else None
        result = self._declared_platforms(declaration)
        self._platforms[label] = result
        return result

    def _declared_platforms(self, declaration: Declaration) -> tuple[Platform | None, ...] | None:
        platforms: dict[str, Platform] = {}
        attribute = declaration.rule.platforms_from
        if "platforms" in declaration.table:
            selected = select_platforms(declaration, self._packages.toolchains.platforms)
            platforms = {each.name: each for each in selected}
        elif attribute:
            value = declaration.attributes.get(attribute, [])
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    place = declaration.place(attribute)
                    label = Label.parse(text, declaration.label.package)
                    platforms.update({each.name: each for each in self._platforms_of(label, place) or () if each})
        if "override" in declaration.table:
            faults = override_faults(declaration, platforms.values())
            if faults:
                raise LoadError(*faults)
        return tuple(platforms[name] for name in sorted(platforms)) or None

    def _read_locks(self, declaration: Declaration, requests: Iterable[LockRequest]) -> dict[str, Lock]:
        found: dict[str, Lock] = {}
        for request in requests:
            path = declaration.file.folder / "locks" / f"{request.name}.toml"
            key = str(path)
            if key not in self._locks:
                content = self._packages.reader.read(path)
                try:
                    lock = parse_lock(parse_toml(content, key, path.parent).table) if content is not None else None
                except LockError as error:
                    raise LoadError(str(error), place=key, hint="Run `forge lock` to write it anew") from error
                self._locks[key] = lock
            lock = self._locks[key]
            if lock is not None:
                found[request.name] = lock
        return found

    def _package(self, name: str, wanted: str, place: str = "") -> Package:
        package = self._packages.package(name)
        if package is None:
            raise self._packages.unknown_package(name, wanted, place)
        return package

    def _unknown(self, label: Label, package: Package, place: str = "") -> LoadError:
        try:
            known = [*package.declarations, *self._instances(package.name)]
        except LoadError:
            known = list(package.declarations)
        return LoadError(f"Unknown target `{label}`", place=place, hint=nearest(label.name, known))

