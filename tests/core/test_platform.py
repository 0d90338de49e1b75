from __future__ import annotations

import pytest

from forge.core.platform import Parameter, ParameterValue, Platform

INT = Parameter("n", "int", 1, minimum=1, maximum=8)
FLOAT = Parameter("x", "float", 1.0, minimum=0)
BOOL = Parameter("b", "bool", False)
TEXT = Parameter("s", "str", "a", choices=("a", "b"))


@pytest.mark.parametrize(
    ("parameter", "value"), [(INT, 1), (INT, 8), (FLOAT, 0), (FLOAT, 0.5), (BOOL, True), (TEXT, "b")]
)
def test_takes_a_value_that_fits(parameter: Parameter, value: ParameterValue) -> None:
    assert parameter.fault(value) == ""


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        (INT, 0, "`n` must be at least 1, not 0"),
        (INT, 10_000_001, "`n` must be at most 8, not 10000001"),
        (INT, 1.5, "`n` must be a whole number, not `1.5`"),
        (INT, True, "`n` must be a whole number, not `true`"),
        (INT, "1", "`n` must be a whole number, not `1`"),
        (FLOAT, -0.5, "`x` must be at least 0, not -0.5"),
        (FLOAT, float("nan"), "`x` must be a number, not `nan`"),
        (FLOAT, float("inf"), "`x` must be a number, not `inf`"),
        (FLOAT, "1", "`x` must be a number, not `1`"),
        (FLOAT, False, "`x` must be a number, not `false`"),
        (BOOL, 1, "`b` must be true or false, not `1`"),
        (TEXT, "c", "`s` must be one of [a, b], not `c`"),
        (TEXT, 3, "`s` must be text, not `3`"),
    ],
)
def test_says_what_is_wrong_with_a_value(parameter: Parameter, value: ParameterValue, expected: str) -> None:
    assert parameter.fault(value) == expected


@pytest.mark.parametrize(
    ("platform", "expected"), [(Platform("amd64", "amd64"), False), (Platform("cpu_llm_trf", "amd64", "cpu"), True)]
)
def test_nothing_is_served_on_a_bare_architecture(platform: Platform, expected: bool) -> None:
    assert platform.is_service is expected
