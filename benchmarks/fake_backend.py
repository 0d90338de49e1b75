"""A text backend without a model, which takes as long as the environment says: the load and faults of a real one.

    FAKE_CALL_MS    of one call; 20
    FAKE_KIND       `batchable`: whatever the batch; `serial`: for each prompt
    FAKE_TOKEN_MS   between the words of a text that somebody reads along
    FAKE_GATE       a file that `!wait` waits for, before it does what the next word says

A prompt is answered with itself in capitals, or does what its first word says.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from forge_runtime.backend import Generation, Outcome, Progress, Prompt
from forge_runtime.config import ModelConfig, Params
from forge_runtime.error import RequestError

__all__ = ["FakeBackend", "create"]

POLL_S = 0.005
CHUNK = 16 * 2**20
ROOM = 64 * 2**20
"""Bytes that may still be allocated once `!memory` came."""
PIECE = 32768


class FakeBackend:
    """Sleeps."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._call_s = float(environ.get("FAKE_CALL_MS", "20")) / 1000
        self._token_s = float(environ.get("FAKE_TOKEN_MS", "0")) / 1000
        self._serial = environ.get("FAKE_KIND", "batchable") == "serial"
        self._gate = Path(environ.get("FAKE_GATE", "/nonexistent"))

    def load(self, model: ModelConfig, params: Params) -> None:
        """Nothing is read."""

    def describe(self) -> Mapping[str, str | int]:
        """Say that it is none."""
        return {"backend": "fake"}

    def generate(self, prompts: Sequence[Prompt], progress: Progress) -> Sequence[Outcome]:
        """Take the time of a call, then that of each text that is read along."""
        time.sleep(self._call_s * (len(prompts) if self._serial else 1))
        return [self._answer(index, prompt, progress) for index, prompt in enumerate(prompts)]

    def _answer(self, index: int, prompt: Prompt, progress: Progress) -> Outcome:
        def cancelled() -> bool:
            return progress.cancelled(index)

        words = prompt.text.split()
        if words[:1] == ["!wait"]:
            _until(lambda: self._gate.exists() or cancelled())
            words = words[1:]
        fault = FAULTS.get(words[0]) if words else None
        if fault is not None:
            fault()
        if words[:1] == ["!long"]:
            return RequestError("Too long", param="prompts", code="context_length_exceeded")
        if words[:1] == ["!flood"]:
            return _emit(index, ["." * PIECE] * (int(words[1]) * 1024 // PIECE), 0.0, prompt, progress)
        if not prompt.streams:
            return Generation(prompt.text.upper(), len(words), 1, (), "stop")
        count = prompt.sampling.max_new_tokens or 16
        return _emit(index, [f"{number} " for number in range(count)], self._token_s, prompt, progress)


def create() -> FakeBackend:
    """Make the backend, in the process that this module is imported in."""
    return FakeBackend(os.environ)


def _emit(index: int, pieces: Sequence[str], pause_s: float, prompt: Prompt, progress: Progress) -> Generation:
    for count, piece in enumerate(pieces):
        if progress.cancelled(index):
            return Generation("".join(pieces[:count]), 1, count, (), "cancelled")
        progress.emit(index, piece)
        time.sleep(pause_s)
    return Generation("".join(pieces), 1, len(pieces), (), "length")


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(POLL_S)


def _hang() -> None:
    """Wait for ever, whoever does not."""
    while True:
        time.sleep(3600)


def _raise() -> None:
    raise ValueError("on purpose")


def _kill() -> None:
    """End as the kernel ends a process that takes the last memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def _exhaust() -> None:
    """Ask for more memory than the process may have, from now on."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
    held = []
    while True:
        held.append(bytearray(CHUNK))


FAULTS: Mapping[str, Callable[[], None]] = {
    "!crash": os.abort,
    "!hang": _hang,
    "!kill": _kill,
    "!memory": _exhaust,
    "!raise": _raise,
}
