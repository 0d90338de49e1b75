"""Names of images."""

from __future__ import annotations

import pytest

from forge.oci.reference import Reference

HOST = "docker.io"


@pytest.mark.parametrize(
    ("text", "familiar", "full"),
    [
        ("gpt2", "gpt2:latest", f"{HOST}/library/gpt2:latest"),
        ("tiny_gpt2:cpu_llm_trf", "tiny_gpt2:cpu_llm_trf", f"{HOST}/library/tiny_gpt2:cpu_llm_trf"),
        ("me/gpt2:1.0-A_b", "me/gpt2:1.0-A_b", f"{HOST}/me/gpt2:1.0-A_b"),
        ("localhost/gpt2", "localhost/gpt2:latest", "localhost/gpt2:latest"),
        ("hub.example:5000/a/b:c", "hub.example:5000/a/b:c", "hub.example:5000/a/b:c"),
    ],
)
def test_short_and_full_form(text: str, familiar: str, full: str) -> None:
    name = Reference.parse(text)

    assert name is not None
    assert (name.familiar, name.full) == (familiar, full)


@pytest.mark.parametrize("text", ["", ":tag", "a//b", "A/b:c d", "-a", "a:" + "t" * 129, "a@sha256:00", "gpt2\n"])
def test_other_texts_are_no_names(text: str) -> None:
    assert Reference.parse(text) is None
