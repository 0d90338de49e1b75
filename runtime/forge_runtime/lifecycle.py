"""The steps of every request, whatever is asked for and answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from forge_runtime.backend import Backend
from forge_runtime.config import Config
from forge_runtime.error import LoadError, RequestError

__all__ = ["HOOKS", "AnyLifecycle", "Lifecycle", "merges_requests"]

HOOKS = ("load", "warm_up", "decode", "preprocess", "count", "infer", "infer_batch", "postprocess", "encode")

Asked = TypeVar("Asked")
Results = TypeVar("Results")


class Lifecycle(Generic[Asked, Results]):
    """A service in steps that can each be overridden.

    `load` and `warm_up` run at the start, and again where the backend was lost. A request then goes
    through `decode`, `preprocess`, `infer`, `postprocess` and `encode`, each given what the one before
    returned. `load`, `warm_up`, `infer` and `infer_batch` run in the model's thread, the others in one of their own,
    so that one request is prepared while another runs: they must not touch the model.
    A hook raises RequestError for what is the client's fault.
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
        """Run the model for one request."""
        raise NotImplementedError

    def infer_batch(self, requests: Sequence[Asked]) -> Sequence[Results | RequestError]:
        """Run the model for several requests that came at about the same time; an outcome for each."""
        return [self._outcome(request) for request in requests]

    def count(self, request: Asked) -> int:
        """Say how many items a request brings; a batch takes `batch_size` of them."""
        return 1

    def postprocess(self, request: Asked, results: Results) -> object:
        """Turn results into the answer; `request` is what `decode` returned."""
        return results

    def encode(self, answer: object) -> bytes:
        """Turn the answer into the bytes of the response."""
        return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

    def _outcome(self, request: Asked) -> Results | RequestError:
        try:
            return self.infer(request)
        except RequestError as error:
            return error

    @property
    def batch_size(self) -> int:
        """How many items the model runs at a time: one, in latency mode."""
        return 1 if self.config.server.mode == "latency" else self.config.params.batch_size


AnyLifecycle = Lifecycle[Any, Any]
"""A service, for those who do not look into its requests."""


def merges_requests(kind: type[AnyLifecycle]) -> bool:
    """Say whether requests may share a run: not where a subclass has overridden `infer` alone."""
    for each in kind.__mro__:
        if "infer_batch" in vars(each):
            return each is not Lifecycle
        if "infer" in vars(each):
            return False
    return False
