"""Stand-ins for modules that are named and not needed: a command's options, without what it does with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextmanager
def absent(real: Sequence[str]) -> Iterator[None]:
    """Import stand-ins for all modules of forge but the `real` ones, and those that are there already.

    Only for a process that does nothing else: the stand-ins stay where they were imported.
    """
    finder = _Finder(tuple(real))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    def __init__(self, real: tuple[str, ...]) -> None:
        self._real = real

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        is_real = any(f"{each}.".startswith(f"{fullname}.") or fullname.startswith(f"{each}.") for each in self._real)
        if is_real or not fullname.startswith("forge."):
            return None
        return ModuleSpec(fullname, _Loader(), is_package=True)


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Have nothing to run."""


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()


class _Anything:
    """Stands for a function, a class or a value, wherever a module names one while it is imported."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return ()
