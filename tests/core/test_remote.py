from __future__ import annotations

import pytest

from forge.core.digest import Digest
from forge.core.remote import grouped


def digest(size: int, name: int = 0) -> Digest:
    return Digest(f"{name:064x}", size)


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([], 1000, []),
        ([5], 0, [[5]]),
        ([5, 7, 6], 0, [[7], [6], [5]]),
        ([5, 7, 6], 10_000, [[7, 6, 5]]),
        ([5, 20_000, 6], 10_000, [[20_000], [6, 5]]),
        ([400, 400, 400], 1400, [[400, 400], [400]]),
    ],
    ids=["nothing", "one alone", "each alone", "all together", "a large one alone", "as many as fit"],
)
def test_blobs_are_divided_into_calls(sizes: list[int], limit: int, expected: list[list[int]]) -> None:
    digests = [digest(size, number) for number, size in enumerate(sizes)]

    assert [[each.size for each in group] for group in grouped(digests, limit)] == expected
