"""The tool `layer`."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile

import pytest
from hypothesis import given, settings

from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import Entry, File, Symlink, Tree, merge, under
from forge.oci import layer
from tests.fakes.store import MemoryStore
from tests.oci.sample import base, make_layer, tree_of
from tests.oci.strategy import CONTENTS, trees
from tests.oci.test_tar import read


def digest(content: Content) -> Digest:
    assert isinstance(content, FileContent)
    return content.digest


def run(store: MemoryStore, place: dict[str, str], inputs: dict[str, Content], **params: Json) -> bytes:
    made = layer.assemble(ToolRequest({"place": {**place}, "compression": "none", **params}, inputs, store))
    return store.read(digest(made["layer"]))


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_the_descriptor_tells_the_blobs_own_digests(compression: str) -> None:
    store = MemoryStore()
    made = make_layer(store, base(store), compression=compression)
    blob = store.read(digest(made["layer"]))
    plain = gzip.decompress(blob) if compression == "gzip" else blob

    assert (
        store.read(digest(made["descriptor"]))
        == json.dumps(
            {
                "diffId": f"sha256:{hashlib.sha256(plain).hexdigest()}",
                "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}",
                "mediaType": "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if compression == "gzip" else ""),
                "size": len(blob),
            },
            separators=(",", ":"),
        ).encode()
    )


def test_trees_lie_below_their_place_and_files_at_it() -> None:
    store = MemoryStore()
    script, tree = store.put(b"#!"), {"x": Symlink("y")}
    inputs: dict[str, Content] = {"app": tree_of(store, tree), "run": FileContent(script, executable=True)}
    data = run(store, {"app": "/opt/forge/", "run": "opt/run"}, inputs)

    assert Tree.of(read(data)).root == Tree.of({"opt/run": File(script, True), "opt/forge/x": Symlink("y")}).root


@settings(max_examples=25, deadline=None)
@given(trees(), trees())
def test_a_layer_is_the_union_of_its_inputs(one: dict[str, Entry], two: dict[str, Entry]) -> None:
    store = MemoryStore()
    for content in CONTENTS:
        store.put(content)
    data = run(store, {"1": "", "2": "p"}, {"1": tree_of(store, one), "2": tree_of(store, two)})

    assert Tree.of(read(data)).root == Tree.of(merge([one, under("p", two)])).root


def test_a_large_file_is_kept_once() -> None:
    store = MemoryStore()
    weights = bytes(range(256)) * 4096
    content = FileContent(store.put(weights))
    before = dict(store.blobs)
    made = layer.assemble(ToolRequest({"place": {"w": "models/w.bin"}, "compression": "none"}, {"w": content}, store))

    added = [blob for key, blob in store.blobs.items() if key not in before]
    assert [json.loads(blob)["size"] for blob in added] == [len(weights) + 2 * 512 + 1024]
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        parent, info = tarfile.TarInfo("models"), tarfile.TarInfo("models/w.bin")
        parent.type, parent.mode, info.size, info.mode = tarfile.DIRTYPE, 0o755, len(weights), 0o644
        archive.addfile(parent)
        archive.addfile(info, io.BytesIO(weights))
    end = len(weights) + 2 * 512 + 1024
    # Python fills up to a record of 10 KiB.
    assert store.read(digest(made["layer"])) == expected.getvalue()[:end]


def test_progress_ends_at_the_total() -> None:
    store = MemoryStore()
    seen: list[tuple[int, int]] = []
    content = FileContent(store.put(b"x" * 5_000_000))
    request = ToolRequest({"place": {"w": "w"}}, {"w": content}, store, lambda done, total: seen.append((done, total)))
    layer.assemble(request)

    assert seen[-1] == (5_000_192 + 1536, 5_000_192 + 1536)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"place": {}}, "`w` is not both an input and a key of `place`"),
        ({"place": {"w": "a", "x": "b"}}, "`x` is not both"),
        ({"place": {"w": "a"}, "compression": "xz"}, "`compression` is `xz`"),
        ({"place": {"w": "a"}, "level": 9}, "Unknown key `level`"),
        ({"place": {"w": 1}}, "`place.w` is not a string"),
        ({"place": {"w": ""}}, "no file name"),
        ({"place": {"w": "../a"}}, "no file name"),
        ({"place": {"w": "a//b"}}, "no file name"),
        ({"place": {"w": "a/.wh.b"}}, "the deletion of a file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_parameters(params: dict[str, Json], message: str) -> None:
    store = MemoryStore()

    with pytest.raises(ActionFailed, match=message):
        layer.assemble(ToolRequest(params, {"w": FileContent(store.put(b"x"))}, store))


def test_two_inputs_for_one_path_are_an_error() -> None:
    store = MemoryStore()
    inputs: dict[str, Content] = {"1": FileContent(store.put(b"1")), "2": FileContent(store.put(b"2"))}

    with pytest.raises(ActionFailed, match="Two different entries are called `a`"):
        run(store, {"1": "a", "2": "a"}, inputs)


def test_a_link_to_nothing_is_an_error() -> None:
    store = MemoryStore()

    with pytest.raises(ActionFailed, match="leads nowhere"):
        make_layer(store, {"a": Symlink("")})


def test_a_missing_tree_is_told_as_the_store_tells_it() -> None:
    """A KeyError lets the builder make the blob again; an error of the tool's own would end the build."""
    missing = TreeContent(Digest("0" * 64, 1), Digest("0" * 64, 1))

    with pytest.raises(KeyError):
        run(MemoryStore(), {"a": ""}, {"a": missing})
