"""Rule modules: loaded by path, the built-in ones exactly as a workspace's own."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import PydanticUserError

from forge.core.errors import LoadError
from forge.core.rule import LockRequests, Rule
from forge.loading.attribute import Attributes
from forge.loading.package import RESERVED
from forge.loading.reader import Reader
from forge.loading.table import nearest

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
    marks = [getattr(value, _MARK, None) for value in vars(module).values()]
    found = dict.fromkeys(mark for mark in marks if isinstance(mark, Rule))
    own = [replace(each, place=str(path)) for each in found if each.analyze.__module__ == module.__name__]
    for each in own:
        _check(each)
    return own


def _check(found: Rule) -> None:
    """Refuse, where the module is named, what would be a traceback for whoever uses the rule."""
    model = found.attributes
    if not (isinstance(model, type) and issubclass(model, Attributes)):
        raise LoadError(f"Attributes of rule `{found.name}` must be a class of `Attributes`", place=found.place)
    try:
        model.model_rebuild()  # names of types that stand further down in the module
    except (PydanticUserError, NameError) as error:
        text = f"Attributes of rule `{found.name}`: {str(error).partition(chr(10))[0]}"
        raise LoadError(text, place=found.place) from error
    taken = sorted(set(RESERVED) & set(model.model_fields))
    if taken:
        text = f"Rule `{found.name}` cannot have the attributes [{', '.join(taken)}]: every target has them"
        raise LoadError(text, place=found.place)
    if found.platforms_from and found.platforms_from not in model.model_fields:
        text = f"Rule `{found.name}` has no attribute `{found.platforms_from}` to take platforms from"
        raise LoadError(text, place=found.place, hint=nearest(found.platforms_from, model.model_fields))


def _execute(path: Path, source: bytes) -> ModuleType:
    # Named by place and content, so that an edited module is never taken from memory, and in
    # sys.modules first: slotted dataclasses and pydantic look annotations up there.
    name = f"forge_rules_{path.stem}_{hashlib.sha256(str(path).encode() + source).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        # Not by the import system: it would write __pycache__ beside the module, and believe it as long as the
        # module's size and second stay the same.
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        text = f"{type(error).__name__}: {getattr(error, 'msg', None) or error}"
        raise LoadError(text, place=f"{path}:{_line_of(error, path)}") from error
    return module


def _line_of(error: BaseException, path: Path) -> int:
    line = 1
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line = error.lineno or 1
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
