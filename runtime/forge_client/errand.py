"""One request to the server: an answer to a data set, its metrics, its log, its end."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from forge_client.call import Call, Tally, refusal
from forge_client.connection import Response, Timeouts
from forge_client.dataset import Files, Prompts
from forge_client.error import ClientError, NotReady, RequestFailed
from forge_client.option import Options
from forge_client.preparation import data_of, prepare, retries_of, server_of, timeouts_of
from forge_client.sender import Sender
from forge_client.server import Server
from forge_client.value import read_json

__all__ = ["Answered", "infer", "run"]

_PATHS = {
    "metrics": "/api/metrics",
    "power": "/api/power",
    "logs": "/api/logs",
    "shutdown": "/api/shutdown",
}


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back, and how long it took."""

    body: bytes
    seconds: float
    items: int


async def infer(options: Options) -> Answered:
    """Send a data set once, all prompts in one request; ClientError when a request has no good answer."""
    server = server_of(options)
    dataset = data_of(options)
    await server.wait_until_ready(options.wait)
    whole = isinstance(dataset, Prompts) and options.api != "chat"
    batch = len(dataset) if dataset is not None and whole else 1
    if options.api is None and isinstance(dataset, Prompts | Files | None) and await server.has("/api/infer"):
        options = dataclasses.replace(options, api="infer")
    prepared = await prepare(server, options, dataset, batch=batch, stream=False)
    kept: list[Response] = []
    sender = Sender(server.connection(timeouts_of(options)), retries_of(options), random.Random(options.seed))
    loop = asyncio.get_running_loop()
    started = loop.time()
    items = 0
    # Without a data set there are prompts of its own for a load; here one will do.
    calls = prepared.calls if dataset is not None else prepared.calls[:1]
    try:
        for call in calls:
            sample = await sender.send(_keeping(call, kept), loop.time())
            if sample.tally is None or sample.kind:
                raise ClientError(sample.text)
            items += sample.tally.items
    finally:
        sender.close()
    return Answered(_together(kept), loop.time() - started, items)


async def run(options: Options) -> bytes:
    """Send what `metrics`, `power`, `logs` and `shutdown` send; the body of the answer."""
    server = server_of(options)
    if options.prometheus:
        return await _ask(server, options, "GET", "/metrics", None)
    body: object = {}
    if options.command == "metrics":
        # In the predecessors' words; their servers need a number even where it means nothing.
        body = {"all": str(options.number < 0), "number": max(1, options.number)}
    return await _ask(server, options, "POST", _PATHS[options.command], body)


async def _ask(server: Server, options: Options, method: str, path: str, body: object) -> bytes:
    timeouts = Timeouts(options.connect_timeout, options.timeout, options.timeout)
    # Nobody but who asks for it is given the token.
    token = options.token if path in _PATHS.values() else ""
    try:
        response = await server.ask(method, path, body, timeouts=timeouts, token=token)
    except RequestFailed as error:
        raise (NotReady(error.text) if error.unanswered else error) from error
    if response.status == 401 and not token:
        raise ClientError(f"`{path}`: {refusal(response).text}", "Set FORGE_ADMIN_TOKEN to the server's token")
    if response.status not in (200, 202):
        raise ClientError(f"`{path}`: {refusal(response).text}")
    return response.body


def _keeping(call: Call, kept: list[Response]) -> Call:
    def judge(response: Response) -> Tally:
        tally = call.judge(response)
        kept.append(response)
        return tally

    return Call(call.message, judge)


def _together(responses: Sequence[Response]) -> bytes:
    """Return one answer as it is, several as a JSON list; what is no JSON stands there as base64."""
    if len(responses) == 1:
        return responses[0].body
    return json.dumps([_value(each) for each in responses], indent=2, ensure_ascii=False).encode() + b"\n"


def _value(response: Response) -> object:
    try:
        return read_json(response.body)
    except ValueError:
        return {"content_type": response.header("content-type"), "base64": base64.b64encode(response.body).decode()}
