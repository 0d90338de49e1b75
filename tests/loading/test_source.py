"""Files that targets name: found below the package, and nowhere else."""

from __future__ import annotations

import os

import pytest

from tests.fakes.workspace import FakeWorkspace

COMMAND = "[x]\nrule = 'command'\nouts = ['a']\nsrcs = [{}]\n"


@pytest.fixture
def package(workspace: FakeWorkspace) -> FakeWorkspace:
    for path in ("b.txt", "a.txt", "c.md", "d/e.txt", "d/f/g.txt", ".hidden.txt", "__pycache__/h.txt", "i[1].txt"):
        workspace.write(f"targets/pkg/{path}")
    return workspace


@pytest.mark.parametrize(
    ("srcs", "expected"),
    [
        ("'a.txt'", ["a.txt"]),
        ("'./a.txt'", ["a.txt"]),
        ("'b.txt', 'a.txt', 'b.txt'", ["b.txt", "a.txt"]),
        ("'d/e.txt'", ["d/e.txt"]),
        ("'?.txt'", ["a.txt", "b.txt"]),
        ("'*.md'", ["c.md"]),
        ("'**/*.txt'", ["a.txt", "b.txt", "d/e.txt", "d/f/g.txt", "i[1].txt"]),
        ("'d/**'", ["d/e.txt", "d/f/g.txt"]),
        ("'d/**/g.txt'", ["d/f/g.txt"]),
        ("'i[1].txt'", ["i[1].txt"]),
        ("'.hidden.txt'", [".hidden.txt"]),
    ],
)
def test_finds_files(package: FakeWorkspace, srcs: str, expected: list[str]) -> None:
    package.build(COMMAND.format(srcs))

    assert [each.path for each in package.target("//pkg:x").sources] == [f"targets/pkg/{name}" for name in expected]


@pytest.mark.parametrize(
    ("srcs", "fault"),
    [
        ("'none.txt'", "`none.txt` does not exist"),
        ("'*.none'", "`*.none` matches no file"),
        ("'d'", "`d` is not a regular file"),
        ("'.'", "`.` is not a regular file"),
        ("''", "`` must lie below the package's folder"),
        ("'../pkg/a.txt'", "`../pkg/a.txt` must lie below the package's folder"),
        ("'/etc/passwd'", "`/etc/passwd` must lie below the package's folder"),
        ("'d//e.txt'", "`d//e.txt` must lie below the package's folder"),
        ("3", "must be a list of files and globs"),
        ('"a\\u0000"', "embedded null byte"),
        ("'out'", "`out` leads out of the workspace"),
        ("'o*'", "`out` leads out of the workspace"),
        ("'loop'", "`loop` does not exist"),
        ("'dangling'", "`dangling` does not exist"),
        ("'pipe'", "`pipe` is not a regular file"),
        ("'p*'", "`pipe` is not a regular file"),
        (f"'{'n' * 300}'", "does not exist"),
    ],
)
def test_refuses_what_is_no_file_of_the_package(package: FakeWorkspace, srcs: str, fault: str) -> None:
    folder = package.root / "targets" / "pkg"
    outside = package.root.parent / "outside.txt"
    outside.touch()
    (folder / "out").symlink_to(outside)
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nothing")
    os.mkfifo(folder / "pipe")
    package.build(COMMAND.format(srcs))
    message = package.error("//pkg:x")

    assert message.startswith("targets/pkg/BUILD.toml:4: `srcs` of `command` target `//pkg:x`: ")
    assert fault in message


def test_a_list_is_a_list(package: FakeWorkspace) -> None:
    package.build("[x]\nrule = 'command'\nouts = ['a']\nsrcs = 'a.txt'\n")

    assert "`srcs` of `command` target `//pkg:x`: must be a list of files and globs" in package.error("//pkg:x")


def test_a_name_that_is_not_utf8_is_an_error(package: FakeWorkspace) -> None:
    (package.root / "targets/pkg" / b"bad\xff.bin".decode(errors="surrogateescape")).touch()
    package.build(COMMAND.format("'*.bin'"))

    assert r"`bad\udcff.bin` is a name that is not UTF-8" in package.error("//pkg:x")


def test_a_link_inside_the_workspace_is_followed(package: FakeWorkspace) -> None:
    (package.root / "targets/pkg/link.txt").symlink_to("a.txt")
    package.build(COMMAND.format("'link.txt'"))

    assert [each.path for each in package.target("//pkg:x").sources] == ["targets/pkg/link.txt"]


@pytest.mark.parametrize(
    ("handler", "fault"),
    [("'*.txt'", "`*.txt` must be one file, it is 3"), ("3", "must be the name of a file"), ("['a.txt']", "must be")],
)
def test_a_file_is_one_file(package: FakeWorkspace, handler: str, fault: str) -> None:
    package.build(f"[x]\nrule = 'compose'\nhandler = {handler}\nplatforms = ['cpu_llm_trf']\n")

    assert fault in package.error("//pkg:all")


def test_remembers_what_it_looked_at(package: FakeWorkspace) -> None:
    """A later build looks at these again to know that nothing has changed."""
    package.build(COMMAND.format("'a.txt', 'd/*'"))
    package.load("//pkg:x")
    folder = package.root / "targets/pkg"
    looked_at = {str(folder / name) for name in ("BUILD.toml", "a.txt", "d/e.txt")}

    assert (
        looked_at <= package.reader.files.keys() and {str(folder), str(folder / "d")} <= package.reader.folders.keys()
    )
