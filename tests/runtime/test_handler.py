"""The user's handler.py, refused at the start or used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge_runtime import BaseServer
from forge_runtime.config import ServerConfig
from forge_runtime.error import HandlerError
from forge_runtime.handler import load_handler


@pytest.fixture(autouse=True)
def paths() -> Iterator[None]:
    """Keep sys.path as it was: a handler's folder is put on it."""
    kept = list(sys.path)
    yield
    sys.path[:] = kept


def write(folder: Path, text: str) -> ServerConfig:
    (folder / "handler.py").write_text(text)
    return ServerConfig(handler="handler.py", app_dir=folder)


def test_a_handler_is_imported(tmp_path: Path) -> None:
    server = write(tmp_path, "from forge_runtime import BaseServer\nclass Handler(BaseServer): pass\n")

    assert load_handler(server).__name__ == "Handler"


def test_a_handler_may_be_of_another_lifecycle(tmp_path: Path) -> None:
    hooks = "    def decode(self, body, content_type): ...\n    def infer(self, request): ...\n"
    text = f"from forge_runtime import Lifecycle\nclass Handler(Lifecycle):\n{hooks}"

    assert not issubclass(load_handler(write(tmp_path, text)), BaseServer)


def test_a_handler_without_what_no_base_has_is_refused(tmp_path: Path) -> None:
    server = write(tmp_path, "from forge_runtime import Lifecycle\nclass Handler(Lifecycle): pass\n")

    with pytest.raises(HandlerError, match=r"`decode` is missing.*`infer` is missing"):
        load_handler(server)


def test_a_handler_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("from forge_runtime import BaseServer as Base\n")
    server = write(tmp_path, "from beside_it import Base\nclass Handler(Base): pass\n")

    assert issubclass(load_handler(server), BaseServer)


def test_without_a_handler_the_base_server_serves() -> None:
    assert load_handler(ServerConfig()) is BaseServer


HEAD = "from forge_runtime import BaseServer\nclass Handler(BaseServer):\n    "


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"Expected `class Handler\(BaseServer\)`"),
        ("class Handler: pass\n", r"Expected `class Handler\(BaseServer\)`"),
        ("Handler = 5\n", r"Expected `class Handler\(BaseServer\)`"),
        ("\nclass Handler(:\n", r"handler\.py:2: SyntaxError"),
        ("\nimport no_such_thing\n", r"handler\.py:2: ModuleNotFoundError: .*no_such_thing"),
        ("raise SystemExit(0)\n", r"handler\.py:1: SystemExit"),
        (HEAD + "def preprocess(self): ...\n", r"`preprocess\(self\)` cannot be called"),
        (HEAD + "def infer(self, a, b): ...\n", r"`infer\(self, a, b\)` cannot be called"),
        (HEAD + "def __init__(self): ...\n", r"`__init__\(self\)` cannot be called"),
        (HEAD + "async def infer(self, request): ...\n", "`infer` is a coroutine"),
        (HEAD + "def infer(self, request): yield 1\n", "`infer` is a coroutine or a generator"),
        (HEAD + "infer = 5\n", "`infer` is not a method"),
    ],
)
def test_a_handler_that_cannot_work_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(HandlerError, match=reason) as caught:
        load_handler(write(tmp_path, text))

    assert "\n" not in str(caught.value)


def test_other_names_of_arguments_are_fine(tmp_path: Path) -> None:
    server = write(tmp_path, HEAD + "def infer(self, batch, extra=1, *rest, **more): ...\n")

    assert load_handler(server).__name__ == "Handler"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HandlerError, match=r"handler\.py: No such file"):
        load_handler(ServerConfig(handler="handler.py", app_dir=tmp_path))
