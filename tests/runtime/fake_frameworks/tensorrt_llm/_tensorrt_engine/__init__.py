"""The class that runs engines, since 1.0."""

from __future__ import annotations

from typing import Any

from .. import BaseLLM

__all__ = ["LLM"]


class LLM(BaseLLM):
    """An engine as it was built."""

    def __init__(self, model: str, **options: Any) -> None:
        if set(options) - {"kv_cache_config"}:
            raise ValueError(f"An engine has its own {set(options)}")
        super().__init__(model, **options)
