"""Attributes as values, for those who make them in Python and not from TOML."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from forge.core.artifact import Placement, Source
from forge.core.label import Label
from forge.loading.attribute import Attributes, PlacedFiles, SourceFile, SourceFiles, TargetLabel, collect


class Attrs(Attributes):
    dep: TargetLabel = Label("a", "b")
    file: SourceFile = Source("a.txt")
    files: SourceFiles = ()
    data: PlacedFiles = ()


def test_takes_values_as_they_are() -> None:
    attrs = Attrs(dep=Label("x", "y"), file=Source("b.txt"), files=(Source("c.txt"), Source("c.txt")))

    assert (collect(attrs, Label), collect(attrs, Source)) == ([Label("x", "y")], [Source("b.txt"), Source("c.txt")])


def test_files_that_are_placed_are_sources_too() -> None:
    assert collect(Attrs(data=(Placement((Source("b.txt"),)),)), Source)[1:] == [Source("b.txt")]


@pytest.mark.parametrize("values", [{"dep": ":y"}, {"file": "b.txt"}, {"files": ["b.txt"]}, {"data": ["b.txt"]}])
def test_what_is_relative_needs_a_package(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="Relative values need a package"):
        Attrs.model_validate(values)
