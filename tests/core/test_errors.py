from __future__ import annotations

import pytest

from forge.core import errors
from forge.core.errors import ActionFailed, Fault, ForgeError, LoadError


def test_a_fault_is_place_fault_and_remedy() -> None:
    fault = Fault("Unknown attribute `x`", "a/BUILD.toml:3", "Did you mean `y`?")

    assert str(fault) == "a/BUILD.toml:3: Unknown attribute `x`\n  hint: Did you mean `y`?"


def test_an_error_is_its_faults_one_below_another() -> None:
    error = LoadError(Fault("One"), Fault("Two", "here"))

    assert (str(error), len(error.faults)) == ("One\nhere: Two", 2)


def test_a_failed_action_keeps_the_end_of_its_log() -> None:
    assert ActionFailed("Bad", log="last words").log == "last words"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LoadError", 1), ("AnalysisError", 1), ("Unavailable", 1), ("MaterialError", 1), ("UsageError", 2),
        ("NoTestsError", 4), ("QueryError", 7), ("ActionFailed", 1), ("TestsFailed", 3), ("Interrupted", 8),
        ("LockHeld", 9), ("HostError", 36), ("InternalError", 37),
    ],
)  # fmt: skip
def test_exit_codes_are_bazel_s(name: str, expected: int) -> None:
    kind: type[ForgeError] = getattr(errors, name)

    assert kind("x").exit_code == expected


def test_the_docstring_draws_every_error() -> None:
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ForgeError)]

    assert [kind.__name__ for kind in kinds if kind.__name__ not in str(errors.__doc__)] == []
