"""The steps of every request, whatever is asked for and answered."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Generic, TypeVar

from forge_runtime.backend import Backend
from forge_runtime.config import Config
from forge_runtime.error import LoadError

__all__ = ["HOOKS", "AnyLifecycle", "Lifecycle"]

HOOKS = ("load", "warm_up", "decode", "preprocess", "infer", "postprocess", "encode")

Asked = TypeVar("Asked")
Results = TypeVar("Results")


class Lifecycle(Generic[Asked, Results]):
    """A service in steps that can each be overridden.

    `load` and `warm_up` run at the start, and again where the backend was lost. A request then goes
    through `decode`, `preprocess`, `infer`, `postprocess` and `encode`, each given what the one before
    returned. All run in the model's thread, one at a time, but `decode`, which runs in a thread of
    its own, so that a bad request is refused while the model is busy: it must not
    touch the model. A hook raises RequestError for what is the client's fault.
    """

    needs: ClassVar[type] = Backend
    """Kind of backend that can serve it."""
    media_type: ClassVar[str] = "application/json"
    """Content type of what `encode` returns."""

    def __init__(self, config: Config, backend: Backend) -> None:
        if self.needs is not Backend and not isinstance(backend, self.needs):
            raise LoadError(f"`{type(self).__name__}` needs a {self.needs.__name__}, `{config.backend}` is none")
        self.config = config
        self.backend: Any = backend

    def load(self) -> None:
        """Read the model; what is raised here ends the process."""
        self.backend.load(self.config.model, self.config.params)

    def warm_up(self) -> None:
        """Do once what makes a first request slow."""

    def decode(self, body: bytes, content_type: str) -> Asked:
        """Turn the bytes of a request into what is asked for."""
        raise NotImplementedError

    def preprocess(self, request: Asked) -> Asked:
        """Prepare what is asked for."""
        return request

    def infer(self, request: Asked) -> Results:
        """Run the model."""
        raise NotImplementedError

    def postprocess(self, request: Asked, results: Results) -> object:
        """Turn results into the answer; `request` is what `decode` returned."""
        return results

    def encode(self, answer: object) -> bytes:
        """Turn the answer into the bytes of the response."""
        return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

    @property
    def batch_size(self) -> int:
        """How many items the model runs at a time: one, in latency mode."""
        return 1 if self.config.server.mode == "latency" else self.config.params.batch_size


AnyLifecycle = Lifecycle[Any, Any]
"""A service, for those who do not look into its requests."""
