"""Configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class KvCacheConfig:
    free_gpu_memory_fraction: float | None = None


@dataclass
class BuildConfig:
    max_seq_len: int | None = None
    max_batch_size: int = 2048
