"""How forge calls buildx, and what it makes of what buildx says; the program is a fake one."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from forge.core.digest import Digest
from forge.core.errors import ActionFailed, HostError
from forge.core.image_build import ImageBuild, Layout
from forge.core.tree import File, Tree
from forge.execution.buildx import Buildx, BuildxSettings
from forge.execution.process import ProcessGroup
from forge.execution.store import LocalStore
from tests.execution.fake_docker import install

BUILD = ImageBuild("acme-x-1", b"FROM base\n", ("linux/amd64",), 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The fake program's folder, with a layout that it builds."""
    install(tmp_path)
    blobs = tmp_path / "layout/blobs/sha256"
    blobs.mkdir(parents=True)
    (tmp_path / "layout/oci-layout").write_text("{}")
    (tmp_path / "layout/index.json").write_text("{}")
    (blobs / Digest.of(b"new").hash).write_bytes(b"new")
    return tmp_path


def buildx(folder: Path, settings: BuildxSettings = BuildxSettings(), **environ: str) -> Buildx:  # noqa: B008
    store = LocalStore(folder / "home")
    known = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **environ}
    return Buildx(store, settings, known, ProcessGroup(), folder / "logs")


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def test_the_layout_that_comes_out_is_in_the_store(folder: Path) -> None:
    runner = buildx(folder)
    made = runner.build(BUILD)

    assert list(made.entries) == [f"blobs/sha256/{Digest.of(b'new').hash}", "index.json", "oci-layout"]
    assert b"new" == runner.store.read(Digest.of(b"new"))
    assert "FROM base\n" == (folder / "dockerfile").read_text()


def test_a_blob_that_forge_has_is_not_read_again(folder: Path) -> None:
    runner = buildx(folder)
    known = runner.store.put(b"own")
    (folder / "layout/blobs/sha256" / known.hash).write_bytes(b"xxx")  # the right size; nobody looks
    made = runner.build(BUILD)

    assert File(known) == made.entries[f"blobs/sha256/{known.hash}"]
    assert b"own" == runner.store.read(known)


def test_a_blob_that_is_not_its_name_is_refused(folder: Path) -> None:
    (folder / "layout/blobs/sha256" / ("0" * 64)).write_bytes(b"xxx")

    with pytest.raises(Exception, match="expected"):
        buildx(folder).build(BUILD)


def test_contexts_are_folders_of_links(folder: Path) -> None:
    runner = buildx(folder)
    tree = Tree.of({"a/b": File(runner.store.put(b"x"))})
    runner.build(replace(BUILD, context=tree, contexts={"base": Layout(tree, Digest.of(b"m"))}))
    line = calls(folder)[-1]

    assert line[-1].endswith("/context-0")
    (context,) = (word for word in line if word.startswith("--build-context="))
    assert context.endswith(f"/context-1@{Digest.of(b'm').oci}") and "base=oci-layout:///" in context
    assert not Path(line[-1]).exists()


def test_builder_and_caches_are_passed_on(folder: Path) -> None:
    caches = BuildxSettings("mine", cache_from=("type=gha",), cache_to=("type=registry,ref=127.0.0.1:5000/c:{name}",))
    buildx(folder, caches).build(BUILD)

    assert calls(folder)[-1][:5] == [
        "buildx",
        "build",
        "--builder=mine",
        "--cache-from=type=gha",
        "--cache-to=type=registry,ref=127.0.0.1:5000/c:acme-x-1",
    ]


def test_a_builder_that_is_not_there_is_made_with_its_driver(folder: Path) -> None:
    options = (("namespace", "ci"), ("nodeselector", "a=b,c=d"))
    settings = BuildxSettings("mine", "kubernetes", options, "context")
    runner = buildx(folder, settings)
    runner.build(BUILD)
    runner.build(BUILD)

    assert [line[2:] for line in calls(folder) if line[1] == "create"] == [
        [
            "--driver=kubernetes",
            "--name=mine",
            "--driver-opt=namespace=ci",
            '--driver-opt="nodeselector=a=b,c=d"',
            "context",
        ]
    ]


def test_the_versions_are_those_of_all_that_has_a_hand_in_it(folder: Path) -> None:
    (folder / "builder").write_text("Name: x\nDriver: docker-container\nNodes:\nName: x0\nBuildKit version: v0.26.1\n")
    container = buildx(folder).version
    (folder / "builder").write_text("Driver: docker\nBuildkit: v0.26.1\n")

    assert "v0.30.1 docker-container v0.26.1" == container
    assert "v0.30.1 docker v0.26.1 28.0.1" == buildx(folder).version


def test_without_docker_there_is_no_version_and_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    runner = buildx(tmp_path, PATH="/nonexistent")

    assert "none" == runner.version
    with pytest.raises(HostError, match=r"there is no `docker`\n  hint: Install Docker with its plugin buildx"):
        runner.build(BUILD)


def test_a_failed_step_shows_its_log(folder: Path) -> None:
    (folder / "fail").write_text("#5 [2/2] RUN false\nERROR: failed to solve: exit code: 1\n")

    with pytest.raises(ActionFailed, match="buildx: failed to solve: exit code: 1") as error:
        buildx(folder).build(BUILD)
    assert "#5 [2/2] RUN false" in error.value.log


@pytest.mark.parametrize("text", ["Cannot connect to the Docker daemon at x", 'no builder "x" found'])
def test_a_builder_that_does_not_answer_is_the_machine_s_fault(folder: Path, text: str) -> None:
    (folder / "fail").write_text(f"ERROR: {text}\n")

    with pytest.raises(HostError, match=f"No builder answers: {text}"):
        buildx(folder).build(BUILD)


def test_a_secret_is_named_and_never_said(folder: Path) -> None:
    runner = buildx(folder, TOKEN="s3cret")
    runner.build(replace(BUILD, secrets=("TOKEN",)))

    assert "--secret=id=TOKEN,env=TOKEN" in calls(folder)[-1]
    assert "s3cret" not in (folder / "calls").read_text()
    assert "token is ***\n" == (folder / "logs/acme-x-1.log").read_text()


def test_a_secret_may_be_a_file(folder: Path) -> None:
    (folder / "a,b").write_text("s3cret\n")
    (folder / "fail").write_text("ERROR: it was s3cret\n")

    with pytest.raises(ActionFailed, match=r"it was \*\*\*"):
        buildx(folder, TOKEN_FILE=str(folder / "a,b")).build(replace(BUILD, secrets=("TOKEN",)))
    assert f'--secret=id=TOKEN,"src={folder}/a,b"' in calls(folder)[-1]


def test_a_secret_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(HostError, match=r"`TOKEN` is not there\n  hint: .*`TOKEN_FILE`"):
        buildx(folder).build(replace(BUILD, secrets=("TOKEN",)))
