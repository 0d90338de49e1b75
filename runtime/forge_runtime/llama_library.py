"""llama.cpp's own C interface, which llama-cpp-python binds: what a backend needs beside a context.

Not by `llama_cpp.Llama`: it generates past `max_tokens` to complete a character, knows one sequence at a time,
and lets a context grow past the model's positions, where the library ends the process.
"""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama  # type: ignore[import-not-found, unused-ignore]

from forge_runtime import log
from forge_runtime.config import Params
from forge_runtime.device import number_devices
from forge_runtime.error import LoadError
from forge_runtime.gguf import read_header
from forge_runtime.request import Sampling

__all__ = ["Vocabulary", "describe_model", "has_accelerator", "make_sampler", "open_model"]

logger = logging.getLogger(__name__)

SEEDS = 2**32 - 1
"""The library takes 32 bits; the last of them means a random seed."""
PIECE = 64
"""Bytes of a token; one that has more is asked for again."""
WARNING, ERROR = 3, 4


def has_accelerator() -> bool:
    """Whether this build of the library can use one."""
    return bool(llama.llama_supports_gpu_offload())


def open_model(path: Path, params: Params) -> Any:
    """Load the weights of a file, all of them on one device."""
    header = read_header(path)
    if params.device_index and not has_accelerator():
        raise LoadError(f"params.device_index: No accelerator `{params.device_index}`, the library is built for none")
    number_devices()
    llama.llama_log_set(_forward_log, ctypes.c_void_p(0))
    llama.llama_backend_init()
    options = llama.llama_model_default_params()
    options.n_gpu_layers, options.split_mode = -1, llama.LLAMA_SPLIT_MODE_NONE
    options.main_gpu = params.device_index
    model = llama.llama_model_load_from_file(str(path).encode(), options)
    if not model:
        raise LoadError(f"{path}: The library cannot load it; the log says why")
    if llama.llama_model_has_encoder(model) or not llama.llama_model_has_decoder(model):
        raise LoadError(f"{path}: Architecture `{header.architecture}` continues no text")
    return model


def describe_model(model: Any) -> str:
    """Return the precision of most weights, as the library names it."""
    buffer = ctypes.create_string_buffer(128)
    llama.llama_model_desc(model, buffer, len(buffer))
    # "gpt2 ?B F16", "llama 7B Q4_K - Medium"
    return buffer.value.decode(errors="replace").split(" ", 2)[-1]


class Vocabulary:
    """The tokens of a model."""

    def __init__(self, model: Any) -> None:
        self._vocabulary = llama.llama_model_get_vocab(model)

    def encode(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt."""
        text = prompt.encode()
        size = len(text) + 8  # no token is shorter than a byte; what the model wants around the text
        buffer = (llama.llama_token * size)()
        # As transformers' tokenizers do: what the model adds itself, and special tokens by their names.
        count = llama.llama_tokenize(self._vocabulary, text, len(text), buffer, size, True, True)
        return list(buffer[: max(count, 0)])

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; a special one has none."""
        size = PIECE
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = llama.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def is_end(self, token: int) -> bool:
        """Whether a token ends a text."""
        return bool(llama.llama_vocab_is_eog(self._vocabulary, token))


def make_sampler(sampling: Sampling) -> Any:
    """Return what chooses one prompt's tokens, to be freed with `llama_sampler_free`."""
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    if sampling.is_greedy:
        stages = [llama.llama_sampler_init_greedy()]
    else:
        seed = llama.LLAMA_DEFAULT_SEED if sampling.seed is None else sampling.seed % SEEDS
        stages = [
            llama.llama_sampler_init_temp(sampling.temperature),
            llama.llama_sampler_init_top_p(sampling.top_p, 1),
            llama.llama_sampler_init_dist(seed),
        ]
    for stage in stages:
        llama.llama_sampler_chain_add(chain, stage)
    return chain


@llama.llama_log_callback  # type: ignore[untyped-decorator, unused-ignore]
def _forward_log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level in (WARNING, ERROR):
        severity = logging.ERROR if level == ERROR else logging.WARNING
        log.event(logger, severity, text.decode(errors="replace").strip())
