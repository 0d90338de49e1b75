"""Platforms over vendors' images: stand-ins are pushed to a registry, locked there by their digests, and built over."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import copy_workspace, need, run
from tests.e2e.layout import Layout
from tests.e2e.program import Forge, copy_code
from tests.e2e.test_base_image import REGISTRY, answers
from tests.e2e.test_lock import offer, read
from tests.net.test_download import open_site

pytestmark = [pytest.mark.e2e, pytest.mark.docker]

PREFIX = "vendor-e2e"
BASES = {
    "l4t_jetpack": ("nvcr.io/nvidia/l4t-jetpack:r36.4.0", "client_arm"),
    "pytorch_igpu": ("nvcr.io/nvidia/pytorch:24.12-py3-igpu", "client_arm"),
    "tensorrt_llm_jetson": ("docker.io/dustynv/tensorrt_llm:0.12-r36.4.0", "client_arm"),
    "tensorrt_llm": ("nvcr.io/nvidia/tensorrt-llm/release:1.2.1", "client"),
}
"""Environment -> the image that it names, and the image of this workspace that stands in for it."""
WHEELS = {
    "llama_cpp_python": "0.3.16",
    "torch": "2.8.0",
    "torchaudio": "2.8.0",
    "torchvision": "0.23.0",
    "vllm": "0.9.3",
}
"""What the Jetson's index has and this network has not."""
PLATFORMS = {
    "agx_orin_llm_trf": "pytorch_igpu",
    "agx_orin_llm_llama": "l4t_jetpack",
    "agx_orin_llm_vllm": "l4t_jetpack",
    "agx_orin_llm_trt": "tensorrt_llm_jetson",
    "gpu_llm_trt": "tensorrt_llm",
}
OVERRIDE = ("--override", "//gpt2:weights=//tiny_gpt2:weights")


@dataclass(frozen=True)
class Vendors:
    """A workspace in which all five are built, and the bases as they were pushed."""

    forge: Forge
    locks: Path
    bases: dict[str, Layout]

    def layout(self, platform: str) -> Layout:
        """A built image."""
        return Layout(self.forge.cwd / "forge-out/gpt2" / platform)


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    need("skopeo", shutil.which("skopeo") is not None)
    need(f"A registry at {REGISTRY}", answers())
    folder = tmp_path_factory.mktemp("vendors")
    checkout = copy_code(folder / "code")
    environments = checkout / "toolchains/environments.toml"
    # The stand-ins have digests of their own, which `forge lock` is to find.
    environments.write_text(re.sub(r'(?m)^digest = "sha256:.*\n', "", environments.read_text()))
    workspace = folder / "workspace"
    copy_workspace(workspace, whole=True)
    home = os.environ.get("FORGE_E2E_HOME")
    forge = Forge(checkout, workspace, {"FORGE_HOME": home} if home else {})
    bases = {}
    for name, (image, stand_in) in BASES.items():
        forge("build", f"//tiny_gpt2:{stand_in}")
        bases[name] = Layout(workspace / "forge-out/tiny_gpt2" / stand_in)
        goal = f"docker://{REGISTRY}/{PREFIX}/{image}"
        run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{bases[name].folder}", goal)
    index = folder / "jetson"
    index.mkdir()
    for wheel, version in WHEELS.items():
        write_wheel(index, wheel, version)
    declared = (workspace / "WORKSPACE.toml").read_text()
    registries = "".join(f'"{each}" = "http://{REGISTRY}/{PREFIX}/{each}"\n' for each in ("nvcr.io", "docker.io"))
    sources = f'{declared}\n[sources]\n"jetson-ai-lab" = "{index}"\n{registries}'
    with open_site() as site:
        offer(site, [read("agx_orin_llm_trt")])
        (workspace / "WORKSPACE.toml").write_text(f'{sources}pypi = "{site.address}/simple"\n')
        forge("lock", *(f"//toolchains:{each}" for each in (*BASES, "agx_orin_llm_llama", "agx_orin_llm_vllm")))
    (workspace / "WORKSPACE.toml").write_text(sources)
    forge("build", *(f"//gpt2:{each}" for each in PLATFORMS), *OVERRIDE)
    yield Vendors(forge, checkout / "toolchains/locks", bases)
    forge("clean")


