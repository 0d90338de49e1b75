"""Bake files: what they say, and what buildx makes of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from forge.deploy.bake import BakeTarget, render_bake

DIGEST = f"sha256:{'ab' * 32}"
TARGETS = [
    BakeTarget("a-cpu", "acme/a:cpu", "out.layouts/a-cpu", DIGEST, ("amd64",)),
    BakeTarget("a-both", "acme/a:both", "out ${HOME} %{x}/a-both", DIGEST, ("amd64", "arm64")),
]


def test_all_images_are_the_default() -> None:
    table = json.loads(render_bake(TARGETS, epoch=0))

    assert {"default": {"targets": ["a-cpu", "a-both"]}} == table["group"]
    assert {"image": f"oci-layout://out.layouts/a-cpu@{DIGEST}"} == table["target"]["a-cpu"]["contexts"]


def test_caches_are_those_of_the_image() -> None:
    table = json.loads(render_bake(TARGETS, epoch=0, cache_from=["type=gha,scope={name}"], cache_to=["type=inline"]))

    assert ["type=gha,scope=acme-a-both"] == table["target"]["a-both"]["cache-from"]
    assert ["type=inline"] == table["target"]["a-both"]["cache-to"]


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode != 0,
    reason="No plugin buildx",
)
def test_buildx_reads_it_as_it_was_meant(tmp_path: Path) -> None:
    (tmp_path / "bake.json").write_text(render_bake(TARGETS, epoch=7, cache_to=["type=local,dest=a${HOME}%{b}"]))
    line = ["docker", "buildx", "bake", "--file=bake.json", "--print"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    both = json.loads(done.stdout)["target"]["a-both"]

    assert {"image": f"oci-layout://out ${{HOME}} %{{x}}/a-both@{DIGEST}"} == both["contexts"]
    assert ["linux/amd64", "linux/arm64"] == both["platforms"]
    assert {"SOURCE_DATE_EPOCH": "7"} == both["args"]
    assert "type=local,dest=a${HOME}%{b}" in both["cache-to"][0]
    assert "FROM image\n" == both["dockerfile-inline"]
