"""How a request of one protocol goes through the steps: `/api/infer` by the handler's hooks, others by their own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from forge_runtime.exchange import Exchange
from forge_runtime.lifecycle import AnyLifecycle, Lifecycle, merges_requests
from forge_runtime.request import Awaited, Request
from forge_runtime.worker import Job

__all__ = ["Emit", "Headers", "Method", "Run", "bind", "handler_method", "infer_of", "lane_of"]

Headers = Mapping[str, str]
Emit = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Method:
    """The steps of one endpoint, by the names of the hooks."""

    decode: Callable[[bytes, Headers], Any]
    preprocess: Callable[[Any], Any]
    count: Callable[[Any], int]
    """Items of what `preprocess` returned."""
    bind: Callable[[Any, Callable[[], bool], Emit | None], Any]
    """Tell what is asked for who waits for it; the result is what `infer` is given."""
    lane: Callable[[Any], Hashable]
    """What `preprocess` returned may share a run with what has the same lane; None runs alone."""
    infer: Callable[[Sequence[Any]], Sequence[Any]]
    """Results, or a RequestError, for each. The only step in the model's thread."""
    postprocess: Callable[[Any, Any], Any]
    """Takes what `decode` returned, and the results."""
    encode: Callable[[Any], bytes]
    media_type: str = "application/json"


def handler_method(server: AnyLifecycle) -> Method:
    """Return the steps of `/api/infer`."""
    return Method(
        decode=lambda body, headers: server.decode(body, headers.get("content-type", "")),
        preprocess=server.preprocess,
        count=server.count,
        bind=bind,
        lane=lane_of(server),
        infer=infer_of(server),
        postprocess=server.postprocess,
        encode=server.encode,
        media_type=server.media_type,
    )


def infer_of(server: AnyLifecycle) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return what runs the model as the handler wants it run."""
    if merges_requests(type(server)):
        return server.infer_batch
    return partial(Lifecycle.infer_batch, server)


def lane_of(server: AnyLifecycle) -> Callable[[Any], Hashable]:
    """Return the lane of everything that goes through the handler's `infer_batch`."""
    lane = "handler" if merges_requests(type(server)) else None
    return lambda request: lane


def bind(request: Any, cancelled: Callable[[], bool], emit: Emit | None) -> Any:
    """Say who waits; a handler's own type may have no use for it."""
    if isinstance(request, Request):
        return replace(request, cancelled=cancelled, emit=emit)
    return replace(request, cancelled=cancelled) if isinstance(request, Awaited) else request


class Run(Job):
    """One request's part in a run of the model."""

    def __init__(
        self,
        run: Callable[[Sequence[Run]], Sequence[Run]],
        method: Method,
        prepared: Any,
        exchange: Exchange,
        emit: Emit | None,
    ) -> None:
        # Jobs of one lane are all of this class.
        each = cast("Callable[[Sequence[Job]], Sequence[Job]]", run)
        super().__init__(each, lane=method.lane(prepared), items=exchange.items)
        self.infer = method.infer
        self.asked = method.bind(prepared, self.is_cancelled, emit)
        self.exchange = exchange
