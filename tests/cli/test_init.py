"""New workspaces: all their files or none, and a launcher with forge's own wheel."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from forge.cli.own_wheel import FILE, pack
from forge.cli.scaffold import NewFile, new_files, write
from forge.core.errors import UserError
from tests.e2e.program import REPOSITORY, Forge


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(REPOSITORY, tmp_path)


def test_a_new_workspace_loads(forge: Forge, tmp_path: Path) -> None:
    made = forge("init", "shop")
    inside = Forge(REPOSITORY, tmp_path / "shop")

    assert sorted(f"shop/{path}" for path in tree(tmp_path / "shop")) == made.stdout.splitlines()
    assert "Next: cd shop && ./forgew build //...\n" == made.stderr
    assert "//hello:cpu_onnx" in inside("query", "//...").stdout.split()
    assert 0 == inside("lock", "--check").code


@pytest.mark.parametrize(
    ("folder", "arguments", "name"),
    [
        ("My Shop!", (), "my-shop"),
        ("größe", (), "gr-e"),
        ("...", ("--name", "a.b_c-1"), "a.b_c-1"),
        ("日本", (), "workspace"),
    ],
)
def test_it_is_called_as_images_can_be(
    forge: Forge, tmp_path: Path, folder: str, arguments: tuple[str, ...], name: str
) -> None:
    forge("init", folder, *arguments)
    table = tomllib.loads((tmp_path / folder / "WORKSPACE.toml").read_text())

    assert {"workspace": {"name": name}} == table


@pytest.mark.parametrize("name", ["Shop", "a b", "", "-a", "a--b", "a/b", 'a"'])
def test_other_names_are_refused(forge: Forge, tmp_path: Path, name: str) -> None:
    result = forge("init", "shop", f"--name={name}", code=2)

    assert f"error: `{name}` cannot be the name of a workspace\n  hint: " in result.stderr
    assert [] == list(tmp_path.iterdir())


def test_a_dry_run_lists_and_writes_nothing(forge: Forge, tmp_path: Path) -> None:
    result = forge("init", "shop", "--dry-run")

    assert [] == list(tmp_path.iterdir())
    assert forge("init", "shop").stdout == result.stdout


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["write", "dry run"])
def test_nothing_is_overwritten_and_all_that_is_in_the_way_is_named(
    forge: Forge, tmp_path: Path, more: tuple[str, ...]
) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "requirements").write_text("mine, too")
    (tmp_path / "WORKSPACE.toml").symlink_to("nowhere")
    result = forge("init", *more, code=1)

    assert (
        "error: `.` has [README.md, WORKSPACE.toml, requirements] already, and nothing is overwritten" in result.stderr
    )
    assert {"README.md", "requirements", "WORKSPACE.toml"} == tree(tmp_path)
    assert "mine" == (tmp_path / "README.md").read_text()


def test_a_folder_with_other_files_becomes_a_workspace(forge: Forge, tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("mine")
    result = forge("init")

    assert {"LICENSE", *result.stdout.splitlines()} == tree(tmp_path)


def test_what_fails_halfway_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    files = {"a/b/c": NewFile(b"1"), "d": NewFile(b"2"), "a/é\0": NewFile(b"3")}

    with pytest.raises(ValueError, match="null byte"):
        write(tmp_path, files)

    assert ["mine"] == os.listdir(tmp_path)


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    class Late(dict[str, NewFile]):
        """Somebody makes one of the files after all were looked for."""

        def items(self):  # type: ignore[no-untyped-def]
            (tmp_path / "b").write_text("mine")
            return super().items()

    with pytest.raises(UserError, match="has just been made by somebody else"):
        write(tmp_path, Late({"a": NewFile(b"1"), "b": NewFile(b"2")}))

    assert (["b"], "mine") == (os.listdir(tmp_path), (tmp_path / "b").read_text())


def test_a_folder_that_may_not_be_written_is_this_machine_s_fault(forge: Forge, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = forge("init", "file/shop", code=36)

    assert result.stderr.startswith("error: ")


def test_files_say_nothing_of_the_machine_that_made_them(forge: Forge, tmp_path: Path) -> None:
    forge("init", "shop")
    texts = [path.read_bytes() for path in (tmp_path / "shop").rglob("*") if path.is_file()]

    assert [] == [text[:80] for text in texts if str(REPOSITORY).encode() in text or str(tmp_path).encode() in text]


def test_the_lock_names_the_wheel_beside_it(tmp_path: Path) -> None:
    files = new_files("shop")
    lock = files["requirements/forge.lock"].data.decode()
    digest = hashlib.sha256(files[f"requirements/{FILE}"].data).hexdigest()
    own = (REPOSITORY / "requirements/forge.lock").read_text()

    assert lock.startswith(own.rstrip("\n"))
    assert f" \\\n    --hash=sha256:{digest}\n" == lock[lock.index("forge-build==") :].partition("linux'")[2]
    assert files["forgew"].executable


def test_the_wheel_repeats_and_its_record_holds() -> None:
    data = pack()
    archive = zipfile.ZipFile(io.BytesIO(data))
    names = archive.namelist()
    record = next(name for name in names if name.endswith(".dist-info/RECORD"))
    rows = [line.rsplit(",", 2) for line in archive.read(record).decode().splitlines()]

    assert data == pack()
    assert sorted(names) == sorted(row[0] for row in rows)
    assert [] == [row[0] for row in rows if row[2] and int(row[2]) != len(archive.read(row[0]))]
    assert [] == [name for name in names if "__pycache__" in name or "/." in name]


def test_the_wheel_holds_what_the_built_one_does() -> None:
    """What hatchling is told to put in, without a build."""
    target = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    names = zipfile.ZipFile(io.BytesIO(pack())).namelist()
    wanted = [*target["force-include"].values(), *(path.rpartition("/")[2] for path in target["packages"])]

    assert [] == [each for each in wanted if not any(f"{name}/".startswith(f"{each}/") for name in names)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as an installer does: for a wheel of pure Python that is all."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(io.BytesIO(pack())).extractall(folder)
    return folder


def test_forge_out_of_its_wheel_makes_the_same_wheel(installed: Path, tmp_path: Path) -> None:
    forge = Forge(installed, tmp_path)
    forge("init", "shop")
    inside = Forge(installed, tmp_path / "shop")

    assert pack() == (tmp_path / "shop/requirements" / FILE).read_bytes()
    assert "//hello:smoke@cpu_onnx" in inside("query", "//...").stdout.split()
    assert "complete -o nosort" in inside("completion", "bash").stdout


def test_the_model_is_learnt_and_speaks_fahrenheit(forge: Forge, tmp_path: Path) -> None:
    forge("init", "shop")
    script = tmp_path / "shop/targets/hello/make_model.py"
    done = subprocess.run(
        [sys.executable, "-I", script, "--out", tmp_path / "out"], capture_output=True, text=True, check=True
    )

    assert "fahrenheit = 1.800 * celsius + 32.000\n" == done.stdout
    assert (tmp_path / "out/model.onnx").stat().st_size > 100
    assert json.loads((tmp_path / "shop/targets/hello/smoke.json").read_text())


WORKFLOWS = {"github": ".github/workflows/forge.yml", "gitlab": ".gitlab-ci.yml"}


def steps(service: str, table: dict[str, Any]) -> list[str]:
    """List the lines that a workflow has its shell run."""
    if service == "gitlab":
        return list(table["forge"]["script"])
    return [step["run"] for step in table["jobs"]["forge"]["steps"] if "run" in step]


@pytest.mark.parametrize("service", WORKFLOWS)
def test_a_workflow_comes_with_a_new_workspace_or_to_one(forge: Forge, tmp_path: Path, service: str) -> None:
    forge("init", "shop")
    made = forge("init", "shop", f"--ci={service}").stdout.splitlines()
    with_it = forge("init", "other", f"--ci={service}").stdout.splitlines()

    assert [f"shop/{WORKFLOWS[service]}"] == made
    assert {f"other/{WORKFLOWS[service]}", "other/WORKSPACE.toml"} <= set(with_it)
    assert "already" in forge("init", "shop", f"--ci={service}", code=1).stderr


@pytest.mark.parametrize("service", WORKFLOWS)
def test_a_workflow_calls_commands_that_there_are(forge: Forge, tmp_path: Path, service: str) -> None:
    forge("init", "shop", f"--ci={service}")
    table = yaml.safe_load((tmp_path / "shop" / WORKFLOWS[service]).read_text())
    lines = [shlex.split(line) for line in steps(service, table) if line.startswith("./forgew")]
    commands = {line[1] for line in lines}

    assert {"lock", "build", "test"} == commands
    for line in lines:
        known = forge(line[1], "--help").stdout
        assert [] == [word for word in line[2:] if word.startswith("--") and word.partition("=")[0] not in known]


def test_github_lets_the_main_branch_write_the_cache_and_nobody_else(forge: Forge, tmp_path: Path) -> None:
    forge("init", "shop", "--ci=github")
    table = yaml.safe_load((tmp_path / "shop" / WORKFLOWS["github"]).read_text())
    found = {step["uses"]: step for step in table["jobs"]["forge"]["steps"] if "uses" in step}
    save = found["actions/cache/save@v4"]

    assert {"contents": "read"} == table["permissions"]
    assert "github.event_name == 'push'" in save["if"] and "default_branch" in save["if"]
    assert save["with"]["path"] == found["actions/cache/restore@v4"]["with"]["path"]
    assert "${{ !cancelled() }}" == found["actions/upload-artifact@v4"]["if"]
    assert all(name.startswith("actions/") for name in found)


def test_no_text_of_an_event_gets_into_a_shell(forge: Forge, tmp_path: Path) -> None:
    forge("init", "shop", "--ci=github")
    table = yaml.safe_load((tmp_path / "shop" / WORKFLOWS["github"]).read_text())

    assert [] == [line for line in steps("github", table) if "${{" in line]


def test_gitlab_lets_the_main_branch_write_the_cache_and_nobody_else(forge: Forge, tmp_path: Path) -> None:
    forge("init", "shop", "--ci=gitlab")
    table = yaml.safe_load((tmp_path / "shop" / WORKFLOWS["gitlab"]).read_text())
    policies = {rule["if"]: rule["variables"]["FORGE_CACHE_POLICY"] for rule in table["workflow"]["rules"]}

    assert {
        "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH": "pull-push",
        '$CI_PIPELINE_SOURCE == "merge_request_event"': "pull",
    } == policies
    assert "$FORGE_CACHE_POLICY" == table["forge"]["cache"]["policy"]
    assert len(table["forge"]["cache"]["key"]["files"]) <= 2  # no more are read
    assert "always" == table["forge"]["artifacts"]["when"]
