"""The image in a real engine: loaded, run with nothing allowed, asked, stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import CANARIES, IMAGE, Built, need, run
from tests.e2e.service import Service, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.docker]


@dataclass(frozen=True)
class Container:
    """A container that serves."""

    name: str
    service: Service

    def inspect(self) -> Any:
        """What the engine says about it."""
        return json.loads(run("docker", "inspect", self.name))[0]


@pytest.fixture(scope="module")
def loaded(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image's id, after `forge image export --to=- | docker load`."""
    need("Docker's command", shutil.which("docker") is not None)
    need("A Docker engine", subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0)
    ref = f"forge-e2e-{os.getpid()}:export"
    line = built.forge.line(["image", "export", IMAGE, "--format=docker", "--to=-", f"--ref={ref}"])
    export = subprocess.Popen(line, cwd=built.forge.cwd, env=built.forge.variables(), stdout=subprocess.PIPE)
    load = subprocess.run(["docker", "load"], stdin=export.stdout, capture_output=True, text=True, check=False)
    assert (export.wait(), load.returncode) == (0, 0), load.stderr
    image = json.loads(run("docker", "image", "inspect", ref))[0]["Id"]
    yield image
    run("docker", "image", "rm", "--force", image)


@pytest.fixture(scope="module")
def container(loaded: str) -> Iterator[Container]:
    """A container without a writable file, without a capability, ready to answer."""
    service = Service(free_port())
    publish = f"127.0.0.1:{service.port}:3000"
    options = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--publish", publish]
    name = run("docker", "run", "--detach", *options, loaded).strip()
    found = Container(name, service)
    try:
        try:
            service.wait(lambda: found.inspect()["State"]["Running"])
        except AssertionError as error:
            logs = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=False)
            raise AssertionError(f"{error}\n{logs.stdout}{logs.stderr}") from error
        yield found
    finally:
        run("docker", "rm", "--force", "--volumes", name)


def test_the_engine_has_the_image_that_was_built(built: Built, loaded: str) -> None:
    found = json.loads(run("docker", "image", "inspect", loaded))[0]
    manifest = built.layout.index["manifests"][0]["digest"]

    # Docker's classic store calls an image by its config, the containerd store by its manifest.
    assert found["Id"] in (built.layout.manifest["config"]["digest"], manifest)
    assert found["RootFS"]["Layers"] == built.layout.config["rootfs"]["diff_ids"]
    assert found["Config"]["User"] == "65532:65532"


def test_it_answers_read_only_and_without_capabilities(
    container: Container, prompts: list[str], expected: dict[str, list[int]]
) -> None:
    found = container.service.infer(prompts)

    assert expected == {prompt: found[prompt]["token_ids"] for prompt in prompts}


def test_it_runs_as_nobody_in_particular(container: Container) -> None:
    status = Path(f"/proc/{container.inspect()['State']['Pid']}/status").read_text()
    ids = {
        line.split()[0]: set(line.split()[1:]) for line in status.splitlines() if line.startswith(("Uid", "Gid", "Cap"))
    }

    assert ids["Uid:"] == ids["Gid:"] == {"65532"}
    assert ids["CapEff:"] == ids["CapBnd:"] == {"0" * 16}
    assert container.inspect()["HostConfig"]["ReadonlyRootfs"] is True


def test_inspection_and_history_tell_nothing_of_the_builder(built: Built, loaded: str) -> None:
    said = run("docker", "image", "inspect", loaded) + run("docker", "history", "--no-trunc", loaded)
    own = json.dumps(json.loads(run("docker", "image", "inspect", "--format", "{{json .Config}}", loaded)))

    for text in (str(built.forge.cwd), str(built.home), str(built.forge.checkout), *CANARIES.values()):
        assert text not in said
    assert not re.search(r"(?i)(token|secret|passw|api_key|credential)", own)


def test_it_stops_when_told_to(container: Container) -> None:
    """The last test with the container: it is gone after it."""
    run("docker", "stop", "--time", "20", container.name)

    state = container.inspect()["State"]

    assert (state["Running"], state["ExitCode"], state["OOMKilled"]) == (False, 0, False)


def test_skopeo_agrees_on_the_digest(built: Built, tmp_path: Path) -> None:
    need("skopeo", shutil.which("skopeo") is not None)
    archive = tmp_path / "image.tar"
    built.forge("image", "export", IMAGE, "--format=oci", f"--to={archive}")
    digest = built.layout.index["manifests"][0]["digest"]

    inspected = json.loads(run("skopeo", "inspect", f"oci-archive:{archive}"))
    run("skopeo", "copy", "--preserve-digests", f"oci-archive:{archive}", f"dir:{tmp_path / 'copy'}")

    assert inspected["Digest"] == digest
    assert run("skopeo", "manifest-digest", str(tmp_path / "copy/manifest.json")).strip() == digest
    assert inspected["Layers"] == [row["digest"] for row in built.layout.layers]
