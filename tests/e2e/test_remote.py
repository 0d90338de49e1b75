"""Remote caches, as people use them: a build, another machine without anything, nothing that runs there."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e import buildgrid
from tests.e2e.conftest import CHECKPOINT, Built
from tests.e2e.program import Forge
from tests.fakes.grpc_cache import GrpcCacheServer
from tests.fakes.http_cache import HttpCacheServer

pytestmark = pytest.mark.e2e

FILL = "--remote-upload-cached-results"
SECRET = "token-7f31"


@pytest.fixture(params=["buildgrid", "http"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A server of each protocol, with nothing in it."""
    if request.param == "http":
        with HttpCacheServer(tmp_path / "http").running() as server:
            yield server.address
        return
    if not buildgrid.is_ready():
        reason = "no BuildGrid: `python -m tests.e2e.buildgrid` installs one"
        if os.environ.get("FORGE_REQUIRE_BUILDGRID"):
            pytest.fail(reason)
        pytest.skip(reason)
    with buildgrid.running() as served:
        yield served


def edit(forge: Forge, line: str) -> None:
    """Change what the model is made of; as many words as there were make it, and some more."""
    with (forge.cwd / "targets/tiny_gpt2/corpus.txt").open("a") as corpus:
        corpus.write(f"{line}\n")


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_machine_without_anything_runs_nothing_and_makes_the_same(
    address: str, copy: Forge, built: Built, tmp_path: Path
) -> None:
    there = f"--remote-cache={address}"
    filled = copy("build", CHECKPOINT, there, FILL)
    home = tmp_path / "home"
    events = tmp_path / "events"
    again = copy("build", CHECKPOINT, there, f"--build-event-json-file={events}", "--output=json", FORGE_HOME=str(home))
    table = again.table
    kinds = [json.loads(line) for line in events.read_text().splitlines()]

    assert "0 actions ran" in filled.stderr
    assert 0 == table["actions"]["ran"]
    assert table["actions"]["remote"] == table["actions"]["cached"] > 50
    assert [filled.digest(CHECKPOINT)] == [each["digest"] for each in table["targets"]]
    assert all(each["remote"] for each in kinds if each["event"] == "action_finished")
    # Not the environment that made it: keys, and the files that are its outputs.
    assert size(home / "cas") < size(built.home / "cas") / 10
    assert "0 actions ran" in copy("build", CHECKPOINT, there, FORGE_HOME=str(home)).stderr
    assert "Nothing to do" in copy("build", CHECKPOINT, there, FORGE_HOME=str(home)).stderr

    edit(copy, "one more line")
    edited = copy("build", CHECKPOINT, there, FORGE_HOME=str(home))
    clean = copy("build", CHECKPOINT, FORGE_HOME=str(built.home))
    assert clean.digest(CHECKPOINT) == edited.digest(CHECKPOINT)


def test_who_may_only_read_writes_nothing_and_builds(copy: Forge, tmp_path: Path) -> None:
    with HttpCacheServer(login=SECRET).running() as server:
        header = f"authorization=Bearer {SECRET}"
        forge = replace(
            copy, environ={**copy.environ, "FORGE_REMOTE_CACHE": server.address, "FORGE_REMOTE_HEADER": header}
        )
        edit(copy, "one more line to read")
        forge("build", CHECKPOINT, "--noremote-upload-local-results")

        assert {"GET", "HEAD"} >= {method for method, _ in server.log}
        edit(copy, "one more line to write")
        forge("build", CHECKPOINT)

        assert "PUT" in {method for method, _ in server.log}


def test_a_secret_is_in_no_note_of_forge(copy: Forge, built: Built, tmp_path: Path) -> None:
    with GrpcCacheServer(token=f"Bearer {SECRET}", batch=0).running() as server:
        flags = [f"--remote-cache={server.address}", f"--remote-header=authorization=Bearer {SECRET}", FILL]
        events = tmp_path / "events"
        said = copy("build", "//tiny_gpt2:weights", *flags, f"--build-event-json-file={events}")
        said_again = copy("build", "//tiny_gpt2:weights", *flags[:2])

        assert server.results
    notes = [path.read_bytes() for path in (built.home / "workspaces").rglob("*") if path.is_file()]
    notes += [events.read_bytes(), *server.blobs.values(), *server.results.values()]
    assert not [note for note in notes if SECRET.encode() in note]
    assert SECRET not in said.stdout + said.stderr + said_again.stdout + said_again.stderr


def test_a_server_that_dies_is_a_warning(copy: Forge, tmp_path: Path) -> None:
    with HttpCacheServer(tmp_path / "http").running() as server:
        copy("build", CHECKPOINT, f"--remote-cache={server.address}", FILL)
        server.dead = True
        done = copy("build", CHECKPOINT, f"--remote-cache={server.address}", "--jobs=1", FILL)

        assert "this build goes on without it" in done.stderr
        assert 2 == done.stderr.count("warning: ")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_results_are_sent_loses_nothing_here(copy: Forge, sent: signal.Signals) -> None:
    with HttpCacheServer(slow=0.5).running() as server:
        began = time.monotonic()
        process = copy.start("build", CHECKPOINT, f"--remote-cache={server.address}", FILL)
        while not any(method == "PUT" for method, _ in server.log):
            assert time.monotonic() - began < 120
            time.sleep(0.05)
        process.send_signal(sent)
        process.communicate(timeout=60)

        assert 8 == process.returncode
    assert "0 actions ran" in copy("build", CHECKPOINT, FORGE_NO_SNAPSHOT="1").stderr
