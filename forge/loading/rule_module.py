"""Rule modules: loaded by path, the built-in ones exactly as a workspace's own."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from forge.core.errors import Fault, LoadError
from forge.core.rule import LockRequests, Rule
from forge.loading.reader import Reader

_MARK = "__forge_rule__"
_F = TypeVar("_F", bound=Callable[..., Any])


def rule(
    name: str,
    attributes: type,
    *,
    platforms_from: str = "",
    locks: LockRequests | None = None,
    is_test: bool = False,
    needs_toolchain: bool = False,
) -> Callable[[_F], _F]:
    """Register the decorated `analyze(context, attrs)` as a rule."""

    def mark(function: _F) -> _F:
        setattr(function, _MARK, Rule(name, attributes, function, platforms_from, locks, is_test, needs_toolchain))
        return function

    return mark


def load_rules(folders: Iterable[Path], reader: Reader) -> dict[str, Rule]:
    """Load every module of the folders; LoadError names both files when two rules share a name."""
    rules: dict[str, Rule] = {}
    for folder in _distinct(folders):
        for name in reader.names(folder):
            if name.endswith(".py") and not name.startswith("_"):
                for found in _rules_of(folder / name, reader):
                    if found.name in rules:
                        text = f"Rule `{found.name}` is already declared in {rules[found.name].place}"
                        raise LoadError(text, place=found.place, hint="Give it another name")
                    rules[found.name] = found
    return rules


def _distinct(folders: Iterable[Path]) -> list[Path]:
    """Drop a folder that is another by a second name, as in forge's own repository."""
    kept: list[Path] = []
    for folder in folders:
        if folder.is_dir() and not any(folder.samefile(other) for other in kept):
            kept.append(folder)
    return kept


def _rules_of(path: Path, reader: Reader) -> list[Rule]:
    source = reader.read(path) or b""
    module = _execute(path, source)
    found = [getattr(value, _MARK) for value in vars(module).values() if hasattr(value, _MARK)]
    return [replace(each, place=str(path)) for each in found if each.analyze.__module__ == module.__name__]


def _execute(path: Path, source: bytes) -> ModuleType:
    # Named by place and content, so that an edited module is never taken from memory, and in
    # sys.modules first: slotted dataclasses and pydantic look annotations up there.
    name = f"forge_rules_{path.stem}_{hashlib.sha256(str(path).encode() + source).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:  # pragma: no cover - a .py path always has a loader
        raise LoadError("Cannot be loaded as a module", place=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        line = _line_of(error, path)
        raise LoadError(Fault(f"{type(error).__name__}: {error}", f"{path}:{line}")) from error
    return module


def _line_of(error: BaseException, path: Path) -> int:
    line = getattr(error, "lineno", 0) or 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
