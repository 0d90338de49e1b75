"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.fakes.workspace import FakeWorkspace

# The same examples on every run, and no time limit: a test says the same thing on a laptop and on a busy server.
settings.register_profile(
    "forge",
    deadline=None,
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("forge")

# What a shell starts in the background ignores Ctrl-C, and so would all that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def workspace(tmp_path: Path) -> FakeWorkspace:
    """A workspace of files that the test writes, with the built-in rules and a few invented devices."""
    return FakeWorkspace(tmp_path / "ws")
