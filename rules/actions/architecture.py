"""What converters know of a model's architecture: a table each, so that another one is another table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rules.actions.fault import BadFile, Unsupported

LARGEST = 1 << 20
"""Of a model's settings: widths, layers, positions."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a checkpoint's tensors and settings are called in GGUF."""

    name: str
    """In GGUF."""
    prefix: str
    """That some of its checkpoints put before every tensor's name."""
    layer: str
    """How a tensor of a block begins, a pattern with the block's number."""
    blocks: Mapping[str, str]
    """Part of a block -> its name in GGUF, both without `.weight` and `.bias`."""
    outside: Mapping[str, str]
    """The same for what is in no block."""
    dropped: tuple[str, ...]
    """Ends of the names of tensors that say nothing: causal masks."""
    transposed: frozenset[str]
    """Parts whose weight is inputs by outputs."""
    exact: frozenset[str]
    """Names in GGUF that stay f32 at any precision, as norms and biases do."""
    settings: Mapping[str, tuple[str, ...]]
    """Key in GGUF -> the keys of config.json that may have it."""
    pre_tokenizer: str
    """`tokenizer.ggml.pre`."""

    def rename(self, name: str) -> tuple[str, bool]:
        """Give a tensor its name in GGUF ("" to drop it), and say whether it is transposed; BadFile when unknown."""
        bare = name.removeprefix(self.prefix)
        if bare.endswith(self.dropped):
            return "", False
        stem, _, kind = bare.rpartition(".")
        match = re.fullmatch(rf"{self.layer}(.+)", stem)
        part = match[2] if match else stem
        found = (self.blocks if match else self.outside).get(part)
        if found is None or kind not in ("weight", "bias"):
            raise BadFile(f"`{self.name}` has no tensor `{name[:80]}`")
        target = f"blk.{int(match[1])}.{found}.{kind}" if match else f"{found}.{kind}"
        return target, kind == "weight" and part in self.transposed

    def parameters(self, config: Mapping[str, Any]) -> dict[str, int | float]:
        """Take the settings from config.json; BadFile when one is missing."""
        found: dict[str, int | float] = {}
        for key, names in self.settings.items():
            value = next((config[name] for name in names if name in config), None)
            if value is None:
                raise BadFile(f"`config.json` has none of [{', '.join(names)}]")
            if type(value) not in (int, float) or not 0 < value < LARGEST:
                raise BadFile(f"`config.json` has {str(value)[:40]} for [{', '.join(names)}]")
            found[key] = value
        return found


GPT2 = Architecture(
    name="gpt2",
    prefix="transformer.",
    layer=r"h\.(\d{1,4})\.",
    blocks={
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "ln_1": "attn_norm",
        "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
    },
    outside={"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "lm_head": "output"},
    dropped=(".attn.bias", ".attn.masked_bias"),
    transposed=frozenset(("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")),
    exact=frozenset(("position_embd.weight",)),
    settings={
        "block_count": ("n_layer",),
        "context_length": ("n_positions", "n_ctx"),
        "embedding_length": ("n_embd",),
        "attention.head_count": ("n_head",),
        "attention.layer_norm_epsilon": ("layer_norm_epsilon",),
    },
    pre_tokenizer="gpt-2",
)

ARCHITECTURES: Mapping[str, Architecture] = {"GPT2LMHeadModel": GPT2}
"""By the name that config.json gives."""


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """Find a model's architecture; Unsupported when there is no table for it."""
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else str(config.get("model_type", "none"))
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise Unsupported(f"Architecture `{name[:80]}` is not converted yet, known are [{known}]")
    return ARCHITECTURES[name]
