"""`forge bench`: what it hands on, and what it makes of the end."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from forge.cli.command import bench
from forge_client import option
from tests.client.fake import Asked, Reply, echo, reply, serving, unused_port

ROOT = Path(__file__).parents[2]


def flags(parser: argparse.ArgumentParser) -> dict[str, tuple[str, ...] | None]:
    """Name a parser's flags, with their choices."""
    found = {}
    for action in parser._actions:
        choices = tuple(map(str, action.choices)) if action.choices else None
        found.update({name: choices for name in action.option_strings if name.startswith("--")})
    return found


def test_it_has_the_flags_of_the_load_generator() -> None:
    """But for those that forge's own stand for."""
    known = flags(option._parser("bench"))
    offered: dict[str, tuple[str, ...] | None] = {}
    for each in bench._CLIENT:
        choices = tuple(map(str, each.type.choices)) if isinstance(each.type, click.Choice) else None
        offered.update(dict.fromkeys((*each.opts, *each.secondary_opts), choices))

    assert {"--quiet", "--output", "--help"} == set(known) - set(offered)
    assert offered == {name: choices for name, choices in known.items() if name in offered}


def forge_bench(*words: str, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command; it must end with `code`."""
    done = subprocess.run(
        [sys.executable, "-m", "forge", "bench", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (code, False) == (done.returncode, "Traceback" in done.stderr), done.stderr
    return done


def test_an_address_is_measured_as_it_is(tmp_path: Path) -> None:
    """In any folder: no workspace is needed. Variables that the client knows in its image mean nothing here."""
    words = [
        "--concurrency=2",
        "--requests=6",
        "--warmup=0",
        "--prompt=-a",
        "--no-stream",
        f"--html={tmp_path / 'x.html'}",
    ]
    with serving(echo) as fake:
        done = forge_bench(fake.url, *words, "--output=json", DATASET="none", SERVER_PORT="x")

    found: Any = json.loads(done.stdout)
    assert (2, 6, fake.url) == (
        found["levels"][0]["concurrency"], found["levels"][0]["summary"]["answered"], found["target"],
    )  # fmt: skip
    assert [["-a"]] * 6 == [each.json["prompts"] for each in fake.posted]  # type: ignore[index]
    assert "<svg" in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize(("code", "words"), [(3, ["--wait=0"]), (2, ["--concurrency=x"])])
def test_the_load_generator_s_exit_code_is_passed_on(code: int, words: list[str]) -> None:
    done = forge_bench(f"http://127.0.0.1:{unused_port()}", *words, code=code)

    assert done.stderr.startswith("error: ")


def test_what_fails_is_no_success() -> None:
    with serving(lambda asked: reply(b"", 500) if asked.method == "POST" else echo(asked)) as fake:
        forge_bench(fake.url, "--requests=1", "--warmup=0", code=1)


def test_environment_is_for_an_image() -> None:
    result = CliRunner().invoke(bench.command, ["http://127.0.0.1:1", "--env", "A=B"])

    assert 2 == result.exit_code
    assert "--env is for an image that is served here" in result.output


def test_an_interrupt_ends_both() -> None:
    def script(asked: Asked) -> Reply:
        return Reply((), "hold") if asked.method == "POST" else echo(asked)

    with serving(script) as fake:
        line = [sys.executable, "-m", "forge", "bench", fake.url, "--prompt=a"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(line, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while not fake.running and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)  # as Ctrl-C, but never ignored by a shell
        out, err = process.communicate(timeout=20)
        end = time.monotonic() + 10
        while fake.running and time.monotonic() < end:
            time.sleep(0.005)

        assert (8, "") == (process.returncode, out)
        assert err.endswith("forge: interrupted\n")
        assert 0 == fake.running
