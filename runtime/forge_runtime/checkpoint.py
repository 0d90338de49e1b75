"""A folder of weights with their tokenizer, as Hugging Face lays it out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from forge_runtime.config import ModelConfig
from forge_runtime.error import LoadError
from forge_runtime.text import Detokenizer, Window

__all__ = ["Tokenizer", "check_folder", "read_ends", "read_positions", "read_precision", "speller", "token_ids"]

POSITIONS: Final = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "max_seq_length",
    "model_max_length",
)
"""What families of models call the length that they were made for."""


class Tokenizer(Protocol):
    """What is used of a tokenizer."""

    eos_token_id: int | None

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a prompt, with those that the model wants around it."""
        ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Return the text of a whole sequence."""
        ...


def check_folder(model: ModelConfig, *formats: str) -> None:
    """Raise LoadError unless the folder is there and holds one of these formats."""
    if not model.path.is_dir():
        raise LoadError(f"{model.path}: No such folder of weights")
    if model.format not in formats:
        wanted = " or ".join(f"`{each}`" for each in formats)
        raise LoadError(f"{model.path}: Expected weights as {wanted}, got `{model.format}`")


def speller(tokenizer: Tokenizer) -> Callable[[Sequence[int]], Detokenizer]:
    """Return what makes a detokeniser that goes on after a prompt."""
    if hasattr(tokenizer, "clean_up_tokenization_spaces"):
        # It takes spaces out that it has shown before; and they are the model's.
        tokenizer.clean_up_tokenization_spaces = False

    def decode(tokens: Sequence[int]) -> str:
        return tokenizer.decode(list(tokens), skip_special_tokens=True)

    return lambda before: Window(decode, before)


def read_positions(folder: Path) -> int | None:
    """Return how many tokens a context of the model may have, or None where its folder does not say."""
    tables = [*_tables(folder), _read(folder / "tokenizer_config.json")]
    found = [value for table in tables for key in POSITIONS if isinstance(value := table.get(key), int) and value > 0]
    return min(found, default=None)


def read_precision(folder: Path) -> str:
    """Return the type of the weights as their folder names it."""
    found = [table[key] for table in _tables(folder) for key in ("dtype", "torch_dtype") if key in table]
    return str(found[0]) if found else "unknown"


def read_ends(folder: Path, tokenizer: Tokenizer) -> frozenset[int]:
    """Return the tokens that end a text."""
    found = _read(folder / "generation_config.json").get("eos_token_id")
    return frozenset([*token_ids(found), *token_ids(tokenizer.eos_token_id)])


def token_ids(value: int | Sequence[int] | None) -> list[int]:
    """Return the tokens of a setting that may be one, several or none."""
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)


def _tables(folder: Path) -> list[Mapping[str, Any]]:
    """Return config.json and what it says of the model within a model, or of an engine's model and its build."""
    config = _read(folder / "config.json")
    inner = [config.get(key) for key in ("text_config", "pretrained_config", "build_config")]
    return [config, *(each for each in inner if isinstance(each, dict))]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LoadError(f"{path}: Not JSON: {error}") from None
    return value if isinstance(value, dict) else {}
