"""Closures over small archives, written as Packages files."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.core.errors import MaterialError
from forge.packages.index_debian import Archive, SuiteIndex, parse_groups, parse_release
from forge.packages.resolve_debian import resolve
from forge.packages.version_debian import satisfies, version_key


def packages_file(*stanzas: str) -> str:
    """Write `name version; Field: value; …` as stanzas of a Packages file."""
    out = []
    for number, stanza in enumerate(stanzas):
        head, *fields = (each.strip() for each in stanza.split(";"))
        name, version = head.split()
        lines = [f"Package: {name}", f"Version: {version}", "Architecture: amd64", *fields]
        lines += [f"Filename: pool/{name}_{version}.deb", "Size: 1", f"SHA256: {number:064x}"]
        out.append("\n".join(lines) + "\n")
    return "\n".join(out)


def archive(*stanzas: str, prefer: dict[str, str] | None = None) -> Archive:
    return Archive([SuiteIndex("main", packages_file(*stanzas))], prefer=prefer)


def names(wanted: Sequence[str], *stanzas: str, exclude: Sequence[str] = ()) -> list[str]:
    return [each.name for each in resolve(wanted, archive(*stanzas), exclude=exclude)]


def test_the_closure_follows_both_kinds_of_dependency() -> None:
    found = names(["a"], "a 1; Pre-Depends: b; Depends: c", "b 1", "c 1; Depends: d", "d 1; Recommends: e", "e 1")

    assert found == ["a", "b", "c", "d"]


def test_a_ring_of_dependencies_ends() -> None:
    assert names(["a"], "a 1; Depends: b", "b 1; Depends: a") == ["a", "b"]


def test_an_excluded_package_goes_with_what_only_it_needs() -> None:
    stanzas = ("a 1; Depends: b, c", "b 1; Depends: d, e", "c 1; Depends: e", "d 1", "e 1")

    assert names(["a"], *stanzas, exclude=["b"]) == ["a", "c", "e"]


def test_the_first_alternative_that_exists_is_taken() -> None:
    assert names(["a"], "a 1; Depends: nowhere | b | c", "b 1", "c 1") == ["a", "b"]


def test_an_alternative_that_is_there_anyway_is_enough() -> None:
    assert names(["a", "c"], "a 1; Depends: b | c", "b 1", "c 1") == ["a", "c"]


def test_an_excluded_first_alternative_is_not_replaced() -> None:
    found = names(
        ["a"],
        "a 1; Depends: debconf (>= 0.5) | debconf-2.0",
        "debconf 1",
        "c 1; Provides: debconf-2.0",
        exclude=["debconf"],
    )

    assert found == ["a"]


def test_an_excluded_provider_is_not_replaced() -> None:
    stanzas = ("a 1; Depends: awk", "mawk 1; Provides: awk; Priority: required", "gawk 1; Provides: awk")

    assert names(["a"], *stanzas, exclude=["mawk"]) == ["a"]
    assert names(["a", "gawk"], *stanzas, exclude=["mawk"]) == ["a", "gawk"]


def test_a_virtual_package_prefers_what_is_there_then_the_priority_then_the_name() -> None:
    stanzas = (
        "a 1; Depends: awk",
        "z 1; Provides: awk; Priority: required",
        "x 1; Provides: awk",
        "y 1; Provides: awk",
    )

    assert names(["a"], *stanzas) == ["a", "z"]
    assert names(["a", "y"], *stanzas) == ["a", "y"]
    assert names(["a"], *stanzas[:1], *stanzas[2:]) == ["a", "x"]


def test_a_virtual_package_may_be_asked_for() -> None:
    assert names(["awk"], "mawk 1; Provides: awk") == ["mawk"]


@pytest.mark.parametrize(("provides", "found"), [("v (= 2)", True), ("v (= 1)", False), ("v", False)])
def test_a_bound_on_a_virtual_package_needs_a_version(provides: str, found: bool) -> None:
    stanzas = ("a 1; Depends: v (>= 2)", f"b 1; Provides: {provides}")
    if found:
        assert names(["a"], *stanzas) == ["a", "b"]
        return
    with pytest.raises(MaterialError, match=r"`v \(>= 2\)`, which a needs"):
        names(["a"], *stanzas)


def test_the_newest_version_of_a_suite_is_taken() -> None:
    (found,) = resolve(["a"], archive("a 1.9", "a 1.10", "a 1.10~rc1"))

    assert found.version == "1.10"


def test_a_bound_found_late_replaces_an_earlier_choice() -> None:
    stanzas = ("a 1; Depends: b", "b 1", "b 2", "z 1; Depends: b (<< 2)")

    assert [each.version for each in resolve(["a", "z"], archive(*stanzas))] == ["1", "1", "1"]


@pytest.mark.parametrize("wanted", ["b=1", "b (= 1)", "b (<< 2)"])
def test_a_request_may_carry_a_bound(wanted: str) -> None:
    (found,) = resolve([wanted], archive("b 1", "b 2"))

    assert found.version == "1"


def test_an_earlier_suite_goes_before_a_newer_version() -> None:
    suites = [
        SuiteIndex("main", packages_file("a 1")),
        SuiteIndex("security", packages_file("a 2", "b 1; Depends: a (>= 2)")),
    ]
    both = Archive(suites)

    assert [(each.version, each.suite) for each in resolve(["a"], both)] == [("1", "main")]
    assert [(each.version, each.suite) for each in resolve(["b"], both)] == [("2", "security"), ("1", "security")]


def test_a_preferred_version_stays_while_it_fits() -> None:
    stanzas = ("a 1", "a 2", "b 1; Depends: a (>= 2)")

    assert resolve(["a"], archive(*stanzas, prefer={"a": "1"}))[0].version == "1"
    assert resolve(["a", "b"], archive(*stanzas, prefer={"a": "1"}))[0].version == "2"
    assert resolve(["a"], archive(*stanzas, prefer={"a": "0"}))[0].version == "2"


def test_all_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(MaterialError) as caught:
        names(["a", "nope"], "a 1; Depends: gone (>= 3) | lost, old (>= 2)", "old 1")

    assert [each.text for each in caught.value.faults] == [
        "No package is or provides `gone (>= 3) | lost`, which a needs",
        "No package is or provides `nope`, which the request needs",
        "No package is or provides `old (>= 2)`, which a needs",
    ]
    assert caught.value.faults[0].hint == "Looked in the suites [main]"


def test_bounds_that_contradict_one_another_are_told() -> None:
    with pytest.raises(MaterialError, match=r"No version of package `c` fits all of \[c \(<< 2\), c \(>= 2\)\]"):
        names(["a", "b"], "a 1; Depends: c (<< 2)", "b 1; Depends: c (>= 2)", "c 1", "c 2")


def test_a_request_that_names_no_package_is_refused() -> None:
    with pytest.raises(MaterialError, match="does not name"):
        names(["a, b"], "a 1", "b 1")


NAMES = [f"p{number}" for number in range(8)]


@st.composite
def archives(draw: st.DrawFn) -> list[str]:
    stanzas = []
    for name in NAMES:
        for version in sorted(draw(st.sets(st.integers(1, 3), min_size=1, max_size=2))):
            alternatives = st.lists(st.sampled_from([*NAMES, "v0", "v1"]), min_size=1, max_size=2)
            depends = draw(st.lists(alternatives, max_size=2))
            provided = draw(st.sampled_from(["v0", "v1"]))
            field = ", ".join(" | ".join(each) for each in depends)
            stanzas.append(
                f"{name} {version}; Provides: {provided}; Depends: {field}"
                if field
                else f"{name} {version}; Provides: {provided}"
            )
    return stanzas


@given(
    archives(),
    st.sets(st.sampled_from(NAMES), min_size=1, max_size=4),
    st.sets(st.sampled_from(NAMES), max_size=2),
    st.randoms(),
)
def test_the_order_of_request_and_archive_does_not_matter(
    stanzas: list[str], wanted: set[str], exclude: set[str], chance: random.Random
) -> None:
    asked = sorted(wanted - exclude)
    first = resolve(asked, archive(*stanzas), exclude=exclude)
    turned, others = list(stanzas), list(asked)
    chance.shuffle(turned)
    chance.shuffle(others)
    second = resolve(others, archive(*turned), exclude=exclude)

    assert [(each.name, each.version) for each in first] == [(each.name, each.version) for each in second]
    assert set(asked) <= {each.name for each in first}
    assert not exclude & {each.name for each in first}


ORDER = [
    "1.0~~",
    "1.0~~a",
    "1.0~",
    "1.0",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1.1",
    "1.0a",
    "1.0+dfsg",
    "1.0.1",
    "1.9",
    "1.10",
    "1:0.1",
]


def test_versions_are_ordered_as_the_policy_says() -> None:
    shuffled = sorted(ORDER)
    random.Random(1).shuffle(shuffled)

    assert sorted(shuffled, key=version_key) == ORDER


@pytest.mark.parametrize(
    ("operator", "found"),
    [("<<", "100"), ("<=", "110"), ("=", "010"), (">=", "011"), (">>", "001")],
)
def test_bounds(operator: str, found: str) -> None:
    results = [satisfies(each, operator, "2.36-9") for each in ("2.36-8", "2.36-9", "2.36-10")]  # type: ignore[arg-type]

    assert "".join(str(int(each)) for each in results) == found


def test_equal_versions_may_be_spelled_differently() -> None:
    assert satisfies("0:1.0", "=", "1.0-0")


def test_dependency_fields_are_read() -> None:
    groups = list(parse_groups("libc6 (>= 2.36), python3:any, a (<2) | b [amd64], "))

    assert [" | ".join(map(str, group)) for group in groups] == ["libc6 (>= 2.36)", "python3", "a (<= 2) | b"]


def test_only_the_sha256_section_of_a_release_file_counts() -> None:
    zero, one = "0" * 64, "1" * 64
    text = f"Suite: x\nSHA256:\n {zero} 1 a/b\n {one}  22 c\nSHA512:\n {one} 3 d\n"

    assert {path: (each.hash, each.size) for path, each in parse_release(text).items()} == {
        "a/b": (zero, 1),
        "c": (one, 22),
    }
    assert parse_release("Suite: x\n") == {}


def test_a_field_may_go_over_several_lines() -> None:
    index = SuiteIndex("main", packages_file("a 1; Depends: b,\n c,\n d", "b 1", "c 1", "d 1"))

    assert [each.name for each in resolve(["a"], Archive([index]))] == ["a", "b", "c", "d"]
