"""Tables to targets: one instance per platform, each dependency resolved for it."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError

from forge.core.artifact import Source
from forge.core.errors import Fault, LoadError
from forge.core.label import Label
from forge.core.platform import Platform
from forge.core.target import Target
from forge.loading.attribute import Scope, collect, execution_fields
from forge.loading.lock_file import LockFiles
from forge.loading.package import (
    Declaration,
    Package,
    instance_name,
    overridden,
    source_files,
)
from forge.loading.selection import Packages, Selection, label_of, require
from forge.loading.table import nearest
from forge.loading.workspace import faults_of


class NoInstance(LoadError):
    """A generator is not expanded for the platform that one of its dependents has."""


_Instance = tuple[Declaration, Platform | None]


class Expansion:
    """Expands declarations; remembers what it has expanded."""

    def __init__(self, packages: Packages) -> None:
        self._packages = packages
        self._selection = Selection(packages)
        self._names: dict[str, dict[str, _Instance]] = {}
        self._faults: dict[str, list[Fault]] = {}
        self._locks = LockFiles(packages.reader)

    def targets(self, package: str) -> dict[Label, Target]:
        """Expand a whole package; LoadError with all its faults at once."""
        found: dict[Label, Target] = {}
        names = self._expand(package)
        faults = list(self._faults[package])
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
        package = require(self._packages, label.package, str(label))
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
        attrs, sources = self._parse(declaration, table, platform)
        deps = self._dependencies(declaration, attrs, platform)
        requests = rule.locks(declaration.label.name, platform, attrs) if rule.locks else ()
        return Target(
            label=label,
            rule=rule.name,
            attrs=attrs,
            platform=platform,
            deps=deps,
            sources=tuple(dict.fromkeys(sources)),
            lock_requests=requests,
            locks=self._locks.read(declaration.file, requests),
            folder=str(declaration.file.folder),
            place=declaration.place(),
            tags=declaration.tags(platform),
            generator=declaration.label if platform is not None else None,
            description=str(declaration.table.get("description", "")),
            declared={"rule": rule.name, **table},
        )

    def _parse(
        self, declaration: Declaration, table: dict[str, Any], platform: Platform | None
    ) -> tuple[BaseModel, list[Source]]:
        packages, model = self._packages, declaration.rule.attributes
        folder = declaration.file.folder

        def find(text: str) -> tuple[Source, ...]:
            return source_files(packages.reader, packages.root, folder, text)

        try:
            attrs: BaseModel = model.model_validate(table, context=Scope(declaration.label.package, find))
        except ValidationError as error:
            what = f"`{declaration.rule.name}` target `{declaration.label}`"
            place = partial(declaration.override_place, platform)
            raise LoadError(*faults_of(error, model, place, what=what)) from error
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
                place = declaration.override_place(platform, name)
                try:
                    meant = self._resolve(label, where, place)
                except NoInstance as error:
                    if name not in marked:
                        faults.extend(error.faults)
                        continue
                    meant = ()  # not for this machine: analysis skips the target
                except LoadError as error:
                    faults.extend(error.faults)
                    continue
                if found.setdefault(label, meant) != meant:
                    text = f"`{label}` means one instance for the sandbox and another one beside it"
                    faults.append(Fault(text, place, "Name the instances, as `target@platform`"))
        toolchain = self._packages.toolchains.toolchains.get(platform.name) if platform else None
        if declaration.rule.needs_toolchain and toolchain is not None:
            environment = toolchain.environment
            found[environment] = self._resolve(environment, platform, declaration.place("platforms"))
        if faults:
            raise LoadError(*faults)
        return found

    def _resolve(self, declared: Label, platform: Platform | None, place: str) -> tuple[Label, ...]:
        label = self._packages.overrides.get(declared, declared)
        package = require(self._packages, label.package, str(label), place)
        names = self._expand(label.package)
        if label.name in package.declarations:
            declaration = package.declarations[label.name]
            instances = {each.name if each else "": name for name, (d, each) in names.items() if d is declaration}
            if not instances:
                raise LoadError(*self._faults[label.package])
            if "" in instances:
                return (label,)
            if platform is None:
                return tuple(Label(label.package, name) for name in sorted(instances.values()))
            for wanted in (platform.name, platform.arch):
                if wanted in instances:
                    return (Label(label.package, instances[wanted]),)
            text = f"`{label}` has no instance for platform `{platform.name}`"
            raise NoInstance(text, place=place, hint=f"It has [{', '.join(sorted(instances))}]")
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
            label = label_of(text, declaration.label.package)
            platforms = self._selection.of(label, declaration.place(attribute)) if label else ()
            if not platforms or platform in platforms:
                kept.append(text)
        return {**table, attribute: kept}

    def _instances(self, package: str) -> dict[str, _Instance]:
        names = self._expand(package)
        if self._faults[package]:
            raise LoadError(*self._faults[package])
        return names

    def _expand(self, package: str) -> dict[str, _Instance]:
        """Name every target of a package, and note what is wrong with it so far."""
        if package in self._names:
            return self._names[package]
        names: dict[str, _Instance] = {}
        loaded = require(self._packages, package, f"//{package}")
        faults = list(loaded.faults)
        for declaration in loaded.declarations.values():
            try:
                for platform in self._selection.of(declaration.label, declaration.place()) or (None,):
                    name = instance_name(declaration, platform)
                    other = names.get(name) or loaded.declarations.get(name)
                    if other is not None and other is not declaration:
                        first = other[0] if isinstance(other, tuple) else other
                        text = f"`//{package}:{name}` is also the name of a target at {first.place()}"
                        raise LoadError(text, place=declaration.place("name"), hint="Give one another name")
                    names[name] = (declaration, platform)
            except LoadError as error:
                faults.extend(error.faults)
        self._names[package], self._faults[package] = names, list(dict.fromkeys(faults))
        return names

    def _unknown(self, label: Label, package: Package, place: str = "") -> LoadError:
        names, faults = self._expand(package.name), self._faults[package.name]
        if faults and label.name.partition("@")[0] in package.tables:
            return LoadError(*faults)  # it is there, but what it says is not
        known = [*package.declarations, *names]
        return LoadError(f"Unknown target `{label}`", place=place, hint=nearest(label.name, known))
