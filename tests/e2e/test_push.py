"""Real images in a real registry, and in a real engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import copy_workspace, edit, need, run
from tests.e2e.program import Forge
from tests.e2e.service import Service, free_port
from tests.e2e.test_platforms import EMULATED_SECONDS, PROMPTS

pytestmark = [pytest.mark.e2e, pytest.mark.docker]

REGISTRY = os.environ.get("FORGE_TEST_REGISTRY", "127.0.0.1:5000")
IMAGES = ("//tiny_gpt2:cpu_llm_trf", "//tiny_gpt2:llama")
MACHINE = ("--entrypoint", "/usr/bin/python3")
PROBE = ("/usr/bin/python3", "-c", "import os; print(os.getuid())")


@pytest.fixture(scope="module")
def forge(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """The repository's targets, in the store that `./check` has filled: llama.cpp is compiled once."""
    need("Docker's command", shutil.which("docker") is not None)
    try:
        urllib.request.urlopen(f"http://{REGISTRY}/v2/", timeout=5).close()
    except OSError:
        need("A registry", False)
    workspace = tmp_path_factory.mktemp("push") / "workspace"
    copy_workspace(workspace, whole=True)
    home = os.environ.get("FORGE_E2E_HOME")
    found = Forge(checkout, workspace, {"FORGE_HOME": home} if home else {})
    yield found
    found("clean")


@pytest.fixture
def repository() -> str:
    """A repository that nobody has used."""
    return f"{REGISTRY}/push/{uuid.uuid4().hex[:12]}"


def pushed(forge: Forge, repository: str, *labels: str) -> list[dict[str, Any]]:
    """Push; what is said of each image."""
    found: list[dict[str, Any]] = forge("push", *labels, f"--to={repository}", "--output=json").table["images"]
    return found


def total(rows: list[dict[str, Any]], what: str) -> int:
    return sum(row["bytes"][what] for row in rows)


def inspect(*words: str) -> Any:
    return json.loads(run("skopeo", "inspect", "--tls-verify=false", *words))


def test_a_second_push_sends_nothing_and_another_repository_is_mounted(forge: Forge, repository: str) -> None:
    first = pushed(forge, repository, *IMAGES)
    again = pushed(forge, repository, *IMAGES)
    other = pushed(forge, f"{repository}-other", *IMAGES)

    assert total(first, "sent") + total(first, "mounted") > 10**8
    assert (0, 0) == (total(again, "sent"), total(again, "mounted"))
    assert total(other, "mounted") > 10**8 and total(other, "sent") < 10**5  # manifests alone
    assert [row["digest"] for row in first] == [row["digest"] for row in other]


def test_one_line_of_a_handler_is_a_small_push(forge: Forge, repository: str, tmp_path: Path) -> None:
    pushed(forge, repository, IMAGES[0])
    changed = forge.elsewhere(tmp_path / "changed")
    with (changed.cwd / "targets/tiny_gpt2/handler.py").open("a") as file:
        file.write(f"# {uuid.uuid4()}\n")
    (row,) = pushed(changed, repository, IMAGES[0])
    changed("clean")

    assert 0 < row["bytes"]["sent"] < 100_000
    assert row["bytes"]["there"] > 10**8


def test_stock_tools_agree_on_an_index(forge: Forge, repository: str, tmp_path: Path) -> None:
    need("skopeo", shutil.which("skopeo") is not None)
    (row,) = pushed(forge, repository, IMAGES[1])
    name = f"docker://{repository}:llama"
    table = inspect("--raw", name)

    assert f"{repository}:llama" == row["reference"]
    assert row["digest"] == inspect(name)["Digest"]
    assert ["amd64", "arm64"] == [each["platform"]["architecture"] for each in table["manifests"]]
    for arch in ("amd64", "arm64"):
        assert arch == inspect("--override-arch", arch, name)["Architecture"]
    run("skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", name, f"oci:{tmp_path}/copy:x")
    (copied,) = json.loads((tmp_path / "copy/index.json").read_text())["manifests"]
    assert row["digest"] == copied["digest"]
    shown = json.loads(
        run("docker", "buildx", "imagetools", "inspect", f"{repository}:llama", "--format={{json .Manifest}}")
    )
    assert row["digest"] == shown["digest"]
    assert [each["digest"] for each in table["manifests"]] == [each["digest"] for each in shown["manifests"]]


def test_an_index_runs_on_both_of_its_machines_and_generates_the_same(forge: Forge, repository: str) -> None:
    """By the name alone, as the engine chooses; the second architecture is emulated."""
    pushed(forge, repository, IMAGES[1])
    name = f"{repository}:llama"
    try:
        found = {arch: tokens(name, arch) for arch in ("amd64", "arm64")}
    finally:
        run("docker", "image", "rm", "--force", name)

    assert {32} == {len(each) for each in found["amd64"].values()}
    assert found["amd64"] == found["arm64"]


def tokens(name: str, arch: str) -> dict[str, list[int]]:
    """Run an image of a registry, read-only and without capabilities; what it generates."""
    service = Service(free_port(), EMULATED_SECONDS)
    options = [f"--platform=linux/{arch}", "--read-only", "--cap-drop=ALL", f"--publish=127.0.0.1:{service.port}:3000"]
    # The engine keeps one platform of a name at a time.
    container = run("docker", "run", "--detach", "--quiet", "--pull=always", *options, name).strip()
    try:
        service.wait(lambda: bool(json.loads(run("docker", "inspect", container))[0]["State"]["Running"]))
        assert "65532" == run("docker", "exec", container, *PROBE).strip()
        return {prompt: service.infer([prompt])[prompt]["token_ids"] for prompt in PROMPTS}
    finally:
        run("docker", "rm", "--force", "--volumes", container)


