"""Where values of secrets come from, and that no message holds one."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.cli.secret_value import secret_values
from forge.core.errors import HostError, UsageError


def test_a_value_is_given_or_in_a_file_or_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of a file\n")
    environ = {"C": "of the environment", "D_FILE": str(tmp_path / "file"), "E": "declared"}
    found = secret_values(["E", "A"], ["A=given=1", f"B=@{tmp_path}/file", "C", "D"], environ)

    assert {"A": "given=1", "B": "of a file", "C": "of the environment", "D": "of a file", "E": "declared"} == found


@pytest.mark.parametrize(
    ("declared", "given", "message"),
    [
        (["A"], [], "The secret `A` is not there"),
        ([], ["A"], "The secret `A` is not there"),
        ([], ["A=@nowhere"], "The secret `A` cannot be read from `nowhere`: No such file or directory"),
        ([], ["A B=s3cret"], "`--secret A B` is no name, or is given twice"),
        ([], ["A=s3cret", "A=s3cret"], "`--secret A` is no name, or is given twice"),
        ([], ["A=s3cret\0"], "The secret `A` holds a NUL character"),
    ],
)
def test_what_is_wrong_is_said_without_the_value(declared: list[str], given: list[str], message: str) -> None:
    with pytest.raises((HostError, UsageError)) as caught:
        secret_values(declared, given, {})

    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)
