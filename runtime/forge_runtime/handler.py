"""The user's handler.py: found, imported and checked before anything is served."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from forge_runtime.config import ServerConfig
from forge_runtime.error import HandlerError
from forge_runtime.lifecycle import HOOKS, AnyLifecycle, Lifecycle
from forge_runtime.server import BaseServer

__all__ = ["load_handler"]

CLASS = "Handler"
MODULE = "forge_handler"
ESSENTIAL = ("decode", "infer")
"""Hooks that only a subclass has: better missed now than at the first request."""


def load_handler(server: ServerConfig) -> type[AnyLifecycle]:
    """Import `class Handler(BaseServer)`, or of another lifecycle, from the configured file."""
    if server.handler is None:
        return BaseServer
    path = server.app_dir / server.handler
    if not path.is_file():
        raise HandlerError(str(path), "No such file; `server.handler` names it, `server.app_dir` its folder")
    module = _import(path, server.app_dir)
    found: object = getattr(module, CLASS, None)
    if not isinstance(found, type) or not issubclass(found, Lifecycle):
        raise HandlerError(str(path), f"Expected `class {CLASS}(BaseServer)`")
    faults = [fault for name in ("__init__", *HOOKS) if (fault := _fault(found, name))]
    if faults:
        raise HandlerError(str(path), "; ".join(faults))
    return found


def _import(path: Path, app_dir: Path) -> ModuleType:
    # The handler may import the modules that lie beside it.
    if str(app_dir) not in sys.path:
        sys.path.insert(0, str(app_dir))
    spec = importlib.util.spec_from_file_location(MODULE, path)
    if spec is None or spec.loader is None:
        raise HandlerError(str(path), "Not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise HandlerError(_place(error, path), f"{type(error).__name__}: {_one_line(error)}") from error
    return module


def _place(error: BaseException, path: Path) -> str:
    """Return the file and the last line in it that the error came through."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f"{path}:{lines[-1]}" if lines else str(path)


def _one_line(error: BaseException) -> str:
    return " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())


def _fault(handler: type[AnyLifecycle], name: str) -> str | None:
    """Say what is wrong with an overridden hook, by calling its signature as the server will."""
    static = inspect.getattr_static(handler, name)
    if static is inspect.getattr_static(Lifecycle, name):
        return f"`{name}` is missing; `{Lifecycle.__name__}` itself has none" if name in ESSENTIAL else None
    if not inspect.isfunction(static):
        return f"`{name}` is not a method"
    if inspect.iscoroutinefunction(static) or inspect.isgeneratorfunction(static) or inspect.isasyncgenfunction(static):
        return f"`{name}` is a coroutine or a generator; hooks are plain methods"
    wanted = inspect.signature(inspect.getattr_static(Lifecycle, name))
    try:
        inspect.signature(static).bind(*wanted.parameters)
    except TypeError:
        names = ", ".join(wanted.parameters)
        return f"`{name}{inspect.signature(static)}` cannot be called as `{name}({names})`"
    return None
