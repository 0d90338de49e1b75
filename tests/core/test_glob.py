from __future__ import annotations

import pytest

from forge.core.glob import is_glob, matches


@pytest.mark.parametrize(
    ("path", "glob", "expected"),
    [
        ("config.json", "config.json", True),
        ("config.json", "*.json", True),
        ("onnx/config.json", "*.json", False),
        ("onnx/config.json", "*/*.json", True),
        ("config.json", "**/*.json", True),
        ("a/b/config.json", "**/*.json", True),
        ("a/b/config.json", "a/**", True),
        ("config_json", "config.json", False),
        ("part-1", "part-?", True),
        ("part-/", "part-?", False),
        ("a[1]", "a[1]", True),
        ("a\nb", "**", True),
    ],
)
def test_a_glob_means_paths(path: str, glob: str, expected: bool) -> None:
    assert matches(path, glob) is expected


@pytest.mark.parametrize(("text", "expected"), [("a/b.json", False), ("*.json", True), ("a?", True), ("**", True)])
def test_what_is_a_glob(text: str, expected: bool) -> None:
    assert is_glob(text) is expected
