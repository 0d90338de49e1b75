"""What converters know of a model."""

from __future__ import annotations

import pytest

from rules.actions.architecture import GPT2, architecture_of
from rules.actions.fault import BadFile, Unsupported

CONFIG = {"n_layer": 2, "n_positions": 256, "n_embd": 256, "n_head": 4, "layer_norm_epsilon": 1e-5}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("transformer.wte.weight", ("token_embd.weight", False)),
        ("wpe.weight", ("position_embd.weight", False)),
        ("transformer.h.11.attn.c_attn.weight", ("blk.11.attn_qkv.weight", True)),
        ("h.0.attn.c_attn.bias", ("blk.0.attn_qkv.bias", False)),
        ("h.0.mlp.c_proj.weight", ("blk.0.ffn_down.weight", True)),
        ("h.0.ln_2.weight", ("blk.0.ffn_norm.weight", False)),
        ("transformer.ln_f.bias", ("output_norm.bias", False)),
        ("lm_head.weight", ("output.weight", False)),
        ("h.0.attn.bias", ("", False)),
    ],
)
def test_tensors_are_renamed(name: str, expected: tuple[str, bool]) -> None:
    assert GPT2.rename(name) == expected


@pytest.mark.parametrize("name", ["h.0.attn.rotary.weight", "h.x.ln_1.weight", "wte.scale", "h.99999.ln_1.weight"])
def test_an_unknown_tensor_is_refused(name: str) -> None:
    with pytest.raises(BadFile, match=r"`gpt2` has no tensor"):
        GPT2.rename(name)


def test_settings_have_the_names_of_gguf() -> None:
    assert GPT2.parameters(CONFIG) == {
        "block_count": 2,
        "context_length": 256,
        "embedding_length": 256,
        "attention.head_count": 4,
        "attention.layer_norm_epsilon": 1e-5,
    }


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(BadFile, match=r"none of \[n_head\]"):
        GPT2.parameters({key: value for key, value in CONFIG.items() if key != "n_head"})


@pytest.mark.parametrize("value", [-1, 0, 2**40, True, "2", [], float("nan")], ids=str)
def test_a_setting_that_cannot_be_is_refused(value: object) -> None:
    with pytest.raises(BadFile, match=r"`config.json` has .* for \[n_layer\]"):
        GPT2.parameters({**CONFIG, "n_layer": value})


def test_another_architecture_is_named() -> None:
    with pytest.raises(Unsupported, match=r"`LlamaForCausalLM` is not converted yet, known are \[GPT2LMHeadModel\]"):
        architecture_of({"architectures": ["LlamaForCausalLM"]})
