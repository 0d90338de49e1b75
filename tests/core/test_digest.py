from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.core.digest import EMPTY, Digest, Hash, Pin

NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_empty_is_the_hash_of_nothing() -> None:
    assert Digest(NOTHING, 0) == EMPTY


@given(st.binary(max_size=100))
def test_reads_back_what_it_writes(data: bytes) -> None:
    digest = Digest.of(data)

    assert Digest.parse(str(digest)) == digest


def test_has_the_forms_that_others_want() -> None:
    digest = Digest.of(b"")

    assert (digest.oci, digest.short, str(digest)) == (f"sha256:{NOTHING}", NOTHING[:12], f"{NOTHING}/0")


@pytest.mark.parametrize(
    "text",
    ["", NOTHING, f"{NOTHING}/", f"{NOTHING}/-1", f"{NOTHING}/x", f"{NOTHING}/٣", f"{NOTHING.upper()}/0",
     f"{NOTHING[1:]}/0", f"{NOTHING}/0\n", f"{NOTHING}/{'9' * 5000}"],
)  # fmt: skip
def test_refuses_what_is_no_digest(text: str) -> None:
    with pytest.raises(ValueError, match=r"digest|digits"):
        Digest.parse(text)


def test_has_no_negative_size() -> None:
    with pytest.raises(ValueError, match="Not a SHA-256 digest"):
        Digest(NOTHING, -1)


def test_a_hash_alone_is_no_digest() -> None:
    known: Pin = Hash(NOTHING)

    assert (str(known), known.short) == (NOTHING, NOTHING[:12])
    assert known != EMPTY


@pytest.mark.parametrize("text", ["", NOTHING.upper(), NOTHING[1:], f"{NOTHING}/0"])
def test_refuses_what_is_no_hash(text: str) -> None:
    with pytest.raises(ValueError, match="Not a SHA-256 digest"):
        Hash(text)
