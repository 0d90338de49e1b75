from __future__ import annotations

import tomllib
from typing import Any

import pytest

from forge.core.base_image import BaseImage, ImageBlob
from forge.core.digest import Digest, Hash
from forge.core.image_material import image_blob, image_document
from forge.core.image_name import ImageName
from forge.core.lock import Lock, LockRequest, Material, MissingMaterial
from forge.core.lock_text import LockError, parse, render

NAME = ImageName("nvcr.io", "nvidia/l4t-jetpack", "r36.4.0")
INDEX, MANIFEST, CONFIG, LAYER = map(Digest.of, (b"index", b"manifest", b"config", b"layer"))
WHOLE = BaseImage(NAME, Hash(INDEX.hash), ImageBlob("m", MANIFEST), ImageBlob("c", CONFIG), (ImageBlob("l", LAYER),))


def lock(image: BaseImage) -> Lock:
    missing = () if image.digest else (MissingMaterial("a", "a", "nvcr.io"),)
    return Lock("image", "arm64", (str(image.name),), (), image=image, missing=missing)


@pytest.mark.parametrize(
    "image", [WHOLE, BaseImage(NAME, Hash(INDEX.hash)), BaseImage(NAME)], ids=["whole", "digest alone", "left out"]
)
def test_what_was_written_is_read(image: BaseImage) -> None:
    assert lock(image) == parse(tomllib.loads(render(lock(image))))


def test_a_lock_has_names_and_digests() -> None:
    assert render(lock(WHOLE)).splitlines() == [
        "# Written by `forge lock`; do not edit.",
        "version = 1",
        'kind = "image"',
        'arch = "arm64"',
        'registry = "nvcr.io"',
        'repository = "nvidia/l4t-jetpack"',
        'tag = "r36.4.0"',
        f'digest = "{INDEX.oci}"',
        "requested = [",
        '    "nvcr.io/nvidia/l4t-jetpack:r36.4.0",',
        "]",
        *("", "[manifest]", 'media_type = "m"', f'digest = "{MANIFEST.oci}"', "size = 8"),
        *("", "[config]", 'media_type = "c"', f'digest = "{CONFIG.oci}"', "size = 6"),
        *("", "[[layer]]", 'media_type = "l"', f'digest = "{LAYER.oci}"', "size = 5"),
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"registry": 1}, "`registry`, `repository`, `tag` and `digest` must be texts"),
        ({"repository": "../a"}, "`../a` cannot be a repository"),
        ({"digest": ""}, "`digest` is missing"),
        ({"digest": "sha512:00"}, "`sha512:00` is no SHA-256 digest"),
        ({"digest": "sha256:00"}, "Not a SHA-256 digest"),
        ({"layer": []}, "`layer` must be a list of tables"),
        ({"layer": [1]}, "`layer` needs `media_type`, `digest` and `size`"),
        ({"config": {"media_type": "c", "digest": CONFIG.oci, "size": True}}, "`config` needs"),
        ({"manifest": {"media_type": "m", "digest": MANIFEST.oci, "size": -1}}, "Not a SHA-256 digest"),
        ({"arch": ""}, "`arch` is missing"),
    ],
    ids=str,
)
def test_a_lock_that_was_edited_is_refused(change: dict[str, Any], fault: str) -> None:
    table = {**tomllib.loads(render(lock(WHOLE))), **change}

    with pytest.raises(LockError, match=fault):
        parse(table)


def test_a_request_is_answered_by_its_name_and_digest() -> None:
    name = ImageName.parse(f"{NAME}@{INDEX.oci}")
    request = LockRequest("jetpack.arm64.image", "image", "arm64", image=name)

    assert ((str(name),), "locks/jetpack.arm64.image.toml") == (request.requested, request.file)


def test_parts_are_materials_of_the_registry() -> None:
    path = "nvidia/l4t-jetpack/blobs/" + LAYER.oci
    file = f"l4t-jetpack-{LAYER.short}"

    assert image_blob(WHOLE, LAYER) == Material("nvcr.io/nvidia/l4t-jetpack", "r36.4.0", file, LAYER, "nvcr.io", path)


def test_a_document_has_its_size_where_that_is_known() -> None:
    known, unknown = (image_document(WHOLE, Hash(each.hash)) for each in (MANIFEST, INDEX))

    assert (MANIFEST, Hash(INDEX.hash)) == (known.digest, unknown.digest)
    assert unknown.path == f"nvidia/l4t-jetpack/manifests/{INDEX.oci}"


def test_what_lies_below_a_manifest_is_listed_as_far_as_it_is_known() -> None:
    assert [CONFIG, LAYER] == [blob.digest for blob in WHOLE.blobs()]
    assert [] == [*BaseImage(NAME).blobs()]


def test_a_model_s_lock_may_name_an_image() -> None:
    file = Material("acme/m", INDEX.oci, "m.gguf", LAYER, "nvcr.io")
    made = Lock("model", "all", ("oci:nvcr.io/acme/m:1",), (file,), "acme/m", INDEX.oci)
    table = tomllib.loads(render(made))

    assert made == parse(table)
    with pytest.raises(LockError, match="`../m` cannot be a repository"):
        parse({**table, "repository": "../m"})
