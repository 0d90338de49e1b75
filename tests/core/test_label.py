from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.core.errors import LoadError
from forge.core.label import Label, TargetPattern, is_name, is_package, parse_patterns, select

SEGMENTS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,5}", fullmatch=True)
PACKAGES = st.lists(SEGMENTS, max_size=3).map("/".join)
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,8}", fullmatch=True).filter(is_name)
LABELS = st.builds(Label, PACKAGES, NAMES)
PATTERNS = st.one_of(
    st.builds(TargetPattern, st.just("target"), PACKAGES, NAMES, st.booleans()),
    st.builds(TargetPattern, st.just("package"), PACKAGES, st.just(""), st.booleans()),
    st.builds(TargetPattern, st.just("recursive"), PACKAGES, st.just(""), st.booleans()),
)


@pytest.mark.parametrize(
    ("text", "package", "expected"),
    [
        ("//a:b", None, Label("a", "b")),
        ("//a/b:c", None, Label("a/b", "c")),
        ("//a", None, Label("a", "a")),
        ("//a/b", None, Label("a/b", "b")),
        ("//:b", None, Label("", "b")),
        (":b", "a/b", Label("a/b", "b")),
        (":b", "", Label("", "b")),
        ("//gpt2:server@gpu_llm_trf", None, Label("gpt2", "server@gpu_llm_trf")),
    ],
)
def test_parses_a_label(text: str, package: str | None, expected: Label) -> None:
    assert Label.parse(text, package) == expected


@pytest.mark.parametrize(
    "text",
    ["", "b", ":b", "/a:b", "//", "//a:", "//a:b:c", "//a/:b", "///a:b", "//a//b:c", "//../a:b", "//a:../b", "//a:b\n",
     "//a b:c", "//.a:b", "//a/...", "//ä:b", "//a:-b"],
)  # fmt: skip
def test_i05_refuses_what_is_no_label(text: str) -> None:
    with pytest.raises(LoadError) as caught:
        Label.parse(text)

    assert caught.value.faults[0].text == f"`{text}` is not a label"


@given(LABELS)
def test_a_label_reads_back_what_it_writes(label: Label) -> None:
    assert Label.parse(str(label)) == label


@given(st.text(max_size=20))
def test_any_text_is_a_label_or_a_load_error(text: str) -> None:
    try:
        label = Label.parse(text, "pkg")
    except LoadError:
        return

    assert Label.parse(str(label)) == label


@pytest.mark.parametrize(
    ("text", "package", "expected"),
    [
        ("//a:b", "", "//a:b"),
        ("//a", "", "//a:a"),
        (":b", "p", "//p:b"),
        ("b", "p", "//p:b"),
        ("b:c", "p", "//p/b:c"),
        ("b:c", "", "//b:c"),
        ("b/c", "p", "//p/b/c:c"),
        ("//a:all", "", "//a:all"),
        ("//a:*", "", "//a:all"),
        (":all", "p", "//p:all"),
        ("all", "p", "//p:all"),
        ("b:all", "p", "//p/b:all"),
        ("//a/...", "", "//a/..."),
        ("//...", "", "//..."),
        ("//...", "p", "//..."),
        ("...", "p", "//p/..."),
        ("...", "", "//..."),
        ("b/...", "p", "//p/b/..."),
        ("-//a:b", "", "-//a:b"),
        ("-//a/...", "p", "-//a/..."),
        ("-:b", "p", "-//p:b"),
        ("-//...", "p", "-//..."),
    ],
)
def test_parses_a_pattern(text: str, package: str, expected: str) -> None:
    assert str(TargetPattern.parse(text, package)) == expected


@pytest.mark.parametrize(
    "text", ["", "-", "//", "//a//...", "//../...", "///...", "/a/...", "//a:...", "//a b:all", "--//a:b", "//a:b:all"]
)
def test_refuses_what_is_no_pattern(text: str) -> None:
    with pytest.raises(LoadError, match="is not a target pattern"):
        TargetPattern.parse(text)


@given(PATTERNS)
def test_a_pattern_reads_back_what_it_writes(pattern: TargetPattern) -> None:
    assert TargetPattern.parse(str(pattern), "elsewhere") == pattern


@given(st.text(max_size=20), st.sampled_from(["", "pkg", "a/b"]))
def test_any_text_is_a_pattern_or_a_load_error(text: str, package: str) -> None:
    try:
        pattern = TargetPattern.parse(text, package)
    except LoadError:
        return

    assert TargetPattern.parse(str(pattern)) == pattern


KNOWN = [Label.parse(text) for text in ("//:r", "//a:x", "//a:y", "//a/b:z", "//ab:w")]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["//..."], ["//:r", "//a:x", "//a:y", "//a/b:z", "//ab:w"]),
        (["//a/..."], ["//a:x", "//a:y", "//a/b:z"]),
        (["//a:all"], ["//a:x", "//a:y"]),
        (["//:all"], ["//:r"]),
        (["//a:x"], ["//a:x"]),
        (["//...", "-//a:x"], ["//:r", "//a:y", "//a/b:z", "//ab:w"]),
        (["//a/...", "-//a/b/..."], ["//a:x", "//a:y"]),
        (["-//a:x", "//a:all"], ["//a:x", "//a:y"]),
        (["//a:all", "-//a:all", "//a:y"], ["//a:y"]),
        (["//no:x"], []),
    ],
    ids=" ".join,
)
def test_selects_in_order(patterns: list[str], expected: list[str]) -> None:
    assert [str(label) for label in select(parse_patterns(patterns), KNOWN)] == expected


@given(PATTERNS, LABELS)
def test_what_matches_is_covered(pattern: TargetPattern, label: Label) -> None:
    assert pattern.covers(label.package) or not pattern.matches(label)


@pytest.mark.parametrize(
    ("name", "expected"), [("a", True), ("a@b=c", True), ("all", False), ("...", False), ("", False)]
)
def test_knows_names(name: str, expected: bool) -> None:
    assert is_name(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"), [("", True), ("a/b", True), ("a//b", False), ("a b", False), ("a/", False)]
)
def test_knows_packages(name: str, expected: bool) -> None:
    assert is_package(name) is expected
