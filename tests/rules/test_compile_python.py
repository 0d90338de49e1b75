"""What compiles Python modules, by itself."""

from __future__ import annotations

import importlib.util
import marshal
import os
import subprocess
import sys
from pathlib import Path
from types import CodeType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "rules/actions/compile_python.py"
MODULE = "NAMES = {{'a', 'b', 'module_{0}'}}\ndef value_{0}(x={0}):\n    return x in {{'c', 'd', {0}}}\n"


def compiled(folder: Path, processors: int = 1, seed: str = "0") -> dict[str, bytes]:
    """Run it on `folder/tree`; byte code by path."""
    (folder / "out/tree").mkdir(parents=True)
    free = sorted(os.sched_getaffinity(0))[:processors]
    argv = [sys.executable, str(SCRIPT), "/opt/x"]
    environ = {**os.environ, "PYTHONHASHSEED": seed}
    chosen = {"preexec_fn": lambda: os.sched_setaffinity(0, free)}
    done = subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, **chosen)  # type: ignore[call-overload]
    assert (done.returncode, done.stderr) == (0, "")
    out = folder / "out/tree"
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.pyc")}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_bytes_depend_on_the_modules_alone(tmp_path: Path) -> None:
    files = {f"pkg/m{number:03}.py": MODULE.format(number) for number in range(150)}
    one = write(tmp_path / "one", files)
    two = write(tmp_path / "a longer name", files)
    for path in two.rglob("*.py"):
        os.utime(path, (0, 0))

    found = compiled(one)

    assert len(found) == 150
    assert found == compiled(two, processors=2, seed="7")


def test_code_knows_its_place_and_never_looks_at_its_source(tmp_path: Path) -> None:
    tag = sys.implementation.cache_tag
    ((path, data),) = compiled(write(tmp_path, {"pkg/__init__.py": "x = 1\n"})).items()
    code = marshal.loads(data[16:])

    assert path == f"pkg/__pycache__/__init__.{tag}.pyc"
    assert data[:8] == importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little")
    assert isinstance(code, CodeType)
    assert code.co_filename == "/opt/x/pkg/__init__.py"


@pytest.mark.parametrize("text", ["print 'two'\n", "{% template %}\n", "# -*- coding: nowhere -*-\n", "x = '\0'\n"])
def test_what_is_no_python_is_left_out(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"a.py": text, "b.py": "x = 1\n", "c.txt": "x = 1\n"})
    (tmp_path / "tree/d.py").symlink_to("b.py")
    (tmp_path / "tree/e.py").mkdir()

    assert [path.partition(".")[0] for path in compiled(tmp_path)] == ["__pycache__/b"]


def test_a_tree_without_modules_gives_nothing(tmp_path: Path) -> None:
    assert compiled(write(tmp_path, {"a.txt": ""})) == {}
