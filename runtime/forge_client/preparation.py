"""From options to requests: which interface, which model, which data."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from forge_client.address import Address
from forge_client.call import Asking, Call
from forge_client.connection import Timeouts
from forge_client.dataset import Dataset, Files, Payloads, Prompts, Tensors, read_dataset
from forge_client.error import UsageFault
from forge_client.infer import infer_calls
from forge_client.oip import oip_calls, specs_of
from forge_client.openai import openai_calls
from forge_client.option import Options
from forge_client.sender import Retries
from forge_client.server import Server

__all__ = ["Prepared", "data_of", "prepare", "retries_of", "server_of", "timeouts_of"]

PROMPTS = (
    "The quick brown fox",
    "Once upon a time, in a country far away,",
    "Three things that a ship needs are",
    "The difference between weather and climate is",
)
"""What is sent when nothing is named."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything to be sent."""

    api: str
    model: str
    data: str
    """The data set, in words."""
    asking: Asking
    calls: Sequence[Call]


def server_of(options: Options) -> Server:
    """Take the server's address and what every request carries; UsageFault when they are wrong."""
    address = Address.parse(options.url)
    headers = []
    for text in options.header:
        name, colon, value = text.partition(":")
        good = name.isascii() and name.replace("-", "").replace("_", "").isalnum() and value.isprintable()
        if not colon or not good:
            raise UsageFault(f"--header {text!a} is no header", "Write it as `Name: value`")
        headers.append((name, value.strip()))
    return Server(address, tuple(headers), ssl.create_default_context() if address.tls else None)


def timeouts_of(options: Options) -> Timeouts:
    """Take the limits of every wait."""
    return Timeouts(options.connect_timeout, options.first_byte_timeout, options.timeout)


def retries_of(options: Options) -> Retries:
    """Take when to send again."""
    return Retries(options.retries)


def data_of(options: Options) -> Dataset | None:
    """Read the data set; None where none is named."""
    if options.prompt:
        return Prompts(options.prompt)
    return read_dataset(options.dataset, options.dataset_size) if options.dataset is not None else None


async def prepare(server: Server, options: Options, dataset: Dataset | None, *, batch: int, stream: bool) -> Prepared:
    """Ask the server what is not said, and make the requests; UsageFault when they do not fit."""
    api = options.api or await server.choose_api(dataset)
    needs_model = api != "infer"
    model = options.model or (await server.model() if needs_model else "")
    asking = Asking(
        address=server.address,
        headers=server.headers,
        model=model,
        batch=batch,
        max_tokens=options.max_tokens,
        stream=stream and api in ("completions", "chat"),
        check=options.check,
    )
    data = _in_words(options, dataset)
    if api == "oip":
        specs = specs_of(await server.metadata(model))
        return Prepared(api, model, data or "zeros", asking, oip_calls(asking, specs, dataset))
    dataset = dataset or Prompts(PROMPTS)
    if api == "infer":
        calls = infer_calls(asking, dataset)
    elif api == "chat":
        calls = openai_calls("chat", asking, dataset)
    else:
        calls = openai_calls("completions", asking, dataset)
    return Prepared(api, model, data or f"{len(PROMPTS)} prompts of its own", asking, calls)


def _in_words(options: Options, dataset: Dataset | None) -> str:
    if dataset is None:
        return ""
    nouns = {Prompts: "prompts", Files: "files", Tensors: "rows", Payloads: "requests"}
    noun = nouns[type(dataset)]
    count = f"{len(dataset)} {noun if len(dataset) != 1 else noun.removesuffix('s')}"
    return f"{options.dataset.name}: {count}" if options.dataset is not None else count
