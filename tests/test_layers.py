"""Who may import whom (DESIGN section 3), and the limits of the house style, read from the sources."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.cli import main
from forge.execution import snapshot, store
from forge.execution.home import home_folder

ROOT = Path(__file__).parents[1]
PHASES = {"loading", "analysis", "execution", "remote", "oci", "packages", "deploy"}
ALLOWED = {
    "core": {"core"},
    "api": {"core", "loading", "analysis"},
    "net": {"core", "net"},
    "cli": {"core", "net", "cli", *PHASES},
    **{phase: {"core", phase} for phase in PHASES},
    **{library: {"core", "net", library} for library in ("oci", "packages", "remote")},
    "__main__": {"cli"},
    "__init__": set(),
}
"""Part of forge -> the parts that it may import."""
OUTSIDE = {
    "os", "io", "pathlib", "subprocess", "time", "datetime", "socket", "shutil", "tempfile", "random", "secrets",
    "threading", "asyncio", "sqlite3", "urllib", "http", "glob", "platform", "sys", "importlib", "fcntl", "signal",
}  # fmt: skip
"""Modules by which a program reaches what is not a value: disk, clock, network, environment."""
ACTIONS = "rules/actions/"
"""Programs that rules' actions run in the sandbox, each in a locked environment of its own."""
PRINTING = ("forge/cli/", ACTIONS, "runtime/forge_client/cli.py", "runtime/forge_runtime/harness.py")
"""The command lines, and what runs in the sandbox: what that prints is the log of its action."""
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("forge", "rules", "runtime")
    for path in (ROOT / folder).rglob("*.py")
)


def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(), module)


def imports(module: str) -> Iterator[str]:
    """Name every module that a module imports, wherever it does."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if node.module == "forge" else [str(node.module)]


def of(*folders: str) -> list[str]:
    return [module for module in MODULES if module.startswith(tuple(f"{folder}/" for folder in folders))]


@pytest.mark.parametrize("module", of("forge"))
def test_phases_import_core_and_themselves(module: str) -> None:
    part = module.removesuffix(".py").split("/")[1]
    parts = {name.split(".")[1] for name in imports(module) if name.startswith("forge.")}

    assert parts - ALLOWED[part] - {"__version__"} == set()


@pytest.mark.parametrize("module", [module for module in of("rules") if not module.startswith(ACTIONS)])
def test_rules_import_the_api_and_the_standard_library(module: str) -> None:
    names = {name for name in imports(module) if name.partition(".")[0] not in sys.stdlib_module_names}

    assert names - {"forge.api"} == set()


PURE = [
    module for module in of("rules", "forge/core", "forge/analysis", "forge/deploy") if not module.startswith(ACTIONS)
]


@pytest.mark.parametrize("module", PURE)
def test_what_is_pure_reaches_nothing_outside(module: str) -> None:
    assert {name.partition(".")[0] for name in imports(module)} & OUTSIDE == set()


@pytest.mark.parametrize("module", [*of("runtime"), *of("rules/actions")])
def test_what_runs_elsewhere_imports_nothing_of_forge(module: str) -> None:
    assert [name for name in imports(module) if name.partition(".")[0] == "forge"] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_three_hundred_lines_at_most(module: str) -> None:
    assert len((ROOT / module).read_text().splitlines()) <= 300


@pytest.mark.parametrize("module", [module for module in MODULES if not module.startswith(PRINTING)])
def test_only_programs_print(module: str) -> None:
    assert [
        node.lineno
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ] == []


def test_modules_are_called_by_what_they_are() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}

    assert [module for module in MODULES if vague & set(module.removesuffix(".py").split("/"))] == []


def test_core_and_its_no_op_path_agree_on_the_stamp() -> None:
    assert snapshot.STAMP_NS == store.STAMP * 10**9


@pytest.mark.parametrize(
    "environ",
    [
        {"FORGE_HOME": "/a/b"},
        {"FORGE_HOME": "/a/b/"},
        {"FORGE_HOME": "relative"},
        {"FORGE_HOME": "~/x", "HOME": "/h"},
        {"FORGE_HOME": "", "HOME": "/h"},
        {"XDG_CACHE_HOME": "/c", "HOME": "/h"},
        {"XDG_CACHE_HOME": "", "HOME": "/h"},
        {"HOME": "/h"},
        {},
    ],
    ids=str,
)
def test_the_no_op_path_finds_the_same_home(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORGE_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert main.home() == str(home_folder(environ))
