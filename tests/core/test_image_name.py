from __future__ import annotations

import pytest

from forge.core.image_name import ImageName

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nvcr.io/nvidia/l4t-jetpack:r36.4.0", ImageName("nvcr.io", "nvidia/l4t-jetpack", "r36.4.0")),
        ("ubuntu:22.04", ImageName("docker.io", "library/ubuntu", "22.04")),
        ("dustynv/tensorrt_llm:0.12", ImageName("docker.io", "dustynv/tensorrt_llm", "0.12")),
        ("docker.io/ubuntu:22.04", ImageName("docker.io", "library/ubuntu", "22.04")),
        ("registry-1.docker.io/library/ubuntu:22.04", ImageName("docker.io", "library/ubuntu", "22.04")),
        ("localhost:5000/a:1", ImageName("localhost:5000", "a", "1")),
        (f"NVCR.io/a/b@{DIGEST}", ImageName("nvcr.io", "a/b", "", DIGEST)),
        (f"nvcr.io/a/b:1@{DIGEST}", ImageName("nvcr.io", "a/b", "1", DIGEST)),
    ],
    ids=str,
)
def test_a_name_has_one_form(text: str, name: ImageName) -> None:
    assert name == ImageName.parse(text)
    assert name == ImageName.parse(str(name))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nvcr.io/nvidia/pytorch", "needs a tag, such as `nvcr.io/nvidia/pytorch:1.0`"),
        ("nvcr.io/a:b c", "`b c` cannot be a tag"),
        ("nvcr.io/a:", "needs a tag"),
        (f"nvcr.io/a:@{DIGEST}", "`` cannot be a tag"),
        ("nvcr.io/a@sha256:12", "a digest is `sha256:` and 64 hexadecimal digits"),
        ("nvcr.io/a@sha512:12", "a digest is `sha256:` and 64 hexadecimal digits"),
        ("nvcr.io/A/b:1", "`A/b` cannot be a repository"),
        ("nvcr.io/../b:1", "`../b` cannot be a repository"),
        ("nvcr..io/b:1", "`nvcr..io` cannot be the name of a registry"),
    ],
    ids=str,
)
def test_what_is_no_name_is_said_in_words(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        ImageName.parse(text)


@pytest.mark.parametrize(("tag", "digest"), [("a b", ""), ("", "sha256:1")])
def test_a_lock_cannot_name_what_a_declaration_cannot(tag: str, digest: str) -> None:
    with pytest.raises(ValueError, match="is neither a tag nor a digest"):
        ImageName.of("nvcr.io", "a", tag, digest)
