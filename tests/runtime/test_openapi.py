"""The document at /openapi.json: valid, and true of the routes that are there."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import validate

from forge_runtime import BaseServer
from tests.runtime.fake import FakeBackend, make_config, serving
from tests.runtime.test_inference import TensorFake, Tensors

TOKEN: dict[str, Any] = {"logs": True, "shutdown": True, "admin_token": "t0ken"}


@pytest.fixture(scope="module", params=["texts", "tensors"])
def found(request: pytest.FixtureRequest) -> tuple[dict[str, Any], list[tuple[str, int]]]:
    """The document, and what each operation in it answers to an empty request."""
    texts = request.param == "texts"
    backend, handler = (FakeBackend(), BaseServer) if texts else (TensorFake(), Tensors)
    with serving(backend, make_config(server=TOKEN), handler=handler) as client:
        document = client.get("/openapi.json").json
        assert isinstance(document, dict)
        answers = [
            (path, client.send(method.upper(), path.replace("{name}", "tiny").replace("{version}", "1"), b"").status)
            for path, operations in document["paths"].items()
            for method in operations
        ]
        return document, answers


def test_it_is_a_valid_document(found: tuple[dict[str, Any], object]) -> None:
    validate(found[0])


def test_every_operation_in_it_is_there(found: tuple[object, list[tuple[str, int]]]) -> None:
    assert [(path, status) for path, status in found[1] if status in (404, 405, 500)] == []


def test_every_status_that_comes_is_in_it(found: tuple[dict[str, Any], list[tuple[str, int]]]) -> None:
    document, answers = found

    for path, status in answers:
        said = [code for operation in document["paths"][path].values() for code in operation["responses"]]
        assert str(status) in said, path
