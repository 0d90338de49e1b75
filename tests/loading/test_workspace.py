from __future__ import annotations

import os
from pathlib import Path

import pytest

from forge.core.errors import LoadError, UsageError
from forge.loading.reader import Reader
from forge.loading.workspace import find_root, load_workspace

NAME = "[workspace]\nname = 'w'\n"


def test_has_defaults(tmp_path: Path) -> None:
    (tmp_path / "WORKSPACE.toml").write_text(NAME)
    found = load_workspace(tmp_path, Reader())

    assert (found.workspace.packages, found.workspace.rules, found.image.tag, found.sources) == (
        "targets", "rules", "{name}", {},
    )  # fmt: skip


def test_reads_every_table(tmp_path: Path) -> None:
    tables = """
        packages = 'services'
        [build]
        jobs = 2
        [build.ci]
        keep_going = true
        [image]
        repository = 'r'
        tag = '{package}-{name}.1'
        created = '2026-01-31T12:00:00+01:00'
        [push]
        repository = 'r.test/team/{package}'
        tag = '{label}_{platform}'
        [sources]
        pypi = 'https://a'
        hf = ['b', 'c']
        [remote]
        cache = 'x'
        """
    (tmp_path / "WORKSPACE.toml").write_text(NAME + tables)
    found = load_workspace(tmp_path, Reader())

    assert (found.workspace.packages, found.build, found.sources, found.image.tag) == (
        "services",
        {"jobs": 2, "ci": {"keep_going": True}},
        {"pypi": "https://a", "hf": ["b", "c"]},
        "{package}-{name}.1",
    )  # fmt: skip
    assert (found.remote.cache, found.remote.upload_local_results) == ("x", True)
    assert (found.push.repository, found.push.tag) == ("r.test/team/{package}", "{label}_{platform}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "WORKSPACE.toml: `WORKSPACE.toml` needs the attribute `workspace`"),
        ("[workspace]\n", "WORKSPACE.toml:1: `WORKSPACE.toml` needs the attribute `name`"),
        ("workspace = 3\n", "WORKSPACE.toml:1: `workspace` of `WORKSPACE.toml`: "),
        (
            NAME + "pakages = 'x'\n",
            "WORKSPACE.toml:3: Unknown attribute `pakages` of `WORKSPACE.toml`\n  hint: Did you mean `packages`?",
        ),
        (
            NAME + "[biuld]\n",
            "WORKSPACE.toml:3: Unknown attribute `biuld` of `WORKSPACE.toml`\n  hint: Did you mean `build`?",
        ),
        (
            NAME + "packages = '../x'\n",
            "WORKSPACE.toml:3: `workspace.packages` of `WORKSPACE.toml`: must be a folder of the workspace",
        ),
        (NAME + "packages = '/x'\n", "WORKSPACE.toml:3: `workspace.packages` of `WORKSPACE.toml`: must be a folder"),
        (NAME + "[image]\ntag = '{nmae}'\n", "WORKSPACE.toml:4: `image.tag` of `WORKSPACE.toml`: must be letters"),
        (NAME + "[image]\ntag = ''\n", "WORKSPACE.toml:4: `image.tag` of `WORKSPACE.toml`: must be letters"),
        (NAME + "[push]\ntag = '{x}'\n", "WORKSPACE.toml:4: `push.tag` of `WORKSPACE.toml`: must be letters"),
        (
            NAME + "[push]\nrepository = 'r.test/a b'\n",
            "WORKSPACE.toml:4: `push.repository` of `WORKSPACE.toml`: must be",
        ),
        (
            NAME + "[image]\ncreated = 'today'\n",
            "WORKSPACE.toml:4: `image.created` of `WORKSPACE.toml`: must be a time such as",
        ),
        (
            NAME + "[image]\ncreated = '2026-01-31T12:00:00'\n",
            "WORKSPACE.toml:4: `image.created` of `WORKSPACE.toml`: must name its time zone",
        ),
        (
            NAME + "[image]\nassembler = 'kaniko'\n",
            "WORKSPACE.toml:4: `image.assembler` of `WORKSPACE.toml`: input should be",
        ),
        (
            NAME + "[sources]\npypi = 3\n",
            "WORKSPACE.toml:4: `sources.pypi` of `WORKSPACE.toml`: must be text or a list",
        ),
        (NAME + "[sources]\npypi = [3]\n", "WORKSPACE.toml:4: `sources.pypi` of `WORKSPACE.toml`: must be text"),
        ("[workspace\n", "WORKSPACE.toml:1: Is not TOML"),
    ],
)
def test_says_what_is_wrong_and_where(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "WORKSPACE.toml").write_text(text)

    with pytest.raises(LoadError) as caught:
        load_workspace(tmp_path, Reader())

    assert str(caught.value).startswith(expected)


def test_is_found_from_any_folder_below(tmp_path: Path) -> None:
    (tmp_path / "WORKSPACE.toml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)

    assert find_root(tmp_path / "a" / "b") == tmp_path


def test_no_workspace_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_root(tmp_path)

    assert str(caught.value).startswith(f"No WORKSPACE.toml in `{tmp_path}` or above it\n  hint: ")


def test_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "WORKSPACE.toml").symlink_to("WORKSPACE.toml")

    with pytest.raises(LoadError, match="Cannot read: Too many levels of symbolic links"):
        load_workspace(tmp_path, Reader())


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "WORKSPACE.toml")

    with pytest.raises(LoadError, match="Is not a regular file"):
        load_workspace(tmp_path, Reader())


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(LoadError, match="Cannot list: Too many levels of symbolic links"):
        Reader().names(tmp_path / "loop")


def test_what_is_not_there_is_remembered_too(tmp_path: Path) -> None:
    reader = Reader()
    seen = (reader.read(tmp_path / "a"), reader.exists(tmp_path / "b"), reader.names(tmp_path / "c"))

    assert seen == (None, False, [])
    assert (set(reader.files.values()), reader.folders) == ({None}, {str(tmp_path / "c"): -1})
