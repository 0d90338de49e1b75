"""What the server asks of an inference framework."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from forge_runtime import backends
from forge_runtime.config import ModelConfig, Params
from forge_runtime.error import ConfigError, Fault
from forge_runtime.request import Sampling

__all__ = ["Backend", "FinishReason", "Generation", "check_backend", "open_backend"]

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


class Backend(Protocol):
    """One model under one framework. Called from one thread only."""

    def load(self, model: ModelConfig, params: Params) -> None:
        """Read the weights; raise LoadError for what cannot be served."""
        ...

    def describe(self) -> Mapping[str, str | int]:
        """Say what came of `load`: device, precision, threads, context length."""
        ...

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, cancelled: Callable[[], bool]
    ) -> Sequence[Generation]:
        """Continue each prompt, as one batch; look at `cancelled` between tokens.

        A prompt that the context cannot hold raises RequestError.
        """
        ...


def check_backend(name: str) -> None:
    """Raise ConfigError unless this package has a backend of that name. Imports none."""
    known = sorted(module.name for module in pkgutil.iter_modules(backends.__path__))
    if name not in known:
        raise ConfigError(
            "config.json", [Fault("backend", f"Unknown backend `{name[:40]}`; known are {known}")]
        )


def open_backend(name: str) -> Backend:
    """Import the backend's module and make one."""
    check_backend(name)
    create: Callable[[], Backend] = importlib.import_module(f"{backends.__name__}.{name}").create
    return create()
