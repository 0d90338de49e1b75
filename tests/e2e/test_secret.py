"""A secret of `forge run`: the service has it, and no list of processes shows it."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.program import REPOSITORY, Forge

pytestmark = pytest.mark.e2e

VALUE = "s3cret-of-nobody"


def test_a_secret_is_in_the_services_environment_and_on_no_command_line() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    forge = Forge(REPOSITORY, REPOSITORY, {"SHOP_TOKEN": VALUE})
    process = forge.start("run", "//tiny_vision:cpu_onnx", f"--port={port}", "--secret=SHOP_TOKEN", "--progress=quiet")
    try:
        _wait(port)
        service = [pid for pid in _below(process.pid) if b"forge_runtime" in _read(pid, "cmdline")]

        assert service
        assert [] == [pid for pid in _below(process.pid) if VALUE.encode() in _read(pid, "cmdline")]
        assert any(f"SHOP_TOKEN={VALUE}".encode() in _read(pid, "environ").split(b"\0") for pid in service)
    finally:
        process.send_signal(signal.SIGINT)
        said = "".join(process.communicate(timeout=60))

    assert VALUE not in said


def _wait(port: int) -> None:
    end = time.monotonic() + 300
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.2)


def _below(pid: int) -> list[int]:
    """List a process and all that it started."""
    parents = {}
    for each in os.listdir("/proc"):
        if each.isdigit():
            stat = _read(int(each), "stat").rpartition(b")")[2].split()
            if stat:
                parents[int(each)] = int(stat[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
