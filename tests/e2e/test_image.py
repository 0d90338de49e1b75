"""The image's bytes, checked by code that shares nothing with what made them."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import tomllib
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.e2e.conftest import CANARIES, IMAGE, Built
from tests.e2e.layout import CONFIG, INDEX, MANIFEST, TAR, TAR_GZIP, Layer, Member, file_hash, flatten

pytestmark = pytest.mark.e2e

SECRET = re.compile(
    r"(?i)(token|secret|passw(or)?d|api[_-]?key|private[_-]?key|credential)"
    r"|hf_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE"
)
USER = "65532:65532"


@pytest.fixture(scope="module")
def needles(built: Built) -> frozenset[bytes]:
    """What tells where, by whom and on what an image was built."""
    places = [built.forge.cwd, built.home, built.forge.checkout, built.sandboxes.program]
    return frozenset(str(text).encode() for text in (*places, *CANARIES.values()))


@pytest.fixture(scope="module")
def layers(built: Built, needles: frozenset[bytes]) -> list[Layer]:
    """Every layer, read whole."""
    return built.layout.read_layers(needles)


@pytest.fixture(scope="module")
def tree(layers: list[Layer]) -> dict[str, Member]:
    """The flattened file system."""
    return flatten(layers)


def test_every_blob_is_what_its_name_says_and_all_are_used(built: Built) -> None:
    layout = built.layout
    (entry,) = layout.index["manifests"]
    descriptors = [entry, layout.manifest["config"], *layout.layers]
    files = {path.name: path for path in (layout.folder / "blobs/sha256").iterdir()}

    assert json.loads((layout.folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert {row["digest"] for row in descriptors} == {f"sha256:{name}" for name in files}
    assert {name: file_hash(path) for name, path in files.items()} == {name: name for name in files}
    assert [row["size"] for row in descriptors] == [layout.blob(row["digest"]).stat().st_size for row in descriptors]


def test_media_types(built: Built) -> None:
    layout = built.layout
    (entry,) = layout.index["manifests"]

    assert layout.index["schemaVersion"] == layout.manifest["schemaVersion"] == 2
    assert (layout.index["mediaType"], entry["mediaType"]) == (INDEX, MANIFEST)
    assert (layout.manifest["mediaType"], layout.manifest["config"]["mediaType"]) == (MANIFEST, CONFIG)
    assert {row["mediaType"] for row in layout.layers} == {TAR, TAR_GZIP}


def test_layers_are_what_the_manifest_and_the_diff_ids_say(built: Built, layers: list[Layer]) -> None:
    rootfs = built.layout.config["rootfs"]

    assert [layer.digest for layer in layers] == [row["digest"] for row in built.layout.layers]
    assert rootfs == {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    assert [layer.diff_id for layer in layers if layer.media_type == TAR] == [
        layer.digest for layer in layers if layer.media_type == TAR
    ]
    kept = [row for row in built.layout.config["history"] if not row.get("empty_layer")]
    assert len(kept) == len(layers)


def test_the_weights_lie_uncompressed_in_a_layer_of_their_own(built: Built, layers: list[Layer]) -> None:
    weights = built.weights.read_bytes()
    (layer,) = (each for each in layers if any(m.path.endswith(".safetensors") for m in each.members))
    files = [member for member in layer.members if member.kind == "file"]

    assert layer.media_type == TAR
    assert [member.path for member in files] == ["models/tiny_gpt2/model.safetensors"]
    assert files[0].value == file_hash(built.weights)
    assert weights in built.layout.blob(layer.digest).read_bytes()
    assert layer.size < len(weights) + 20_000


def test_the_configuration_is_alone_in_the_last_layer(layers: list[Layer]) -> None:
    assert [member.path for member in layers[-1].members if member.kind != "folder"] == ["etc/forge/config.json"]
    assert layers[-1].size < 1000


def test_what_the_service_imports_is_compiled_and_its_handler_is_not(tree: dict[str, Member]) -> None:
    """A handler is what people edit: the next build must not wait for its byte code."""
    compiled = {name for name in tree if name.endswith(".pyc")}

    for module in (
        "usr/lib/python3.11/json/__pycache__/__init__",
        "usr/local/lib/python3.11/dist-packages/transformers/__pycache__/__init__",
        "opt/forge/runtime/forge_runtime/__pycache__/config",
    ):
        assert f"{module}.cpython-311.pyc" in compiled
    assert not any(name.startswith("opt/forge/app") for name in compiled)


def test_the_service_is_what_the_image_runs(built: Built, tree: dict[str, Member]) -> None:
    config = built.layout.config
    path = "/".join(config["config"]["Entrypoint"][0].strip("/").split("/"))
    for _ in range(5):
        if tree[path].kind == "link":
            path = os.path.normpath(os.path.join(os.path.dirname(path), tree[path].value)).lstrip("/")

    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert tree[path].kind == "file" and tree[path].mode & 0o111
    assert config["config"]["WorkingDir"].strip("/") in tree
    assert config["config"]["User"] == USER
    assert list(config["config"]["ExposedPorts"]) == ["3000/tcp"]


def test_i03_nothing_tells_where_or_by_whom_it_was_built(
    built: Built, layers: list[Layer], needles: frozenset[bytes]
) -> None:
    layout = built.layout
    image = json.dumps([layout.index, layout.manifest, layout.config])
    said = image + built.sbom.decode()
    names = [socket.gethostname(), os.environ.get("USER", ""), Path.home().name]

    assert [layer.needles for layer in layers] == [frozenset()] * len(layers)
    assert [text for text in needles if text.decode() in said] == []
    assert [name for name in names if len(name) > 1 and re.search(rf"\b{re.escape(name)}\b", said)] == []
    assert SECRET.findall(image) == []  # the list has the package `tokenizers`
    assert not re.search(r'"(/tmp/(?!huggingface)[^"]+|/home/[^"]+|/root[^"]*)"', said)


def test_i02_entries_have_no_owner_no_time_and_no_special_rights(layers: list[Layer]) -> None:
    members = [member for layer in layers for member in layer.members]

    assert {member.kind for member in members} == {"file", "link", "folder"}
    assert {member.owner for member in members} == {(0, 0, "", "")}
    assert len({member.modified for member in members}) == 1
    assert [m.path for m in members if m.mode & (stat.S_ISUID | stat.S_ISGID)] == []
    assert [m.path for m in members if m.mode & stat.S_ISVTX] == ["tmp", "var/tmp"]
    assert {m.mode for m in members if m.kind == "file"} == {0o644, 0o755}
    assert {m.mode for m in members if m.kind == "folder"} == {0o755, 0o1777}


def test_temporary_files_have_a_place(tree: dict[str, Member]) -> None:
    assert (tree["tmp"].kind, tree["tmp"].mode) == ("folder", 0o1777)


def test_layers_are_sorted_and_name_nothing_twice(layers: list[Layer]) -> None:
    for layer in layers:
        paths = [member.path for member in layer.members]

        assert paths == sorted(set(paths))


def test_the_sandbox_of_tests_and_run_shows_the_same_file_system(built: Built, tree: dict[str, Member]) -> None:
    before = built.sandboxes.started()
    edit = built.forge.cwd / "targets/tiny_gpt2/smoke.json"
    edit.write_text(edit.read_text().replace('"counts"', '"counts requests"'))
    built.forge("test", "//tiny_gpt2:smoke")
    (started,) = built.sandboxes.started() - before
    root = built.sandboxes.roots(started)

    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}

    assert set(found) == set(tree)
    assert {name: _look(path) for name, path in found.items()} == {
        name: (m.kind, m.value, bool(m.mode & 0o111) if m.kind == "file" else None) for name, m in tree.items()
    }


def test_all_that_the_locks_name_is_listed_with_its_digest(built: Built) -> None:
    listed = json.loads(built.sbom)["components"]
    found = {
        (each["name"], each["version"], each["hashes"][0]["content"]) for each in listed if each["type"] == "library"
    }
    wanted = set()
    for name in ("python311.amd64.deb", "cpu_llm_trf.python"):
        lock = tomllib.loads((built.forge.checkout / f"toolchains/locks/{name}.toml").read_text())
        wanted |= {(each["name"], each["version"], each["sha256"]) for each in lock["package"]}

    assert found == wanted
    assert [each["name"] for each in listed if "pypi" in each.get("purl", "") and "licenses" not in each] == []


def test_the_list_has_the_files_of_the_model_as_they_are(built: Built) -> None:
    (model,) = (each for each in json.loads(built.sbom)["components"] if each["type"] == "machine-learning-model")

    assert {each["name"]: each["hashes"][0]["content"] for each in model["components"]} == {
        f"/models/tiny_gpt2/{path.name}": file_hash(path) for path in built.weights.parent.iterdir()
    }


def test_the_list_is_of_this_image_and_is_no_part_of_it(built: Built) -> None:
    about = json.loads(built.sbom)["metadata"]["component"]

    assert about["version"] == built.layout.index["manifests"][0]["digest"]
    assert built.forge("image", "sbom", IMAGE).stdout.encode() == built.sbom


def test_the_list_keeps_to_the_specification(built: Built) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(built.sbom.decode()) is None


def test_info_and_inspect_say_the_same(built: Built) -> None:
    inspected = built.forge("image", "inspect", IMAGE).table

    assert inspected["digest"] == built.layout.index["manifests"][0]["digest"]
    assert (inspected["manifest"], inspected["config"]) == (built.layout.manifest, built.layout.config)
    shown = built.forge("info", IMAGE).stdout
    assert re.findall(r"^(sha256:[0-9a-f]{64}) +(\d+)", shown, re.MULTILINE) == [
        (row["digest"], str(row["size"])) for row in built.layout.layers
    ]


def _look(path: Path) -> tuple[str, str, bool | None]:
    if path.is_symlink():
        return "link", os.readlink(path), None
    if path.is_dir():
        return "folder", "", None
    return "file", file_hash(path), bool(path.stat().st_mode & 0o111)
