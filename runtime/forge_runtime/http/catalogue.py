"""Which protocols a service speaks: what its handler serves decides."""

from __future__ import annotations

from collections.abc import Sequence

from forge_runtime.backend import TENSORS, TensorBackend
from forge_runtime.config import Config
from forge_runtime.engine import Engine
from forge_runtime.http.endpoint import Endpoints, InferEndpoint
from forge_runtime.http.visit import Visits
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.server import BaseServer

__all__ = ["model_endpoints"]


def model_endpoints(handler: type[AnyLifecycle], engine: Engine, visits: Visits, config: Config) -> Sequence[Endpoints]:
    """Return the endpoints through which the model is reached."""
    found: list[Endpoints] = [InferEndpoint(engine, visits)]
    if issubclass(handler, BaseServer):
        from forge_runtime.http.completion import CompletionEndpoints

        found.append(CompletionEndpoints(engine, visits, config))
    if config.backend in TENSORS or handler.needs is TensorBackend:
        # An image for text has no numpy.
        from forge_runtime.http.inference import InferenceEndpoints

        found.append(InferenceEndpoints(engine, visits, config))
    return found
