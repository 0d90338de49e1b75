"""The page at `/`, as far as it can be seen without a browser; tests/e2e/test_page.py has one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from forge_runtime.config import ModelConfig
from forge_runtime.http import page
from tests.runtime.fake import Client, FakeBackend, Reply, make_config, serving
from tests.runtime.test_inference import TensorFake, Tensors

HOSTILE = "</script><script>alert(1)</script><!--"
SIZE = 25_000


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    config = replace(make_config(), model=ModelConfig(HOSTILE, Path("/models/weights")))
    with serving(FakeBackend(), config) as client:
        yield client


@pytest.fixture(scope="module")
def reply(client: Client) -> Reply:
    return client.get("/")


def about(reply: Reply) -> dict[str, object]:
    """What the page is told of the server."""
    (found,) = re.findall(r'<script id="about" type="application/json">(.*?)</script>', reply.body.decode(), re.DOTALL)
    value = json.loads(found)
    assert isinstance(value, dict)
    return value


def policy(reply: Reply) -> dict[str, str]:
    rules = (rule.partition(" ") for rule in reply.headers["content-security-policy"].split("; "))
    return {name: value for name, _, value in rules}


def test_it_is_a_small_page_of_its_own(reply: Reply) -> None:
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", reply.body.decode())

    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert len(reply.body) < SIZE
    assert set(addresses) <= {"http://www.w3.org"}  # the name of SVG


def test_its_policy_allows_its_own_script_and_style_by_their_hashes_and_nothing_else(reply: Reply) -> None:
    text = reply.body.decode()
    (script,) = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (script, style)]

    rules = policy(reply)

    assert [f"'sha256-{each}'" for each in hashes] == [rules["script-src"], rules["style-src"]]
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert "unsafe" not in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("x-frame-options", "DENY")],
)
def test_browsers_are_told_to_be_strict(reply: Reply, name: str, value: str) -> None:
    assert reply.headers[name] == value


def test_no_name_can_end_the_element_that_it_stands_in(reply: Reply) -> None:
    assert about(reply)["model"] == HOSTILE
    assert reply.body.decode().count("<script") == 2


def test_it_is_told_what_is_served(reply: Reply) -> None:
    with serving(TensorFake(), handler=Tensors) as client:
        assert [about(reply)["texts"], about(client.get("/"))["texts"]] == [True, False]


def test_it_is_there_while_the_model_is_not(client: Client) -> None:
    with serving(FakeBackend(), ready=False) as loading:
        assert loading.get("/").status == 200


def test_a_head_has_no_body(client: Client) -> None:
    reply = client.send("HEAD", "/")

    assert (reply.status, reply.body) == (200, b"")


def test_its_file_has_the_place_for_what_it_is_told() -> None:
    assert page.FILE.read_text(encoding="utf-8").count(page.PLACE) == 1
