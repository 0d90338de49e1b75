"""What the server asks of an inference framework: of every one, of one for text, of one for tensors."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, runtime_checkable

from forge_runtime import backends
from forge_runtime.config import ModelConfig, Params
from forge_runtime.error import ConfigError, Fault, RequestError
from forge_runtime.request import Sampling

if TYPE_CHECKING:
    # An image without numpy serves text all the same.
    from numpy.typing import NDArray

__all__ = [
    "Backend",
    "FinishReason",
    "Generation",
    "Outcome",
    "Progress",
    "Prompt",
    "Supervised",
    "TensorBackend",
    "TensorSpec",
    "TextBackend",
    "check_backend",
    "open_backend",
]

TENSORS: Final = frozenset({"onnxruntime"})
"""Backends for arrays; all others are for text."""

FinishReason = Literal[
    "stop",  # the model ended the text
    "length",  # a limit of tokens ended it
    "cancelled",  # nobody waited any more
]


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model added to one prompt."""

    text: str
    """Without the prompt, and without the stop sequence that ended it."""
    prompt_tokens: int
    generated_tokens: int
    token_ids: tuple[int, ...] = ()
    """The generated ones, an end-of-text token included; empty where a backend has none."""
    finish_reason: FinishReason = "length"


Outcome = Generation | RequestError
"""What came of one prompt: a refusal is of that prompt alone, not of those that ran beside it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text to continue, in a batch with others that may ask for something else."""

    text: str
    sampling: Sampling
    """`seed` is the prompt's own: the same seed draws the same text, whoever runs beside it."""
    streams: bool = False
    """Whether somebody reads along; else `emit` need not be called."""


class Progress(Protocol):
    """Those who wait for a batch, by the place of their prompt in it. Asked between tokens."""

    def cancelled(self, index: int) -> bool:
        """Whether nobody waits for this prompt any more."""
        ...

    def emit(self, index: int, text: str) -> None:
        """Hand on whole characters as they come; together they are the text of the generation."""
        ...


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model."""

    name: str
    dtype: str
    """numpy's name of it."""
    shape: tuple[int | None, ...]
    """None where any size will do."""


class Backend(Protocol):
    """One model under one framework. Called from one thread only."""

    def load(self, model: ModelConfig, params: Params) -> None:
        """Read the weights; raise LoadError for what cannot be served.

        Called once more, in a new process, where a supervised backend was lost.
        """
        ...

    def describe(self) -> Mapping[str, str | int]:
        """Say what came of `load`: device, precision, threads, context length."""
        ...


@runtime_checkable
class TextBackend(Backend, Protocol):
    """A model that continues text."""

    def generate(self, prompts: Sequence[Prompt], progress: Progress) -> Sequence[Outcome]:
        """Continue each prompt, as one batch; return an outcome for each, in their order.

        A prompt that the context cannot hold is a RequestError among the outcomes, found before
        anything is generated. A prompt that nobody waits for ends where it is, as `cancelled`.
        """
        ...


@runtime_checkable
class TensorBackend(Backend, Protocol):
    """A model that turns arrays into arrays."""

    def signature(self) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
        """Name what goes in and what comes out, once the model is loaded."""
        ...

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the model once; inputs that it does not take raise RequestError."""
        ...


@runtime_checkable
class Supervised(Protocol):
    """A backend that can be lost while the server lives on: its process ends."""

    def watch(self, lost: Callable[[str], None]) -> None:
        """Call `lost`, from any thread, once each time that a loaded model is gone, with why."""
        ...

    def kill(self, reason: str) -> None:
        """End the process under the call that it is in, which raises BackendLost then; from any thread."""
        ...

    def close(self) -> None:
        """End its process."""
        ...


def check_backend(name: str) -> None:
    """Raise ConfigError unless this package has a backend of that name. Imports none."""
    known = sorted(module.name for module in pkgutil.iter_modules(backends.__path__))
    if name not in known:
        raise ConfigError("config.json", [Fault("backend", f"Unknown backend `{name[:40]}`; known are {known}")])


def open_backend(name: str) -> Backend:
    """Make the backend of that name, in a process of its own: its crash or hang is not the server's."""
    from forge_runtime.isolated import IsolatedTensors, IsolatedText

    check_backend(name)
    kind = IsolatedTensors if name in TENSORS else IsolatedText
    return kind(f"{backends.__name__}.{name}")
