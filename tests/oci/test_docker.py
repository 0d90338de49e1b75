"""Exports as Docker and skopeo take them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forge.core.tree import Tree
from forge.oci.export import export_docker, export_oci
from forge.oci.summary import summarize
from tests.fakes.store import MemoryStore
from tests.oci.sample import sound

pytestmark = pytest.mark.docker

REF = "forge_oci_test:export"


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout


def need(what: str, present: bool) -> None:
    if present:
        return
    if os.environ.get("FORGE_REQUIRE_DOCKER") == "1":
        pytest.fail(f"{what} is required and not there")
    pytest.skip(f"{what} is not there")


@pytest.fixture
def image() -> tuple[Tree, MemoryStore]:
    store = MemoryStore()
    return sound(store), store


@pytest.fixture
def loaded(image: tuple[Tree, MemoryStore], tmp_path: Path) -> Iterator[str]:
    need("Docker's command", shutil.which("docker") is not None)
    probe = subprocess.run(["docker", "version"], capture_output=True, timeout=20, check=False)
    need("A Docker engine", probe.returncode == 0)
    archive = tmp_path / "image.tar"
    with archive.open("wb") as out:
        export_docker(*image, out, REF)
    yield run("docker", "load", "--input", str(archive))
    run("docker", "image", "rm", "--force", REF)


def test_docker_loads_the_image_with_its_digest_and_config(image: tuple[Tree, MemoryStore], loaded: str) -> None:
    found: dict[str, Any] = json.loads(run("docker", "image", "inspect", REF))[0]
    summary = summarize(*image)

    assert REF in loaded
    # Docker's classic store calls an image by its config, the containerd store by its manifest.
    assert found["Id"] in (summary.config.oci, summary.manifest.oci)
    assert found["RootFS"]["Layers"] == [layer.diff_id for layer in summary.layers]
    assert found["Config"]["User"] == "65532:65532"
    assert found["Config"]["Env"] == ["PATH=/usr/bin", "LANG=C.UTF-8"]
    assert found["Config"]["Entrypoint"] == ["/usr/bin/python3", "-m", "forge_runtime"]


def test_docker_unpacks_every_layer(loaded: str, tmp_path: Path) -> None:
    container = run("docker", "create", REF).strip()
    try:
        run("docker", "export", "--output", str(tmp_path / "root.tar"), container)
    finally:
        run("docker", "rm", container)
    with tarfile.open(tmp_path / "root.tar") as archive:
        modes = {member.name: (member.mode, member.uid, member.mtime) for member in archive}

    assert modes["usr/bin/python3"] == (0o755, 0, 0)
    assert modes["tmp"][0] == 0o1777
    assert modes["opt/models/weights.bin"] == (0o644, 0, 0)
    assert "usr/share/gr\u00fc\u00dfe-\u65e5\u672c" in modes
    assert "usr/share/" + "n" * 180 in modes


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_skopeo_reads_it_and_keeps_digests(image: tuple[Tree, MemoryStore], tmp_path: Path, kind: str) -> None:
    need("skopeo", shutil.which("skopeo") is not None)
    archive, target = tmp_path / "image.tar", tmp_path / "copy"
    with archive.open("wb") as out:
        if kind == "oci-archive":
            export_oci(*image, out)
        else:
            export_docker(*image, out, REF)
    summary = summarize(*image)

    if kind == "oci-archive":
        run("skopeo", "copy", "--preserve-digests", f"{kind}:{archive}", f"oci:{target}:copy")
        assert json.loads((target / "index.json").read_text())["manifests"][0]["digest"] == summary.manifest.oci
    else:
        # The reader of this form decompresses; the config, and with it the diff ids, stays.
        run("skopeo", "copy", f"{kind}:{archive}", f"dir:{target}")
        found = json.loads((target / "manifest.json").read_text())
        assert found["config"]["digest"] == summary.config.oci
