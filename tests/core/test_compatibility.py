from __future__ import annotations

import pytest

from forge.core.compatibility import CompatibilityRow, Requirement, clashes

ROW = CompatibilityRow(
    Requirement.parse("cuda==13.*"),
    (Requirement.parse("driver>=580"), Requirement.parse("python>=3.10")),
    "Who",
    "x.toml",
)


@pytest.mark.parametrize(
    ("text", "version", "expected"),
    [
        ("a==1.2", "1.2.0", True), ("a==1.2", "1.2.1", False), ("a==1.*", "1.9", True), ("a==1.*", "10.0", False),
        ("a>=580", "580.65.06", True), ("a>=580", "579.9", False), ("a>=1,<2", "1.99", True), ("a>=1,<2", "2", False),
        ("a>=1", "2.13.0+cpu", False),
    ],
)  # fmt: skip
def test_a_version_is_within_bounds_or_not(text: str, version: str, expected: bool) -> None:
    assert Requirement.parse(text).admits(version) is expected


@pytest.mark.parametrize("text", ["", "a", "a~=1", "A>=1", "a>=x", "a>=1,", ">=1"])
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no requirement"):
        Requirement.parse(text)


def test_a_clash_names_both_sides_the_row_and_who_says_so() -> None:
    has = {"cuda": ("13.0", "locked"), "driver": ("535", "device"), "python": ("3.11", "here")}

    assert clashes([ROW], has) == (
        "`cuda` 13.0 (locked) needs `driver>=580`, `driver` is 535 (device): x.toml, by Who",
    )


@pytest.mark.parametrize(
    "has",
    [
        {},
        {"cuda": ("12.0", "a"), "driver": ("1", "b")},
        {"cuda": ("13.0", "a")},
        {"cuda": ("13.0", "a"), "driver": ("580", "b")},
    ],
    ids=["nothing is known", "no row is about it", "the other is not known", "it fits"],
)
def test_all_else_is_let_pass(has: dict[str, tuple[str, str]]) -> None:
    assert clashes([ROW], has) == ()
