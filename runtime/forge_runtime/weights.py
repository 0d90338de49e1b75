"""Where a model's one file lies in its folder."""

from __future__ import annotations

from pathlib import Path

from forge_runtime.config import ModelConfig
from forge_runtime.error import LoadError

__all__ = ["find_file"]


def find_file(model: ModelConfig, model_format: str) -> Path:
    """Return the one file of a format in the model's folder, or raise LoadError."""
    if model.format != model_format:
        raise LoadError(f"{model.path}: Expected weights as `{model_format}`, got `{model.format}`")
    if not model.path.is_dir():
        raise LoadError(f"{model.path}: No such folder of weights")
    found = sorted(model.path.glob(f"*.{model_format}"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:8]) or "none"
        raise LoadError(f"{model.path}: Expected one `*.{model_format}`, found [{names}]")
    return found[0]