def test_skopeo_takes_what_a_key_signed_and_nothing_else(forge: Forge, repository: str, tmp_path: Path) -> None:
    """By the policy that podman and cri-o have too; the key is of skopeo's making, in cosign's form."""
    need("skopeo", shutil.which("skopeo") is not None)
    (tmp_path / "password").write_text("secret")
    for key in ("key", "other"):
        made = f"--output-prefix={tmp_path}/{key}", f"--passphrase-file={tmp_path}/password"
        run("skopeo", "generate-sigstore-key", *made)
    sign = ("push", "//tiny_gpt2:client", f"--to={repository}", f"--sign-key={tmp_path}/key.private", "--output=json")
    first = forge(*sign, COSIGN_PASSWORD="secret").table["images"]
    again = forge(*sign, FORGE_SIGN_PASSWORD="secret").table["images"]
    trusted = forge("verify", f"{repository}:client", f"--key={tmp_path}/key.pub", "--output=json").table["images"]
    other = forge("verify", "//tiny_gpt2:client", f"--to={repository}", f"--key={tmp_path}/other.pub", code=1)

    assert (0, 0) == (total(again, "sent"), total(again, "mounted"))
    assert [(first[0]["digest"], ["https://slsa.dev/provenance/v1"])] == [(e["digest"], e["signed"]) for e in trusted]
    assert "has no signature by SHA256:" in other.stderr
    assert (0, 1) == (skopeo_copies(tmp_path, "key", repository), skopeo_copies(tmp_path, "other", repository))


def skopeo_copies(folder: Path, key: str, repository: str) -> int:
    """Copy an image under a policy that wants its signature; skopeo's exit code."""
    wanted = {"type": "sigstoreSigned", "keyPath": f"{folder}/{key}.pub", "signedIdentity": {"type": "matchRepository"}}
    policy = {"default": [{"type": "reject"}], "transports": {"docker": {REGISTRY: [wanted]}}}
    (folder / "policy.json").write_text(json.dumps(policy))
    (folder / "registries.d").mkdir(exist_ok=True)
    (folder / "registries.d/x.yaml").write_text(f'{{docker: {{"{REGISTRY}": {{use-sigstore-attachments: true}}}}}}')
    argv = ["skopeo", f"--policy={folder}/policy.json", f"--registries.d={folder}/registries.d", "copy"]
    argv += ["--remove-signatures", "--src-tls-verify=false", f"docker://{repository}:client", f"oci:{folder}/{key}:x"]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode


def test_what_is_known_about_an_image_is_found_by_its_digest(forge: Forge, repository: str) -> None:
    (row,) = pushed(forge, repository, IMAGES[0])
    path = repository.removeprefix(f"{REGISTRY}/")

    def get(part: str) -> Any:
        request = urllib.request.Request(f"http://{REGISTRY}/v2/{path}/{part}")
        request.add_header("Accept", "application/vnd.oci.image.index.v1+json")
        request.add_header(
            "Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    listed = get(f"manifests/{row['digest'].replace(':', '-')}")["manifests"]
    documents = {}
    for each in listed:
        manifest = get(f"manifests/{each['digest']}")
        assert row["digest"] == manifest["subject"]["digest"]
        documents[each["artifactType"]] = get(f"blobs/{manifest['layers'][0]['digest']}")
    sbom, provenance = documents["application/vnd.cyclonedx+json"], documents["application/vnd.in-toto+json"]

    said = json.dumps([sbom, provenance, listed])
    assert not re.search(r'"(/tmp/(?!huggingface)|/home/|/root)|\b(' + re.escape(socket.gethostname()) + r")\b", said)
    assert str(forge.cwd) not in said
    assert row["digest"] == sbom["metadata"]["component"]["version"]
    assert row["digest"] == f"sha256:{provenance['subject'][0]['digest']['sha256']}"
    names = {each["uri"] for each in provenance["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert "workspace:targets/tiny_gpt2/handler.py" in names
    assert any(":torch-" in name for name in names)


def test_an_engine_is_loaded_with_what_it_lacks(forge: Forge, tmp_path: Path) -> None:
    names = [f"forge-push-test/{uuid.uuid4().hex[:8]}:{number}" for number in range(2)]
    changed = forge.elsewhere(tmp_path / "changed")
    edit(changed.cwd / "targets/tiny_gpt2/BUILD.toml", "temperature = 0.7", f"temperature = 0.{uuid.uuid4().int}")
    try:
        assert [names[0]] == forge("load", IMAGES[0], f"--ref={names[0]}").stdout.split()
        second = changed("load", IMAGES[0], f"--ref={names[1]}")
        sized = second.stderr.rpartition("loaded: ")[2]
        script = "print(open('/etc/forge/config.json').read())"
        seen = run("docker", "run", "--rm", "--network=none", *MACHINE, names[1], "-c", script)
    finally:
        for name in names:
            run("docker", "image", "rm", "--force", name)
        changed("clean")

    assert "temperature" in seen and '"temperature": 0.7' not in seen
    assert not sized.partition(" of layers")[0].endswith("MB"), "the layers with torch went over again"
