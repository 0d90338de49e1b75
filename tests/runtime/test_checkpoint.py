"""What a folder of weights says of its model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from forge_runtime import LoadError
from forge_runtime.checkpoint import read_ends, read_positions, read_precision, speller


class Tokenizer:
    """Tidies spaces up unless it is told not to."""

    eos_token_id: int | None = 2
    clean_up_tokenization_spaces = True

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        text = bytes(token_ids).decode()
        return text.replace(" .", ".") if self.clean_up_tokenization_spaces else text


def write(folder: Path, **files: object) -> Path:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"config": {}}, None),
        ({"config": {"n_positions": 1024}}, 1024),
        ({"config": {"text_config": {"max_position_embeddings": 8192}}}, 8192),
        ({"config": {"max_position_embeddings": 4096}, "tokenizer_config": {"model_max_length": 512}}, 512),
        ({"config": {"n_positions": 1024}, "tokenizer_config": {"model_max_length": 10**30}}, 1024),
        ({"config": {"pretrained_config": {"max_position_embeddings": 64}, "build_config": {"max_seq_len": 48}}}, 48),
        ({"config": {"max_position_embeddings": -1}}, None),
    ],
    ids=str,
)
def test_the_context_is_the_shortest_that_is_named(
    tmp_path: Path, files: dict[str, object], expected: int | None
) -> None:
    assert expected == read_positions(write(tmp_path, **files))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"torch_dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float16"}, "float16"),
        ({"pretrained_config": {"dtype": "float16"}}, "float16"),
        ({}, "unknown"),
    ],
    ids=str,
)
def test_the_precision_is_that_of_the_weights(tmp_path: Path, config: dict[str, object], expected: str) -> None:
    assert expected == read_precision(write(tmp_path, config=config))


@pytest.mark.parametrize(("value", "expected"), [(None, {2}), (5, {2, 5}), ([5, 6], {2, 5, 6})], ids=str)
def test_a_text_ends_as_tokenizer_or_model_say(tmp_path: Path, value: object, expected: set[int]) -> None:
    assert expected == read_ends(write(tmp_path, generation_config={"eos_token_id": value}), Tokenizer())


def test_what_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")

    with pytest.raises(LoadError, match=r"config\.json: Not JSON"):
        read_positions(tmp_path)


def test_the_models_spaces_are_kept() -> None:
    detokenizer = speller(Tokenizer())(b"A text")

    assert [" ", ".", ""] == [detokenizer.add(ord(" ")), detokenizer.add(ord(".")), detokenizer.close()]
