"""The words of `docker run`, as the dev container's users know them, and where folders are laid."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from forge.cli.mounts_file import read_mounts
from forge.cli.surroundings import Surroundings, volume
from forge.core.errors import ForgeError, LoadError, UsageError
from forge.execution.docker_run import DockerRun
from forge.execution.mount import Mount, root_words

NEW, OLD = (1, 45), (1, 40)
PLAIN = ["docker", "run", "--rm", "--init", "--interactive"]
BARE = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]


def test_a_plain_run_has_a_root_to_read_only_and_no_capability() -> None:
    assert [*PLAIN, *BARE, "image"] == DockerRun("image").line(NEW)


GPUS = {
    "all, new": ("all", NEW, ["--gpus=all"]),
    "devices, new": ("0,1", NEW, ['--gpus="device=0,1"']),
    "one device, new": ("1", (2, 0), ['--gpus="device=1"']),
    "all, old": ("all", OLD, ["--runtime=nvidia", "--env=NVIDIA_VISIBLE_DEVICES=all"]),
    "devices, old": ("0,1", OLD, ["--runtime=nvidia", "--env=NVIDIA_VISIBLE_DEVICES=0,1"]),
    "none": ("", NEW, []),
}


@pytest.mark.parametrize(("gpus", "api", "words"), GPUS.values(), ids=GPUS)
def test_gpus_are_asked_for_as_the_engine_understands(gpus: str, api: tuple[int, int], words: list[str]) -> None:
    assert [*PLAIN, *BARE, *words, "image"] == DockerRun("image", gpus=gpus).line(api)


def test_every_value_is_one_word_whatever_is_in_it() -> None:
    run = DockerRun(
        "image",
        "name",
        ("sh", "-c", "echo $HOME; rm -rf '"),
        is_whole=True,
        env={"A": "b c; d"},
        secrets=("TOKEN",),
        mounts=(Mount("/a b,c", "/d"), Mount("/e", "/f", writable=False), Mount("cache", "/c")),
        publish=("127.0.0.1:1:2",),
        shm_size="16g",
        user="1:2",
        ulimits=("memlock=-1", "stack=67108864"),
        network="host",
        workdir="/w",
        has_terminal=True,
        labels={"l": "x"},
    )

    assert [
        *PLAIN, "--tty", "--name=name", "--label=l=x", *BARE,
        '--mount=type=bind,"source=/a b,c",target=/d', "--mount=type=bind,source=/e,target=/f,readonly",
        "--mount=type=volume,source=cache,target=/c", "--env=A=b c; d", "--env=TOKEN", "--network=host",
        "--shm-size=16g", "--user=1:2", "--ulimit=memlock=-1", "--ulimit=stack=67108864",
        "--publish=127.0.0.1:1:2", "--workdir=/w", "--entrypoint=sh", "image", "-c", "echo $HOME; rm -rf '",
    ] == run.line(NEW)  # fmt: skip


def mounts_file(tmp_path: Path, table: Any) -> Path:
    path = tmp_path / "mounts.json"
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    return path


def test_a_file_of_mounts_is_read_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    rows = [{"source": str(tmp_path), "destination": "/a"}, {"source": "~/data", "destination": "/b", "readonly": True}]
    found = read_mounts(mounts_file(tmp_path, {"Mounts": rows}))

    assert (Mount(str(tmp_path), "/a"), Mount(f"{tmp_path}/data", "/b", writable=False)) == found


FAULTS: dict[str, tuple[Any, str]] = {
    "missing source": (
        {"Mounts": [{"source": "/nowhere/x", "destination": "/x"}]},
        "Mounts[0]: `/nowhere/x` is not there",
    ),
    "relative source": ({"Mounts": [{"source": ".", "destination": "/x"}]}, "`.` is not there"),
    "no destination": ({"Mounts": [{"source": "/"}]}, "Mounts[0]: `destination` is missing"),
    "no source": ({"Mounts": [{"source": "/", "destination": "/r"}, {"destination": "/"}]}, "Mounts[1]: `source` is"),
    "relative destination": ({"Mounts": [{"source": "/", "destination": "x"}]}, "`x` is no absolute path"),
    "another key": ({"Mounts": [{"source": "/", "destination": "/x", "type": "b"}]}, "Unknown keys [type]"),
    "no table": ({"Mounts": ["/a:/b"]}, "Mounts[0]: `source` is missing"),
    "no list": ({"mounts": []}, "It has no list `Mounts`"),
    "no JSON": ('{"Mounts":\n[}', "mounts.json:2: Not JSON"),
}


@pytest.mark.parametrize(("table", "words"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_file_of_mounts_has_its_place(tmp_path: Path, table: Any, words: str) -> None:
    with pytest.raises(LoadError) as error:
        read_mounts(mounts_file(tmp_path, table))
    assert words in str(error.value)
    assert "mounts.json" in str(error.value)


def test_a_file_of_mounts_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="/nowhere/mounts.json"):
        read_mounts(Path("/nowhere/mounts.json"))


def flags(**given: Any) -> dict[str, Any]:
    several = dict.fromkeys(("volume", "ulimit", "publish"), ())
    one = ("docker", "mounts_file", "gpus", "shm_size", "user", "run_as_user", "network", "no_tty", "dry_run")
    return {**dict.fromkeys(one), **several, "executor": None, **given}


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"gpus": "all"}, "--gpus"),
        ({"shm_size": "1g"}, "--shm-size"),
        ({"user": "1"}, "--user"),
        ({"run_as_user": True}, "--run-as-user"),
        ({"ulimit": ("a=1",)}, "--ulimit"),
        ({"publish": ("1:1",)}, "--publish"),
        ({"network": "bridge"}, "--network"),
        ({"volume": ("name:/x",)}, "is a volume of Docker's"),
    ],
    ids=str,
)
def test_what_a_sandbox_cannot_do_names_the_flag_that_can(given: dict[str, Any], option: str) -> None:
    with pytest.raises(UsageError, match=option) as error:
        Surroundings.take(flags(**given), "local", {})
    assert "--docker" in str(error.value)
    assert Surroundings.take(flags(docker=True, **given), "local", {}).docker


def test_where_commands_run_in_containers_programs_do_too() -> None:
    assert not Surroundings.take(flags(), "local", {}).docker
    assert Surroundings.take(flags(), "docker", {}).docker
    assert Surroundings.take(flags(executor="docker"), "local", {}).docker
    assert not Surroundings.take(flags(docker=False), "docker", {}).docker


def test_the_caller_s_user_and_file_of_mounts(tmp_path: Path) -> None:
    path = mounts_file(tmp_path, {"Mounts": [{"source": "/", "destination": "/r"}]})
    given = flags(docker=True, run_as_user=True, volume=(f"{tmp_path}:/d:ro",))
    found = Surroundings.take(given, "local", {"FORGE_MOUNTS_FILE": str(path)})

    assert f"{os.getuid()}:{os.getgid()}" == found.user
    assert (Mount(str(tmp_path), "/d", writable=False), Mount("/", "/r")) == found.mounts
    assert "--user=" in " ".join(found.container("image").line(NEW))
    with pytest.raises(UsageError, match="two users"):
        Surroundings.take(flags(docker=True, run_as_user=True, user="1"), "local", {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/tmp", "is no SOURCE:TARGET"),
        ("/tmp:x", "is no SOURCE"),
        ("/tmp:/x:z", "is no SOURCE"),
        ("./no:/x", "not there"),
    ],
)
def test_a_wrong_volume_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        volume(text, docker=True)


def test_a_root_without_a_place_for_a_mount_is_taken_apart_as_far_as_needed(tmp_path: Path) -> None:
    for name in ("etc/ssl", "usr/bin", "opt"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/passwd").touch()
    (tmp_path / "bin").symlink_to("usr/bin")
    there, mount = str(tmp_path), Mount("/data", "/etc/app/data")
    root, last = root_words(tmp_path, (mount, Mount("/o", "/opt", writable=False)))

    assert [
        "--symlink", "usr/bin", "/bin", "--dir", "/etc", "--ro-bind", f"{there}/etc/passwd", "/etc/passwd",
        "--ro-bind", f"{there}/etc/ssl", "/etc/ssl", "--ro-bind", f"{there}/opt", "/opt",
        "--ro-bind", f"{there}/usr", "/usr",
    ] == root  # fmt: skip
    assert [
        "--bind", "/data", "/etc/app/data", "--ro-bind", "/o", "/opt", "--remount-ro", "/",
    ] == last  # fmt: skip
    assert (["--ro-bind", there, "/"], ["--bind", "/o", "/opt"]) == root_words(tmp_path, (Mount("/o", "/opt"),))
    with pytest.raises(ForgeError, match="name the place itself"):
        root_words(tmp_path, (Mount("/o", "/bin/x"),))
