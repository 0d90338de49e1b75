"""Where a model keeps its chat template, and the tokens that it is written with."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge_runtime.config import ModelConfig
from forge_runtime.error import LoadError
from forge_runtime.gguf import MAX_TEMPLATE, read_chat_fields
from forge_runtime.table import parse_json
from forge_runtime.weights import find_file

__all__ = ["Source", "read_source"]

TEMPLATE: Final = "chat_template.jinja"
CONFIG: Final = "tokenizer_config.json"
TOKENS: Final = "special_tokens_map.json"
TOKENIZER: Final = "tokenizer.json"
MAX_CONFIG: Final = 2**24
MAX_PROCESSOR: Final = 2**18
MAX_TOKEN: Final = 256


@dataclass(frozen=True, slots=True)
class Source:
    """A template as it was found."""

    place: str
    """File, for messages."""
    template: str
    bos_token: str = ""
    eos_token: str = ""
    adds_bos: bool = False
    """Whether the tokenizer puts `bos_token` before every text."""


def read_source(model: ModelConfig) -> Source | None:
    """Read it from the model's one GGUF file, or from its folder; None where there is none."""
    return _from_gguf(find_file(model, "gguf")) if model.format == "gguf" else _from_folder(model.path)


def _from_gguf(path: Path) -> Source | None:
    fields = read_chat_fields(path)
    if not fields.template:
        return None
    return Source(str(path), fields.template, fields.bos_token, fields.eos_token, fields.adds_bos)


def _from_folder(folder: Path) -> Source | None:
    config = _object(folder / CONFIG)
    place, template = folder / TEMPLATE, _text(folder / TEMPLATE, MAX_TEMPLATE)
    if template is None:
        place, template = folder / CONFIG, _configured(config.get("chat_template"), folder / CONFIG)
    if not template:
        return None
    tokens = {**_object(folder / TOKENS), **config}
    bos = _token(tokens, "bos_token")
    writes_bos = bos and ("bos_token" in template or bos in template)
    adds_bos = bool(writes_bos) and _adds_bos(folder, config, bos)
    return Source(str(place), template, bos, _token(tokens, "eos_token"), adds_bos)


def _configured(value: object, place: Path) -> str | None:
    """Return the template, of a list of named ones the one called `default`."""
    if isinstance(value, list):
        named = {each.get("name"): each.get("template") for each in value if isinstance(each, dict)}
        if "default" not in named:
            names = ", ".join(sorted(str(name)[:40] for name in named))
            raise LoadError(f"{place}: `chat_template` has no `default`, only [{names}]; name one of them so")
        value = named["default"]
    if value is None:
        return None
    if not isinstance(value, str):
        raise LoadError(f"{place}: `chat_template` is neither a string nor a list of named ones")
    if len(value) > MAX_TEMPLATE:
        raise LoadError(f"{place}: `chat_template` has {len(value)} characters, at most {MAX_TEMPLATE} are read")
    return value


def _token(tokens: Mapping[str, object], name: str) -> str:
    value = tokens.get(name)
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and len(value) <= MAX_TOKEN else ""


def _adds_bos(folder: Path, config: Mapping[str, object], bos: str) -> bool:
    """Say whether transformers' tokenizer begins a text with the token.

    Where there is a tokenizer.json, it does as that one's post-processor says, and the flag in the configuration is
    dropped.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        return config.get("add_bos_token") is True
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            # Not the whole file: the vocabulary behind it is some ten megabytes. A name before it would be a value,
            # and have no colon.
            found = re.search(rb'"post_processor"\s*:\s*', data)
            if found is None:
                return False
            text = data[found.end() : found.end() + MAX_PROCESSOR].decode("utf-8", "ignore")
        processor, _ = json.JSONDecoder().raw_decode(text)
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"{path}: `post_processor` cannot be read: {error}") from error
    return _begins_with(processor, bos)


def _begins_with(processor: object, token: str) -> bool:
    if not isinstance(processor, dict):
        return False
    if processor.get("type") == "Sequence":
        parts = processor.get("processors")
        return isinstance(parts, list) and any(_begins_with(part, token) for part in parts)
    single = processor.get("single")
    first = single[0] if isinstance(single, list) and single else None
    special = first.get("SpecialToken") if isinstance(first, dict) else None
    return isinstance(special, dict) and special.get("id") == token


def _object(path: Path) -> Mapping[str, object]:
    text = _text(path, MAX_CONFIG)
    try:
        value = {} if text is None else parse_json(text)
    except ValueError as error:
        raise LoadError(f"{path}: Not JSON: {error}") from error
    if not isinstance(value, dict):
        raise LoadError(f"{path}: Not a JSON object")
    return value


def _text(path: Path, limit: int) -> str | None:
    """Read a file whole; None where it is not there."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise LoadError(f"{path}: Larger than the {limit} bytes that are read")
        return content.decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{path}: Cannot be read: {error}") from error
