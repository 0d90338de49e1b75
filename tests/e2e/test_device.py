"""A new device is one new file: locked, built and looked at, with no other edit."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.e2e.conftest import edit
from tests.e2e.layout import Layout
from tests.e2e.program import Forge, copy_code
from tests.e2e.test_deps import wheel

pytestmark = pytest.mark.e2e

DEVICE = """\
# A board that only loads what it is sent.
[device]
arch = "amd64"
accelerator = "none"

[board_onnx]
backend = "onnx"
base = "python311"
requirements = ["boardly"]
"""


def test_one_file_makes_a_platform_that_is_locked_and_built(tmp_path: Path) -> None:
    code = copy_code(tmp_path / "code")
    links = tmp_path / "links"
    links.mkdir()
    wheel(links, "boardly", "1.0", code="answer = 42\n")
    Forge(code, tmp_path)("init", "shop")
    edit(tmp_path / "shop/targets/hello/BUILD.toml", 'platforms = ["cpu_onnx"]', 'platforms = ["*_onnx"]')
    closed = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links), "PIP_CONFIG_FILE": "/dev/null"}
    forge = Forge(code, tmp_path / "shop", closed)
    before = forge("query", "//hello:all").stdout
    (tmp_path / "shop/toolchains").mkdir()
    (tmp_path / "shop/toolchains/board.toml").write_text(DEVICE)
    after = forge("query", "//hello:all").stdout
    missing = forge("build", "//hello:board_onnx", code=1).stderr
    forge("lock", "//toolchains:board_onnx")
    lock = tomllib.loads((tmp_path / "shop/toolchains/locks/board_onnx.python.toml").read_text())
    forge("build", "//hello:board_onnx")
    labels = Layout(tmp_path / "shop/forge-out/hello/board_onnx").manifest["annotations"]

    assert set(after.split()) - set(before.split()) == {
        "//hello:board_onnx", "//hello:server@board_onnx", "//hello:smoke@board_onnx",
    }  # fmt: skip
    assert "hint: Run `forge lock //toolchains:board_onnx`" in missing
    assert [each["name"] for each in lock["package"]] == ["boardly"]
    assert labels["io.forge.platform"] == "board_onnx"
    assert "board_onnx: board, amd64" in forge("info", "platforms").stdout
