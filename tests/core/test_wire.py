"""Golden bytes are derived by hand from https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.core import wire

FIELDS = st.lists(
    st.tuples(
        st.integers(1, (1 << 29) - 1),
        st.one_of(st.integers(1, (1 << 64) - 1), st.binary(max_size=200)),
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (150, "9601"), (300, "ac02"), ((1 << 64) - 1, "ff" * 9 + "01")],
)
def test_encodes_a_varint(value: int, expected: str) -> None:
    assert wire.varint(value).hex() == expected


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (wire.integer(1, 150), "089601"),  # the guide's first example
        (wire.integer(1, 0), ""),
        (wire.integer(1, True), "0801"),
        (wire.integer(1, -2), "08feffffffffffffffff01"),  # two's complement in ten bytes
        (wire.string(2, "testing"), "120774657374696e67"),  # the guide's second example
        (wire.string(2, ""), ""),
        (wire.string(1, "ä"), "0a02c3a4"),
        (wire.data(1, b""), ""),
        (wire.data(16, b"\x00"), "82010100"),
        (wire.message(3, wire.integer(1, 150)), "1a03089601"),  # the guide's third example
        (wire.message(3, b""), "1a00"),
    ],
)
def test_encodes_fields(encoded: bytes, expected: str) -> None:
    assert encoded.hex() == expected


@given(FIELDS)
def test_reads_back_what_it_writes(fields: list[tuple[int, int | bytes]]) -> None:
    encoded = b"".join(
        wire.integer(number, value) if isinstance(value, int) else wire.message(number, value)
        for number, value in fields
    )

    assert list(wire.fields(encoded)) == fields


@given(st.integers(-(1 << 63), (1 << 63) - 1).filter(bool))
def test_reads_back_signed_numbers(value: int) -> None:
    ((_, found),) = wire.fields(wire.integer(1, value))

    assert wire.signed(found) == value


def test_reads_fixed_width_fields() -> None:
    assert list(wire.fields(bytes.fromhex("0d01020304 1101020304050607 08"))) == [
        (1, bytes.fromhex("01020304")),
        (2, bytes.fromhex("0102030405060708")),
    ]


def test_drops_bits_beyond_the_sixty_fourth() -> None:
    assert list(wire.fields(bytes.fromhex("08" + "ff" * 9 + "7f"))) == [(1, (1 << 64) - 1)]


@pytest.mark.parametrize(
    ("encoded", "fault"),
    [
        ("08", "cut short"),
        ("0a05616263", "cut short"),
        ("0d0102", "cut short"),
        ("08" + "ff" * 10 + "01", "cut short"),
        ("0b", "wire type 3"),
        ("0f", "wire type 7"),
        ("0001", "number 0"),
    ],
)
def test_refuses_what_is_no_message(encoded: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        list(wire.fields(bytes.fromhex(encoded)))


@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_a_value_error(encoded: bytes) -> None:
    try:
        found = list(wire.fields(encoded))
    except ValueError:
        return

    assert all(number > 0 for number, _ in found)


def test_takes_a_value_for_what_it_is() -> None:
    assert (wire.as_int(3), wire.as_bytes(b"a"), wire.as_text(b"a")) == (3, b"a", "a")


def test_refuses_bytes_for_an_integer() -> None:
    with pytest.raises(ValueError, match="integer"):
        wire.as_int(b"")


@pytest.mark.parametrize("value", [3, b"\xff"])
def test_refuses_what_is_no_text(value: int | bytes) -> None:
    with pytest.raises(ValueError):
        wire.as_text(value)
