"""`model`: a model's files, in the format that they come in."""

from __future__ import annotations

from typing import Literal

from forge.api import Attributes, Context, ModelInfo, Provider, TargetLabel, rule


class Attrs(Attributes):
    """Attributes of `model`."""

    source: TargetLabel
    """Target that makes the files: its one output must be a folder."""
    format: Literal["safetensors", "gguf", "onnx", "tensorrt"] = "safetensors"
    """What the folder holds: `*.safetensors` beside `config.json` and the tokenizer, `model.gguf`, or `model.onnx`."""


@rule("model", Attrs)
def analyze(context: Context, attrs: Attrs) -> ModelInfo:
    """Hand on the folder."""
    files = context.dep(attrs.source, Provider).files
    if len(files) != 1:
        raise context.error(f"`{attrs.source}` makes {len(files)} outputs, a model is one folder")
    (tree,) = files.values()
    if not getattr(tree, "output", "").endswith("/"):
        raise context.error(f"`{attrs.source}` makes a file, a model is a folder", "Give its output a `/` at the end")
    # Served under the name of its package: `weights` says nothing to a client.
    name = context.label.package.rpartition("/")[2] or context.label.name
    return ModelInfo({context.label.name: tree}, name, attrs.format, tree)
