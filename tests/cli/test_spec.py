"""Specifications: what is known of a target without running anything."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.program import REPOSITORY, Forge

BUILD = """\
[x]
rule = "command"
srcs = ["in.txt", "run.sh"]
shell = "cat $SRCS > $OUT"
outs = ["x"]
env = { GREETING = "a\\nb" }

[y]
rule = "command"
deps = [":x"]
argv = ["/bin/cp", "$DEPS", "$OUT"]
outs = ["y/"]
"""


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    folder = tmp_path / "ws/targets/a"
    folder.mkdir(parents=True)
    (tmp_path / "ws/WORKSPACE.toml").write_text('[workspace]\nname = "demo"\n')
    (folder / "BUILD.toml").write_text(BUILD)
    (folder / "in.txt").write_text("1\n")
    (folder / "run.sh").write_text("2\n")
    (folder / "run.sh").chmod(0o755)
    return Forge(REPOSITORY, tmp_path / "ws", {"FORGE_HOME": str(tmp_path / "home")})


def spec(forge: Forge, label: str = "//a:y") -> dict[str, Any]:
    found: dict[str, Any] = forge("spec", label, "--output=json").table
    return found


def action(table: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (each for each in table["actions"] if each["name"] == name)
    return dict(found)


def test_an_action_is_all_that_it_is_made_of(forge: Forge) -> None:
    found = action(spec(forge), "//a:x#Command")

    assert ["/bin/sh", "-euc", "cat $SRCS > $OUT"] == found["argv"]
    assert ("a\nb", "targets/a/in.txt targets/a/run.sh") == (found["env"]["GREETING"], found["env"]["SRCS"])
    assert {"arch", "sandbox"} == set(found["properties"])
    assert [
        {
            "path": "targets/a/in.txt",
            "from": "workspace:targets/a/in.txt",
            "digest": "sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865",
        },
        {
            "path": "targets/a/run.sh",
            "from": "workspace:targets/a/run.sh",
            "digest": "sha256:53c234e5e8472b6ac51c1ae1cab3fe06fad053beb8ebfd8977b010655bfdd3c3 executable",
        },
    ] == found["inputs"]


def test_what_is_not_built_is_named_and_has_no_digest(forge: Forge) -> None:
    found = action(spec(forge), "//a:y#Command")

    assert (None, None) == (found["key"], found["root"]["digest"])
    assert [{"path": "a/x/x", "from": "//a:x#Command x", "digest": None}] == found["inputs"]
    assert [{"path": "y/", "digest": None}] == found["outputs"]


def test_the_first_step_from_a_material_has_its_key_before_it_is_fetched(forge: Forge) -> None:
    table = spec(forge)
    (material,) = table["materials"]
    unpack = next(each for each in table["actions"] if each["name"].endswith("#Unpack"))

    assert ("busybox-static", "debian") == (material["name"], material["source"])
    assert material["digest"] == unpack["inputs"][0]["digest"]
    assert unpack["key"] is not None


def test_two_machines_write_the_same(forge: Forge, tmp_path: Path) -> None:
    shutil.copytree(forge.cwd, tmp_path / "other/place")
    other = Forge(
        REPOSITORY, tmp_path / "other/place", {"FORGE_HOME": str(tmp_path / "home2"), "USER": "x", "TZ": "UTC"}
    )
    texts = [forge("spec", "//a:y").stdout, other("spec", "//a:y").stdout]

    assert texts[0] == texts[1]
    assert str(tmp_path) not in texts[0]
    assert forge("spec", "//a:y", "--output=json").stdout == other("spec", "//a:y", "--output=json").stdout


def test_a_difference_is_a_line(forge: Forge) -> None:
    before = set(forge("spec", "//a:x").stdout.splitlines())
    (forge.cwd / "targets/a/in.txt").write_text("changed\n")
    after = set(forge("spec", "//a:x").stdout.splitlines())

    assert 1 == len(after - before)
    assert (after - before).pop().startswith("    input targets/a/in.txt: sha256:")


def test_text_quotes_what_lines_would_not_hold(forge: Forge) -> None:
    lines = forge("spec", "//a:x").stdout.splitlines()

    assert "target //a:x: command" == lines[0]
    assert r'    env GREETING="a\nb"' in lines
    assert '    argv "cat $SRCS > $OUT"' in lines


def test_it_runs_and_writes_nothing_but_digests_of_sources(forge: Forge, tmp_path: Path) -> None:
    forge("spec", "//a:y")

    assert [] == list((tmp_path / "home/cas").iterdir()) + list((tmp_path / "home/ac").iterdir())
    assert not (forge.cwd / "forge-out").exists()


def test_an_unknown_label_is_an_error(forge: Forge) -> None:
    result = forge("spec", "//a:z", code=1)

    assert "Unknown target `//a:z`" in result.stderr
