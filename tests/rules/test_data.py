"""`data` of `compose` and `client`: files, and where they go."""

from __future__ import annotations

import json

import pytest

from tests.fakes.workspace import SERVER, FakeWorkspace

FILES = ("handler.py", "prompts.json", "assets/a.txt", "assets/deep/b.txt", "assets/deep/c.json", ".env")


@pytest.fixture
def package(workspace: FakeWorkspace) -> FakeWorkspace:
    for path in FILES:
        workspace.write(f"targets/pkg/{path}")
    return workspace


def placed(package: FakeWorkspace, data: str) -> list[str]:
    """Name the files that lie beside the handler."""
    package.build(f"{SERVER}data = {data}\n")
    (tree,) = [
        each
        for each in package.analyze("//pkg:server").actions.values()
        if each.description == "Gather handler and data //pkg:server@cpu_llm_trf"
    ]
    return [path for path in json.loads(tree.argv[-1])["place"].values() if path != "handler.py"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('["prompts.json", "assets/**"]', ["assets/a.txt", "assets/deep/b.txt", "assets/deep/c.json", "prompts.json"]),
        ('["assets"]', ["assets/a.txt", "assets/deep/b.txt", "assets/deep/c.json"]),
        ('["assets/*.txt"]', ["assets/a.txt"]),
        ('["assets", "assets/a.txt"]', ["assets/a.txt", "assets/deep/b.txt", "assets/deep/c.json"]),
        ('{ "prompts.json" = "conf/asked.json" }', ["conf/asked.json"]),
        ('{ "assets/deep/b.txt" = "conf/" }', ["conf/b.txt"]),
        ('{ "assets" = "static" }', ["static/a.txt", "static/deep/b.txt", "static/deep/c.json"]),
        ('{ "assets/deep/*.json" = "static" }', ["static/c.json"]),
        ('{ "assets/deep" = "." }', ["b.txt", "c.json"]),
    ],
)
def test_files_keep_their_structure_and_go_where_they_are_sent(
    package: FakeWorkspace, data: str, expected: list[str]
) -> None:
    assert placed(package, data) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('["nothing.txt"]', "`nothing.txt` does not exist"),
        ('["../other"]', "`../other` must lie below the package's folder"),
        ('{ "prompts.json" = "/etc/passwd" }', "`/etc/passwd` must be a path below the handler's folder"),
        ('{ "prompts.json" = "a/../../b" }', "`a/../../b` must be a path below the handler's folder"),
        ('{ "prompts.json" = "" }', "`` must be a path below the handler's folder"),
        ('{ "prompts.json" = 3 }', "must be a list of files, folders and globs, or a table that says where each goes"),
        ('"prompts.json"', "must be a list of files, folders and globs, or a table that says where each goes"),
        ('[".env"]', "`.env` of `//pkg:server@cpu_llm_trf` is where secrets are kept"),
        ('{ "prompts.json" = "x", "assets/a.txt" = "x" }', "`assets/a.txt` and another file of"),
        ('{ "prompts.json" = "handler.py" }', "both go to `handler.py`"),
    ],
)
def test_says_what_is_wrong(package: FakeWorkspace, data: str, expected: str) -> None:
    package.build(f"{SERVER}data = {data}\n")

    assert expected in package.error("//pkg:server", analyze=True)


def test_a_value_that_looks_like_a_token_is_refused_whatever_its_name(package: FakeWorkspace) -> None:
    package.build(f"{SERVER}env = {{ GREETING = 'hf_{'a' * 34}' }}\n")

    assert "`env.GREETING` of `//pkg:server@cpu_llm_trf` looks like a Hugging Face token" in package.error(
        "//pkg:server", analyze=True
    )


def test_i01_a_file_that_looks_like_a_secret_and_is_none_is_named(package: FakeWorkspace) -> None:
    assert [".env"] == placed(package, '[".env"]\nnot_secret = [".env"]')
