"""An image over a vendor's: a stand-in is pushed to a real registry, locked there, pulled, and run by Docker."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.e2e.conftest import copy_workspace, need, run
from tests.e2e.layout import Layout
from tests.e2e.program import Forge

pytestmark = [pytest.mark.e2e, pytest.mark.docker]

REGISTRY = "127.0.0.1:5000"
BASE = "bases-e2e/mirror/acme/python"
IMAGE = "//load:board"
TOOLCHAINS = {
    "environments": '[vendor]\nplatforms = ["amd64"]\ntags = ["manual"]\nimage = "vendor.test/acme/python:3.11"\n',
    "board": '[device]\narch = "amd64"\n\n[board]\nbase = "vendor"\n',
}
BUILD = """
[loadgen]
rule = "client"
platforms = ["board"]

[images]
rule = "image"
apps = [":loadgen"]
name = "{platform}"
"""


@dataclass(frozen=True)
class Over:
    """The base as it was pushed, and what was built over it."""

    forge: Forge
    base: Layout

    @property
    def layout(self) -> Layout:
        """The image."""
        return Layout(self.forge.cwd / "forge-out/load/board")


@pytest.fixture(scope="module")
def over(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Over]:
    need("skopeo", shutil.which("skopeo") is not None)
    need(f"A registry at {REGISTRY}", answers())
    folder = tmp_path_factory.mktemp("bases")
    copy_workspace(folder / "makes_base", whole=True)
    home = os.environ.get("FORGE_E2E_HOME")
    environ = {"FORGE_HOME": home} if home else {}
    makes = Forge(checkout, folder / "makes_base", environ)
    makes("build", "//tiny_gpt2:client")
    base = folder / "makes_base/forge-out/tiny_gpt2/client"
    run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{base}", f"docker://{REGISTRY}/{BASE}:3.11")
    workspace = folder / "workspace"
    for name, text in TOOLCHAINS.items():
        write(workspace / f"toolchains/{name}.toml", text)
    write(workspace / "targets/load/BUILD.toml", BUILD)
    prefix = BASE.removesuffix("/acme/python")
    sources = f'[sources]\n"vendor.test" = "http://{REGISTRY}/{prefix}"\n'
    write(workspace / "WORKSPACE.toml", f'[workspace]\nname = "bases"\n\n{sources}')
    # A store of its own: everything of the base comes from the registry.
    forge = Forge(checkout, workspace, {"FORGE_HOME": str(folder / "home")})
    forge("lock", "//toolchains:vendor")
    forge("build", IMAGE)
    yield Over(forge, Layout(base))


def test_the_base_s_layers_are_the_same_blobs_lowest(over: Over) -> None:
    below = [each["digest"] for each in over.base.manifest["layers"]]
    layers = [each["digest"] for each in over.layout.manifest["layers"]]

    assert below == layers[: len(below)]
    assert 3 == len(layers) - len(below)


def test_the_image_names_its_base(over: Over) -> None:
    annotations = over.layout.manifest["annotations"]
    lock = (over.forge.cwd / "toolchains/locks/vendor.amd64.image.toml").read_text()

    assert "vendor.test/acme/python:3.11" == annotations["org.opencontainers.image.base.name"]
    assert f'digest = "{annotations["org.opencontainers.image.base.digest"]}"' in lock
    assert REGISTRY not in lock


def test_no_address_is_in_the_image(over: Over) -> None:
    files = [path for path in over.layout.folder.rglob("*") if path.is_file()]

    assert [path for path in files if REGISTRY.encode() in path.read_bytes()] == []


def test_docker_runs_it(over: Over, tmp_path: Path) -> None:
    need("Docker", shutil.which("docker") is not None)
    archive = tmp_path / "image.tar"
    over.forge("image", "export", IMAGE, "--format=docker", f"--to={archive}")
    run("docker", "load", "--input", str(archive))
    limits = ["--rm", "--network=none", "--read-only", "--cap-drop=ALL"]
    code = "import h11, os; print(h11.__name__, os.getuid(), os.environ['PYTHONPATH'])"
    try:
        helped = run("docker", "run", *limits, "bases/load:board", "--help")
        said = run("docker", "run", *limits, "--entrypoint=/usr/bin/python3", "bases/load:board", "-c", code)
    finally:
        run("docker", "image", "rm", "--force", "bases/load:board")

    assert "--concurrency" in helped
    assert "h11 65532 /opt/forge/runtime\n" == said


def test_what_was_fetched_is_built_without_a_network(over: Over) -> None:
    first = over.forge("build", IMAGE).digest(IMAGE)
    over.forge("clean")

    assert first == over.forge("build", "--offline", IMAGE).digest(IMAGE)


def test_a_digest_alone_gives_the_same_image(over: Over) -> None:
    """Where the registry could not be asked, the lock has no more."""
    first = over.forge("build", IMAGE).digest(IMAGE)
    lock = over.forge.cwd / "toolchains/locks/vendor.amd64.image.toml"
    whole = lock.read_text()
    lock.write_text(whole[: whole.index("[manifest]")])
    try:
        assert first == over.forge("build", IMAGE).digest(IMAGE)
    finally:
        lock.write_text(whole)


def test_its_file_system_is_one_tree(over: Over) -> None:
    result = over.forge("query", "--output=label", "deps(//load:board)")

    assert "//toolchains:vendor@amd64" in result.stdout
    over.forge("build", "//toolchains:board")
    root = over.forge.cwd / "forge-out/toolchains/board"
    assert (root / "usr/bin/python3").exists() and (root / "etc/passwd").is_file()


def answers() -> bool:
    try:
        with urlopen(f"http://{REGISTRY}/v2/", timeout=5) as answer:
            return bool(json.load(answer) == {})
    except OSError:
        return False


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
