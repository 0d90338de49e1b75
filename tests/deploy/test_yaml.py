"""YAML that any reader takes for the values that it was written from."""

from __future__ import annotations

import pytest
import yaml as reader
from hypothesis import given
from hypothesis import strategies as st

from forge.deploy import yaml
from forge.deploy.yaml import Value

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES: st.SearchStrategy[Value] = st.recursive(
    TEXT | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_what_is_read_back_is_what_was_written(value: dict[str, Value]) -> None:
    assert value == reader.safe_load(yaml.document(value) or "{}")


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_it_is_ascii_and_the_same_each_time(value: dict[str, Value]) -> None:
    text = yaml.document(value)

    assert text.isascii()
    assert text == yaml.document(value)


@pytest.mark.parametrize(
    "text",
    [
        "yes", "No", "OFF", "null", "~", "1e3", "0x1f", "1:30", "2001-01-01", "", " a", "a: b", "- a", "# a", "*a",
        "&a", "!!python/object:os.system", "%a", "@a", "`a`", "{{ a }}", "$(id)", "a\nb: c", "a\u2028b", "a\x85b",
        "\x7f", "𝄞", "'", '"', "\\",
    ],
)  # fmt: skip
def test_i05_a_text_stays_one_text(text: str) -> None:
    assert {text: text, "list": [text]} == reader.safe_load(yaml.document({text: text, "list": [text]}))
    assert 3 == len(yaml.document({text: text, "list": [text]}).splitlines())
