"""What the server asks of an inference framework: of every one, of one for text, of one for tensors."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, runtime_checkable

from forge_runtime import backends
from forge_runtime.config import ModelConfig, Params
from forge_runtime.error import ConfigError, Fault
from forge_runtime.request import Sampling

if TYPE_CHECKING:
    # An image without numpy serves text all the same.
    from numpy.typing import NDArray

__all__ = [
    "Backend",
    "FinishReason",
    "Generation",
    "Supervised",
    "TensorBackend",
    "TensorSpec",
    "TextBackend",
    "check_backend",
    "open_backend",
]

ISOLATED: Final = frozenset({"llama_cpp"})
"""Backends whose library ends the process on a failed check: they get one of their own."""

FinishReason = Literal[
    "stop",  # the model ended the text
    "length",  # a limit of tokens ended it
    "cancelled",  # nobody waited any more
]


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model added to one prompt."""

    text: str
    """Without the prompt."""
    prompt_tokens: int
    generated_tokens: int
    token_ids: tuple[int, ...] = ()
    """The generated ones, an end-of-text token included; empty where a backend has none."""
    finish_reason: FinishReason = "length"


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

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, cancelled: Callable[[], bool]
    ) -> Sequence[Generation]:
        """Continue each prompt, as one batch; look at `cancelled` between tokens.

        A prompt that the context cannot hold raises RequestError.
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

    def close(self) -> None:
        """End its process."""
        ...


def check_backend(name: str) -> None:
    """Raise ConfigError unless this package has a backend of that name. Imports none."""
    known = sorted(module.name for module in pkgutil.iter_modules(backends.__path__))
    if name not in known:
        raise ConfigError(
            "config.json", [Fault("backend", f"Unknown backend `{name[:40]}`; known are {known}")]
        )


def open_backend(name: str) -> Backend:
    """Make the backend of that name; import its module, here or where it runs."""
    check_backend(name)
    module = f"{backends.__name__}.{name}"
    if name in ISOLATED:
        from forge_runtime.isolated import IsolatedBackend

        return IsolatedBackend(module)
    create: Callable[[], Backend] = importlib.import_module(module).create
    return create()
