"""The tool `inspect`: what it says of an image's files and configuration."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from forge.core.errors import ActionFailed
from forge.core.tool import FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import Symlink
from forge.oci.inspection import inspect
from tests.fakes.store import MemoryStore
from tests.oci.sample import base, make_image, make_layer, tree_of

LINKS = {"opt/a": Symlink("/opt/b"), "opt/b": Symlink("a"), "opt/up": Symlink("../bin"), "opt/root": Symlink("/")}


def report(**params: Json) -> dict[str, Any]:
    """Inspect the sample image; the report, whatever the verdict."""
    store = MemoryStore()
    entries = {**base(store), **LINKS}
    layout = make_image(store, [make_layer(store, base(store))])
    store.put(layout.encoded)
    inputs = {"layout": TreeContent(layout.digest, layout.root), "root": tree_of(store, entries)}
    try:
        made = inspect(ToolRequest(params, inputs, store))["report.json"]
    except ActionFailed as error:
        assert error.log.startswith("FAILED: ")
        return dict(json.loads(error.left["report.json"]))
    assert isinstance(made, FileContent)
    found = dict(json.loads(store.read(made.digest)))
    assert found["passed"]
    return found


def said(**params: Json) -> str:
    """Say what is wrong, of one expectation."""
    (case,) = report(**params)["cases"]
    assert case["passed"] is (not case["message"])
    return str(case["message"])


@pytest.mark.parametrize(
    ("path", "expected", "message"),
    [
        ("/etc/passwd", {}, ""),
        ("/etc/passwd", {"kind": "file", "executable": False, "contains": "65532"}, ""),
        ("/etc/passwd", {"contains": "root"}, 'Does not contain "root"'),
        ("/etc/passwd", {"executable": True}, "Is not executable"),
        ("/etc/passwd", {"kind": "folder"}, "Is a file, expected a folder"),
        ("/etc/passwd/x", {}, "Is not there"),
        ("/etc", {"kind": "folder"}, ""),
        ("/etc", {"executable": True}, "Is a folder, expected a file"),
        ("/tmp", {"kind": "folder"}, ""),
        ("/usr/bin/python3", {"executable": False}, "Is executable"),
        ("/bin/python3", {"executable": True}, ""),
        ("/opt/up/python3", {"executable": True}, ""),
        ("/opt/root/bin/python3", {"executable": True}, ""),
        ("/opt/root", {"kind": "folder"}, ""),
        ("/opt/a", {}, "Is not there"),
        ("/usr/share/link", {"exists": False}, ""),
        ("/bin/sh", {"exists": False}, ""),
        ("/bin/python3", {"exists": False}, "Is there, a file"),
        ("/var/tmp/empty", {"sha256": hashlib.sha256(b"").hexdigest()}, ""),
        ("/var/tmp/empty", {"sha256": "0" * 64}, f"Has SHA-256 {hashlib.sha256(b'').hexdigest()}, expected {'0' * 64}"),
    ],
)
def test_files_are_as_a_program_in_the_image_sees_them(path: str, expected: dict[str, Json], message: str) -> None:
    assert message == said(files={path: {"exists": True, **expected}})


@pytest.mark.parametrize(
    ("name", "expected", "message"),
    [
        ("user", "65532:65532", ""),
        ("user", "root", 'Is "65532:65532", expected "root"'),
        ("workdir", "/opt/forge/app", ""),
        ("entrypoint", ["/usr/bin/python3", "-m", "forge_runtime"], ""),
        ("entrypoint", [], 'Is ["/usr/bin/python3","-m","forge_runtime"], expected []'),
        ("cmd", ["serve"], ""),
        ("ports", [3000], ""),
        ("ports", [3000, 80], 'No [80] in ["3000/tcp"]'),
        ("env", {"LANG": "C.UTF-8"}, ""),
        ("env", {"LANG": "C", "X": ""}, '`LANG` is "C.UTF-8", expected "C"; `X` is null, expected ""'),
        ("labels", {"io.forge.platform": "cpu_llm_trf"}, ""),
        ("labels", {"a": "b"}, '`a` is null, expected "b"'),
    ],
)
def test_the_configuration_is_what_the_image_says_of_itself(name: str, expected: Json, message: str) -> None:
    assert message == said(config={name: expected})


def test_every_expectation_is_a_case() -> None:
    files: Json = {"/etc": {"exists": True}, "/nothing": {"exists": True}}
    found = report(files=files, config={"user": "65532:65532"})

    assert [("user", True), ("/etc", True), ("/nothing", False)] == [
        (each["name"], each["passed"]) for each in found["cases"]
    ]
    assert False is found["passed"]
