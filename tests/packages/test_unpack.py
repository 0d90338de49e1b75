"""The tool `unpack` as the executor sees it."""

from __future__ import annotations

import pytest

from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, Json, ToolRequest, TreeContent
from forge.packages.unpack import unpack
from tests.fakes.store import MemoryStore

FILE = FileContent(Digest.of(b"data"))


@pytest.mark.parametrize(
    ("params", "inputs", "expected"),
    [
        ({}, {"file": FILE}, "Unknown format `None`, expected one of [deb, wheel]"),
        (
            {"format": "rpm", "name": "x.rpm"},
            {"file": FILE},
            "x.rpm: Unknown format `rpm`, expected one of [deb, wheel]",
        ),
        ({"format": "deb", "name": "x.deb"}, {}, "x.deb: `unpack` takes one file, `file`"),
        ({"format": "deb"}, {"file": TreeContent(FILE.digest, FILE.digest)}, "`unpack` takes one file, `file`"),
        ({"format": "wheel"}, {"file": FILE}, "`` is no Python version like `3.11`"),
        ({"format": "wheel", "python": "3.11/../.."}, {"file": FILE}, "`3.11/../..` is no Python version like `3.11`"),
        ({"format": "deb"}, {"file": FILE}, "Not an `ar` archive"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    params: dict[str, Json], inputs: dict[str, Content], expected: str
) -> None:
    store = MemoryStore()
    store.put(b"data")

    with pytest.raises(ActionFailed) as caught:
        unpack(ToolRequest(params, inputs, store))

    assert str(caught.value) == expected