@pytest.mark.parametrize("name", BASES)
def test_a_base_is_locked_by_the_digest_that_the_registry_gave(vendors: Vendors, name: str) -> None:
    (lock,) = vendors.locks.glob(f"{name}.*.image.toml")
    pushed = vendors.bases[name].index["manifests"][0]["digest"]

    assert f'digest = "{pushed}"' in lock.read_text()
    assert REGISTRY not in lock.read_text()
    assert "[[missing]]" not in lock.read_text()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_image_stands_on_its_base_byte_for_byte(vendors: Vendors, platform: str) -> None:
    below = [each["digest"] for each in vendors.bases[PLATFORMS[platform]].manifest["layers"]]
    layout = vendors.layout(platform)
    layers = [each["digest"] for each in layout.manifest["layers"]]
    config = json.loads((layout.folder / f"blobs/sha256/{layout.manifest['config']['digest'][7:]}").read_bytes())

    assert below == layers[: len(below)]
    assert len(layers) > len(below)
    assert ("arm64" if platform.startswith("agx") else "amd64") == config["architecture"]
    assert BASES[PLATFORMS[platform]][0] == layout.manifest["annotations"]["org.opencontainers.image.base.name"]
    assert "NVIDIA_VISIBLE_DEVICES=all" in config["config"]["Env"]


def test_platforms_of_one_base_share_its_layers(vendors: Vendors) -> None:
    llama, vllm = (
        [each["digest"] for each in vendors.layout(f"agx_orin_llm_{each}").manifest["layers"]]
        for each in ("llama", "vllm")
    )

    assert len(set(llama) & set(vllm)) >= len(vendors.bases["l4t_jetpack"].manifest["layers"])


def test_images_of_one_workspace_store_a_shared_layer_once(vendors: Vendors, tmp_path: Path) -> None:
    """Nine of //gpt2's fourteen platforms, each in a repository of its own; the others' layers have gigabytes."""
    platforms = (*PLATFORMS, *(f"{device}_llm_{engine}" for device in ("cpu", "arm") for engine in ("trf", "llama")))
    goal = f"--to={REGISTRY}/shared/{uuid.uuid4().hex[:12]}/{{platform}}"
    labels = [f"//gpt2:{each}" for each in platforms]
    vendors.forge("build", *labels, *OVERRIDE)
    manifests = [vendors.layout(each).manifest for each in platforms]
    named = [part for each in manifests for part in (each["config"], *each["layers"])]
    documents = sum(vendors.layout(each).index["manifests"][0]["size"] for each in platforms)
    once = sum({each["digest"]: each["size"] for each in named}.values())
    # What one image names twice is one blob there.
    all_ = sum(sum({p["digest"]: p["size"] for p in (m["config"], *m["layers"])}.values()) for m in manifests)

    def push(forge: Forge) -> list[dict[str, int]]:
        options = (goal, "--noreferrers", "--output=json", *OVERRIDE)
        return [row["bytes"] for row in forge("push", *labels, *options).table["images"]]

    first, again = push(vendors.forge), push(vendors.forge)
    changed = vendors.forge.elsewhere(tmp_path / "changed")
    with (changed.cwd / "targets/gpt2/handler.py").open("a") as file:
        file.write(f"# {uuid.uuid4()}\n")
    edited = push(changed)
    changed("clean")

    assert all_ > once + 10**8
    assert (once + documents, all_ - once) == (total(first, "sent"), total(first, "mounted"))
    assert (0, 0, all_ + documents) == tuple(total(again, each) for each in ("sent", "mounted", "there"))
    assert all(0 < each["sent"] < 100_000 for each in edited)


def total(rows: list[dict[str, int]], what: str) -> int:
    return sum(row[what] for row in rows)


def write_wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel with one module."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f'"""Stands in for {name}."""\n\n__version__ = "{version}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_hash(text)},{len(text.encode())}\n" for path, text in files.items())
    record += f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
