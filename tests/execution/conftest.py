"""What tests of the real sandbox share."""

from __future__ import annotations

import os

import pytest

from forge.core.errors import HostError
from forge.execution.store import LocalStore
from tests.execution.rootfs import Shell, python_root


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    store = LocalStore(tmp_path_factory.mktemp("sandbox") / "home")
    shell = Shell(store, python_root(store))
    try:
        assert "2" == shell.say("1 + 1")
    except HostError as error:
        if os.environ.get("FORGE_TESTS_NO_SANDBOX"):
            pytest.skip(f"FORGE_TESTS_NO_SANDBOX is set: {error}")
        pytest.fail(f"These tests need the sandbox; FORGE_TESTS_NO_SANDBOX=1 leaves them out. {error}")
    return shell
