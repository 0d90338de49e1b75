"""The tool `image`, and that its bytes stay what they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import File, Tree
from forge.oci import document, image, model_layers
from forge.oci.flatten import flatten
from forge.oci.image import IMAGE_VERSION
from forge.oci.layer import LAYER_VERSION
from forge.oci.mediatype import LAYER
from forge.oci.summary import summarize
from tests.fakes.store import MemoryStore
from tests.oci.handmade import member, tar
from tests.oci.sample import PARAMS, base, digests, make_image, make_layer, sound

GOLDEN = Path(__file__).parent / "golden" / "digests.json"
ROOT = Path(__file__).parents[2]


def test_the_bytes_of_this_version_are_the_golden_ones() -> None:
    """When this fails, count up LAYER_VERSION or IMAGE_VERSION, or old cache entries stand for new bytes."""
    golden = json.loads(GOLDEN.read_text())

    assert golden[f"layer {LAYER_VERSION}, image {IMAGE_VERSION}"] == digests()


@pytest.mark.parametrize(
    "environment",
    [
        {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
        {"TZ": "UTC", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "77", "SOURCE_DATE_EPOCH": "1234567890"},
    ],
    ids=["east, C", "Turkish"],
)
def test_the_environment_does_not_matter(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.oci.sample"]
    environment = {**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, umask=0o077, check=True, capture_output=True)

    assert json.loads(done.stdout) == digests()


def documents(store: MemoryStore, layout: Tree) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    summary = summarize(layout, store)
    index = layout.entries["index.json"]
    assert isinstance(index, File)
    index_, manifest, config = (json.loads(store.read(one)) for one in (index.digest, summary.manifest, summary.config))
    return index_, manifest, config


def test_the_config_says_what_the_parameters_say() -> None:
    store = MemoryStore()
    layout = sound(store)
    _, _, config = documents(store, layout)
    diff_ids = [layer.diff_id for layer in summarize(layout, store).layers]

    assert config == {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": "65532:65532",
            "Env": ["PATH=/usr/bin", "LANG=C.UTF-8"],
            "Entrypoint": ["/usr/bin/python3", "-m", "forge_runtime"],
            "Cmd": ["serve"],
            "WorkingDir": "/opt/forge/app",
            "ExposedPorts": {"3000/tcp": {}},
            "Labels": {"io.forge.platform": "cpu_llm_trf"},
            "StopSignal": "SIGTERM",
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": f"layer {n}"} for n in (0, 1)],
    }


def test_the_index_names_the_image_and_its_machine() -> None:
    store = MemoryStore()
    layers = [make_layer(store, base(store))]
    index, _, config = documents(store, make_image(store, layers, architecture="arm64", variant="v8"))

    named = index["manifests"][0]
    assert named["annotations"] == {"org.opencontainers.image.ref.name": "tiny_gpt2:cpu_llm_trf"}
    assert named["platform"] == {"architecture": "arm64", "os": "linux", "variant": "v8"}
    assert config["variant"] == "v8"


def test_the_manifest_carries_annotations() -> None:
    store = MemoryStore()
    _, manifest, _ = documents(store, sound(store))

    assert manifest["annotations"] == {
        "org.opencontainers.image.created": "1970-01-01T00:00:00Z",
        "org.opencontainers.image.title": "tiny_gpt2",
    }


def test_the_output_digest_names_manifest_and_config() -> None:
    store = MemoryStore()
    made = make_layer(store, base(store))
    inputs: dict[str, Content] = {"layer.0": made["layer"], "descriptor.0": made["descriptor"]}
    out = image.assemble(ToolRequest({**PARAMS, "history": ["x"]}, inputs, store))
    content = out["digest"]
    assert isinstance(content, FileContent)
    summary = summarize(make_image(store, [made], history=["x"]), store)

    assert json.loads(store.read(content.digest)) == {
        "manifest": summary.manifest.oci,
        "size": summary.manifest.size,
        "config": summary.config.oci,
        "platform": {"architecture": "amd64", "os": "linux"},
    }


def test_one_layer_twice_is_one_blob() -> None:
    store = MemoryStore()
    made = make_layer(store, base(store))
    layout = make_image(store, [made, made])

    assert len(layout.entries) == 5
    assert len(summarize(layout, store).layers) == 2


def test_the_summary_tells_each_layer() -> None:
    store = MemoryStore()
    summary = summarize(sound(store), store)

    assert [layer.created_by for layer in summary.layers] == ["layer 0", "layer 1"]
    assert summary.layers[1].diff_id == summary.layers[1].digest.oci
    assert (summary.architecture, summary.os, summary.ref) == ("amd64", "linux", "tiny_gpt2:cpu_llm_trf")
    parts = [summary.manifest, summary.config, *(layer.digest for layer in summary.layers)]
    assert summary.size == sum(digest.size for digest in parts)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"architecture": ""}, "architecture and operating system"),
        ({"env": ["A"]}, "`env` has `A`"),
        ({"env": ["A=1", "A=2"]}, "names a variable twice"),
        ({"ports": ["http"]}, "`ports` has `http`"),
        ({"created": "yesterday"}, "`created` is `yesterday`"),
        ({"workdir": "app"}, "`app` is not an absolute path"),
        ({"history": []}, "`history` has 0 entries for 1 inputs"),
        ({"entrypoint": "sh"}, "`entrypoint` is not an array"),
        ({"labels": {"a": 1}}, "`labels.a` is not a string"),
        ({"ref": "Upper:x"}, "no name of an image"),
        ({"usr": "root"}, "Unknown key `usr`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_parameters(params: dict[str, Json], message: str) -> None:
    store = MemoryStore()

    with pytest.raises(ActionFailed, match=message):
        make_image(store, [make_layer(store, base(store))], **params)


def test_a_descriptor_of_another_layer_is_refused() -> None:
    store = MemoryStore()
    one, two = make_layer(store, base(store)), make_layer(store, {})

    with pytest.raises(ActionFailed, match="The descriptor is of sha256"):
        make_image(store, [{"layer": one["layer"], "descriptor": two["descriptor"]}])


@pytest.mark.parametrize("recheck", [True, False])
def test_a_layer_that_changed_since_is_found(recheck: bool) -> None:
    """Without `recheck` its entries are not read again, but its bytes are hashed all the same."""
    store = MemoryStore()
    made = make_layer(store, base(store))
    layer = made["layer"]
    assert isinstance(layer, FileContent)
    store.blobs[layer.digest] = store.blobs[layer.digest][:-1] + b"\xff"

    with pytest.raises(ActionFailed, match="The layer's bytes are"):
        make_image(store, [made], recheck=recheck)


def test_the_layers_of_a_model_are_one_for_each_weights_file_and_one_for_the_rest() -> None:
    store = MemoryStore()
    weights = bytes(3 << 20)
    contents = {"a.bin": weights, "b.bin": weights + b"b", "c.json": b"{}"}
    entries = {path: File(store.put(content)) for path, content in contents.items()}
    tree = Tree.of(entries)
    store.put(tree.encoded)

    request = ToolRequest({"place": {"content": "models/m"}}, {"content": TreeContent(tree.digest, tree.root)}, store)
    made = model_layers.assemble(request)["layers"]

    assert isinstance(made, TreeContent)
    folder = Tree.decode(store.read(made.tree))
    assert sorted(folder.entries) == [f"00{n}/{name}" for n in range(3) for name in ("descriptor", "layer")]
    built = image.assemble(ToolRequest({**PARAMS, "history": ["model"]}, {"layers.0": made}, store))["layout"]
    assert isinstance(built, TreeContent)
    flat = flatten(Tree.decode(store.read(built.tree)), store)
    assert dict(flat.files()) == {f"models/m/{path}": entry for path, entry in entries.items()}


def test_a_foreign_layer_keeps_its_owners() -> None:
    store = MemoryStore()
    data = tar([member("su", b"su", mode=0o4755, uid=7)])
    digest = Digest.of(data)
    described = {"mediaType": LAYER, "digest": digest.oci, "size": digest.size, "diffId": digest.oci}
    layer = {"layer": FileContent(store.put(data)), "descriptor": FileContent(store.put(document.encode(described)))}

    make_image(store, [layer, make_layer(store, base(store))], foreign=1)
    with pytest.raises(ActionFailed, match="setuid"):
        make_image(store, [layer])


def test_inputs_must_be_numbered_from_zero() -> None:
    with pytest.raises(ActionFailed, match=r"Give `layer\.N` and `descriptor\.N`"):
        image.assemble(ToolRequest({**PARAMS, "history": []}, {}, MemoryStore()))
