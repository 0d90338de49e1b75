"""The validator finds what is wrong with an image, and nothing with a sound one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from forge.core.digest import Digest
from forge.core.tree import Entry, File, Folder, Symlink, Tree
from forge.oci.check import MOST, ImageError
from forge.oci.summary import summarize
from forge.oci.validate import validate, validate_all
from tests.fakes.store import MemoryStore
from tests.oci.handmade import SOUND, Document, Handmade, faults, member, tar
from tests.oci.sample import sound


def test_the_assemblers_image_is_sound() -> None:
    store = MemoryStore()
    layout = sound(store)

    assert validate(layout, store) == summarize(layout, store)


@pytest.mark.parametrize("compressed", [True, False], ids=["gzip", "plain"])
def test_a_handmade_image_is_sound(compressed: bool) -> None:
    made = Handmade()
    if not compressed:
        made = Handmade(compress=lambda data: data, layer_type="application/vnd.oci.image.layer.v1.tar")

    assert faults(made.build(), made.store) == ""


BLOBS: dict[str, Callable[[MemoryStore, Tree], Digest]] = {
    "manifest": lambda store, layout: summarize(layout, store).manifest,
    "config": lambda store, layout: summarize(layout, store).config,
    "compressed layer": lambda store, layout: summarize(layout, store).layers[0].digest,
    "plain layer": lambda store, layout: summarize(layout, store).layers[1].digest,
    "index": lambda store, layout: digest_of(layout, "index.json"),
    "oci-layout": lambda store, layout: digest_of(layout, "oci-layout"),
}


def digest_of(layout: Tree, path: str) -> Digest:
    entry = layout.entries[path]
    assert isinstance(entry, File)
    return entry.digest


@pytest.mark.parametrize("where", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("kind", BLOBS)
def test_a_flipped_bit_is_found(kind: str, where: float) -> None:
    store = MemoryStore()
    layout = sound(store)
    digest = BLOBS[kind](store, layout)
    data = bytearray(store.read(digest))
    data[int(len(data) * where)] ^= 1
    store.recipes.pop(digest, None)
    store.blobs[digest] = bytes(data)

    assert "bytes" in faults(layout, store)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0"], ids=["shorter", "longer"])
@pytest.mark.parametrize("kind", BLOBS)
def test_another_size_is_found(kind: str, change: Callable[[bytes], bytes]) -> None:
    store = MemoryStore()
    layout = sound(store)
    digest = BLOBS[kind](store, layout)
    data = change(store.read(digest))
    store.recipes.pop(digest, None)
    store.blobs[digest] = data

    assert "bytes" in faults(layout, store)


@pytest.mark.parametrize("kind", BLOBS)
def test_a_blob_that_the_layout_lacks_is_found(kind: str) -> None:
    store = MemoryStore()
    layout = sound(store)
    digest = BLOBS[kind](store, layout)
    kept = {path: entry for path, entry in layout.entries.items() if entry != File(digest)}

    assert "The layout lacks" in faults(Tree.of(kept), store)


@pytest.mark.parametrize("kind", BLOBS)
def test_a_blob_that_the_store_lacks_is_found(kind: str) -> None:
    store = MemoryStore()
    layout = sound(store)
    digest = BLOBS[kind](store, layout)
    store.recipes.pop(digest, None)
    store.blobs.pop(digest, None)

    assert "cannot be read" in faults(layout, store)


STRAYS: dict[str, tuple[str, Entry, str]] = {
    "blob": (f"blobs/sha256/{Digest.of(b'?').hash}", File(Digest.of(b"?")), "Nothing refers to sha256"),
    "misnamed blob": (f"blobs/sha256/{'0' * 64}", File(Digest.of(b"?")), "is another blob"),
    "other algorithm": (f"blobs/sha512/{'0' * 128}", File(Digest.of(b"?")), "has no place in a layout"),
    "file": ("notes", File(Digest.of(b"?")), "`notes` has no place"),
    "folder": ("blobs/md5", Folder(), "`blobs/md5` has no place"),
    "link": (f"blobs/sha256/{'1' * 64}", Symlink("/etc/passwd"), "has no place in a layout"),
}


@pytest.mark.parametrize("kind", STRAYS)
def test_what_does_not_belong_there_is_found(kind: str) -> None:
    store = MemoryStore()
    path, entry, message = STRAYS[kind]
    store.put(b"?")

    assert message in faults(Tree.of({**sound(store).entries, path: entry}), store)


def swap(values: list[Any]) -> None:
    values[0], values[1] = values[1], values[0]


def put(*path: str | int, value: Any) -> Callable[[Document], None]:
    def edit(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return edit


ZEROS = f"sha256:{'0' * 64}"

DOCUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "swapped layers": ({"manifest": lambda d: swap(d["layers"])}, "the config says"),
    "swapped diff ids": ({"config": lambda d: swap(d["rootfs"]["diff_ids"])}, "Uncompressed it is sha256"),
    "wrong diff id": ({"config": put("rootfs", "diff_ids", 0, value=ZEROS)}, f"the config says {ZEROS}"),
    "fewer diff ids": ({"config": lambda d: d["rootfs"]["diff_ids"].pop()}, "2 layers and 1 diff ids"),
    "fewer layers": ({"manifest": lambda d: d["layers"].pop()}, "1 layers and 2 diff ids"),
    "no layer": ({"manifest": put("layers", value=[])}, "The image has no layer"),
    "diff id of another algorithm": ({"config": put("rootfs", "diff_ids", 0, value="sha512:00")}, "not `sha256:`"),
    "history of too many": ({"config": lambda d: d["history"].append({})}, "The history tells of 3 layers"),
    "history of none": ({"config": put("history", value=[])}, "The history tells of 0 layers"),
    "rootfs of another type": ({"config": put("rootfs", "type", value="x")}, "`rootfs.type` is not `layers`"),
    "no rootfs": ({"config": lambda d: d.pop("rootfs")}, "`rootfs` is not an object"),
    "no architecture": ({"config": lambda d: d.pop("architecture")}, "`config.architecture` is not a string"),
    "another architecture": ({"config": put("architecture", value="arm64")}, "The index says"),
    "another system": ({"index": put("manifests", 0, "platform", "os", value="windows")}, "The index says"),
    "entrypoint as text": ({"config": put("config", "Entrypoint", value="sh")}, "`config.Entrypoint` is not an array"),
    "variable without value": ({"config": put("config", "Env", value=["A"])}, "`env` has `A`"),
    "port with a value": ({"config": put("config", "ExposedPorts", value={"1/tcp": 1})}, "is not an object"),
    "created in another form": ({"config": put("created", value="2020")}, "not a time of RFC 3339"),
    "digest of another algorithm": ({"manifest": put("config", "digest", value="md5:00")}, "not `sha256:`"),
    "digest in capitals": ({"manifest": put("config", "digest", value="sha256:" + "A" * 64)}, "not `sha256:`"),
    "size that is another": ({"manifest": put("layers", 0, "size", value=1)}, "bytes, not 1"),
    "size below zero": ({"manifest": put("layers", 0, "size", value=-1)}, "not a number of 0 or more"),
    "size that is true": ({"manifest": put("layers", 0, "size", value=True)}, "not a number of 0 or more"),
    "unknown layer type": ({"manifest": put("layers", 0, "mediaType", value="text/x")}, "which is not supported"),
    "layer called plain": (
        {"manifest": put("layers", 0, "mediaType", value="application/vnd.oci.image.layer.v1.tar")},
        "The tar is malformed",
    ),
    "config of another type": ({"manifest": put("config", "mediaType", value="a/b")}, "not an image's config"),
    "manifest without its type": ({"manifest": lambda d: d.pop("mediaType")}, "`mediaType` is ``"),
    "manifest of version 1": ({"manifest": put("schemaVersion", value=1)}, "`schemaVersion` is not 2"),
    "manifest that is an index too": ({"manifest": put("manifests", value=[])}, "a manifest and an index at once"),
    "annotation that is no text": ({"manifest": put("annotations", value={"a": 1})}, "is not a string"),
    "huge manifest": ({"manifest": put("annotations", value={"a": "x" * (4 << 20)})}, "a document has at most"),
    "index entry of another type": ({"index": put("manifests", 0, "mediaType", value="a/b")}, "which is not supported"),
    "index without images": ({"index": put("manifests", value=[])}, "The layout names no image"),
    "index without entries": ({"index": lambda d: d.pop("manifests")}, "`manifests` is not an array"),
    "index with a dangling entry": ({"index": put("manifests", 0, "digest", value=ZEROS)}, "The layout lacks"),
    "layout of another version": ({"mark": b'{"imageLayoutVersion":"2"}'}, "is not 1.0.0"),
    "layout that is no JSON": ({"mark": b"1.0.0"}, "The document is not valid"),
    "layout with a key twice": ({"mark": b'{"imageLayoutVersion":"2","imageLayoutVersion":"1.0.0"}'}, "a key twice"),
    "layout nested deeply": ({"mark": b"[" * 100_000}, "nested too deeply"),
    "126 layers": ({"tars": [SOUND] * 126}, "There are 126 layers"),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a05_a_fault_of_a_document_is_found(kind: str) -> None:
    fields, message = DOCUMENTS[kind]
    made = Handmade(**fields)

    assert message in faults(made.build(), made.store)


@pytest.mark.parametrize(("depth", "message"), [(0, ""), (2, ""), (3, "more than 2 deep")])
def test_a05_indexes_lie_in_one_another_to_a_limit(depth: int, message: str) -> None:
    made = Handmade()
    made.index = lambda document: made.nest(document, depth)

    found = faults(made.build(), made.store)
    assert message in found
    assert bool(found) == bool(message)


def test_a05_an_index_in_itself_is_found() -> None:
    """Only a store that gives wrong bytes can hold one: its digest would have to be in it."""
    made = Handmade()
    made.index = lambda document: made.nest(document, 1)
    layout = made.build()
    named = json.loads(made.store.read(digest_of(layout, "index.json")))["manifests"][0]
    digest = Digest(named["digest"].removeprefix("sha256:"), named["size"])
    made.store.blobs[digest] = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()

    assert "bytes" in faults(layout, made.store)


def test_several_images_are_validated_at_once_but_are_not_one() -> None:
    made = Handmade()
    other = Handmade(tars=[tar([member("other")])], store=made.store)
    other.build()
    two = other.build()
    index = json.loads(made.store.read(digest_of(two, "index.json")))
    made.index = lambda document: document["manifests"].extend(index["manifests"])
    one = made.build()
    both = Tree.of({**two.entries, **one.entries})

    assert len(validate_all(both, made.store)) == 2
    assert "holds 2 images" in faults(both, made.store)


def test_all_faults_are_told_at_once() -> None:
    made = Handmade(tars=[tar([member("b", uid=1), member("a", mode=0o4755)]), SOUND], mark=b"{}")
    found = faults(made.build(), made.store)

    assert "imageLayoutVersion" in found
    assert "belongs to 1:0" in found
    assert "setuid" in found


def test_the_number_of_faults_that_are_kept_is_limited() -> None:
    made = Handmade(tars=[tar([member(f"{number:05}", uid=1) for number in range(3 * MOST)])])
    with pytest.raises(ImageError) as raised:
        validate(made.build(), made.store)

    assert len(raised.value.faults) == MOST
