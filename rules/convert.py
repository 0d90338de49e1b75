"""`convert`: a model in another format or precision, with a report of how faithful it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from forge.api import (
    Annotated,
    Artifact,
    Attributes,
    Context,
    Derived,
    EnvironmentInfo,
    Field,
    ForExecution,
    Label,
    ModelInfo,
    Provider,
    Source,
    SourceFile,
    SourceFiles,
    TargetLabel,
    rule,
)

PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "gguf": (
        "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_0", "q5_1", "q4_k_m", "q4_k_s", "q4_0", "q4_1",
        "q3_k_m", "q3_k_s", "q3_k_l", "q2_k",
    ),
    "onnx": ("fp32", "int8"),
}  # fmt: skip
"""What each format can hold, by its own names."""

_ENVIRONMENTS = {"gguf": Label("toolchains", "convert_llm"), "onnx": Label("toolchains", "convert_onnx")}
_PROMPTS = Source("actions/prompts.json", "rules")
_HEADERS = ("fault", "safetensors_header")
_LANGUAGE = (*_HEADERS, "checkpoint", "divergence", "language")


class Calibration(Attributes):
    """Samples for static quantisation."""

    loader: SourceFile
    """Python file with a function that gives batches."""
    function: str = "get_dataloader"
    """Called as `function(dataset, batch_size, samples)`; gives arrays, or tables of them by input."""
    dataset: TargetLabel | SourceFiles = ()
    """Target or files; the function is given the path of the target's one output, or of the files' folder."""
    samples: int = Field(default=50, gt=0, le=1_000_000)
    """Batches to take."""
    batch_size: int = Field(default=1, gt=0)
    """Of a batch."""


class Attrs(Attributes):
    """Attributes of `convert`."""

    model: TargetLabel
    """Model to convert."""
    format: Literal["gguf", "onnx"]
    """Format to make."""
    precision: str
    """Precision to make: gguf has f32, f16, bf16, q8_0, q4_k_m and others, onnx has fp32 and int8."""
    calibration: Calibration | None = None
    """Samples that int8 is calibrated with, and measured over."""
    prompts: SourceFile = _PROMPTS
    """JSON list of texts that a language model is measured over."""
    max_divergence: float | None = Field(default=None, ge=0)
    """Largest logit difference to the original; the build fails beyond it."""
    environment: Annotated[TargetLabel, ForExecution()] = Field(
        default_factory=lambda data: _ENVIRONMENTS.get(data.get("format"), _ENVIRONMENTS["gguf"])
    )
    """Locked environment that it runs in."""
    timeout: int = Field(default=7200, gt=0)
    """Seconds of a step."""


@dataclass(frozen=True, slots=True)
class Edge:
    """How one format becomes another: the scripts, and what they are given."""

    convert: str
    convert_needs: tuple[str, ...]
    """Modules beside the script."""
    measure: str
    measure_needs: tuple[str, ...]


_GGUF = Edge(
    "convert_gguf",
    (*_HEADERS, "gguf_header", "architecture", "checkpoint"),
    "fidelity_gguf",
    (*_LANGUAGE, "gguf_header"),
)
_EXPORT = Edge(
    "export_onnx",
    (*_HEADERS, "onnx_header", "architecture", "checkpoint"),
    "fidelity_onnx",
    (*_LANGUAGE, "onnx_header"),
)
_QUANTISE = Edge(
    "quantise_onnx",
    ("fault", "onnx_header", "calibration"),
    "fidelity_tensor",
    ("fault", "onnx_header", "calibration", "divergence"),
)


@rule("convert", Attrs)
def analyze(context: Context, attrs: Attrs) -> ModelInfo:
    """Ask for the conversion, for the report, and for the bound between them and whoever takes the model."""
    source = context.dep(attrs.model, ModelInfo)
    edge = _edge(context, attrs, source)
    if source.tree is None:
        raise context.error(f"`{attrs.model}` has no files")
    environment = context.dep(attrs.environment, EnvironmentInfo)
    words, inputs = _samples(context, attrs.calibration) if attrs.calibration else ([], {})
    made = _convert(context, attrs, edge, environment, source, words, inputs)
    measured = ["--original", "original", "--converted", "converted", "--precision", attrs.precision, *words]
    if edge is not _QUANTISE:
        measured += ["--prompts", "prompts.json"]
        inputs = {"prompts.json": attrs.prompts}
    (report,) = context.run(
        [*_python(edge.measure), *measured, "--out", "out/report.json"],
        environment=environment,
        inputs={"original": source.tree, "converted": made, **inputs, **_scripts(edge.measure, *edge.measure_needs)},
        outputs=["report.json"],
        mnemonic="Measure",
        description=f"Measure {context.label}",
        timeout=attrs.timeout,
    )
    if attrs.max_divergence is not None:
        made = _bounded(context, environment, made, report, attrs.max_divergence)
    name = context.label.name
    files = {name: made, f"{name}.report.json": report}
    return ModelInfo(files, source.name, attrs.format, made, report, attrs.precision, source)


def _edge(context: Context, attrs: Attrs, source: ModelInfo) -> Edge:
    """Choose the way; contradictions first, in words."""
    label, known = context.label, PRECISIONS[attrs.format]
    if attrs.precision not in known:
        text = f"`{label}` has the unknown precision `{attrs.precision}`"
        raise context.error(f"{text}, {attrs.format} has [{', '.join(known)}]")
    quantised = attrs.precision == "int8"
    if quantised and source.format == "safetensors":
        hint = "Convert it to onnx at fp32 first, and that to int8"
        raise context.error(f"`{label}` makes int8 of onnx, `{attrs.model}` is {source.format}", hint)
    if quantised and attrs.calibration is None:
        hint = "Give it `calibration.loader` and `calibration.dataset`"
        raise context.error(f"`{label}` is quantised statically, and has no `calibration`", hint)
    if attrs.calibration is not None and not quantised:
        raise context.error(f"`{label}` has `calibration`, which {attrs.precision} has no use for")
    if quantised and attrs.prompts != _PROMPTS:
        raise context.error(f"`{label}` has `prompts`, int8 is measured over its calibration samples")
    edges = {("safetensors", "gguf"): _GGUF, ("safetensors", "onnx"): _EXPORT, ("onnx", "onnx"): _QUANTISE}
    edge = edges.get((source.format, attrs.format))
    if edge is None:
        raise context.error(f"Nothing makes {attrs.format} of {source.format}, the format of `{attrs.model}`")
    if edge is _QUANTISE and not quantised:
        raise context.error(f"`{attrs.model}` is onnx already: there is nothing to convert to {attrs.precision}")
    return edge


def _convert(
    context: Context,
    attrs: Attrs,
    edge: Edge,
    environment: EnvironmentInfo,
    source: ModelInfo,
    words: Sequence[str],
    inputs: Mapping[str, Artifact],
) -> Artifact:
    assert source.tree is not None
    if edge is _GGUF:
        words = ["--name", source.name, "--precision", attrs.precision]
    (made,) = context.run(
        [*_python(edge.convert), "--model", "model", *words, "--out", "out/model"],
        environment=environment,
        inputs={"model": source.tree, **inputs, **_scripts(edge.convert, *edge.convert_needs)},
        outputs=["model/"],
        mnemonic="Convert",
        description=f"Convert {context.label} to {attrs.format} {attrs.precision}",
        timeout=attrs.timeout,
    )
    return made


def _bounded(
    context: Context, environment: EnvironmentInfo, made: Artifact, report: Artifact, bound: float
) -> Artifact:
    """Lay the verdict, an empty folder, under the model: the same tree, and none when the verdict is bad."""
    (verdict,) = context.run(
        [*_python("gate"), "--report", "report.json", "--max-divergence", str(bound), "--out", "out/verdict"],
        environment=environment,
        inputs={"report.json": report, **_scripts("gate")},
        outputs=["verdict/"],
        mnemonic="Bound",
        description=f"Bound the divergence of {context.label}",
    )
    (tree,) = context.tool(
        "tree",
        {"place": {"0": "", "1": ""}},
        inputs={"0": verdict, "1": made},
        outputs=["model/"],
        mnemonic="Accept",
        description=f"Accept {context.label}",
    )
    return tree


def _samples(context: Context, calibration: Calibration) -> tuple[list[str], dict[str, Artifact]]:
    """Lay out the loader and its dataset: the arguments, and the inputs."""
    inputs: dict[str, Artifact] = {"loader/loader.py": calibration.loader}
    dataset = "dataset"
    if isinstance(calibration.dataset, Label):
        files = context.dep(calibration.dataset, Provider).files
        if len(files) != 1:
            raise context.error(f"`{calibration.dataset}` makes {len(files)} outputs, a dataset is one")
        (artifact,) = files.values()
        if isinstance(artifact, Derived) and not artifact.output.endswith("/"):
            dataset = f"dataset/{artifact.output.rpartition('/')[2]}"
        inputs[dataset] = artifact
    else:
        for source in calibration.dataset:
            inputs[f"dataset/{context.below(source)}"] = source
    words = ["--loader", "loader/loader.py", "--function", calibration.function, "--dataset", dataset]
    words += ["--batch-size", str(calibration.batch_size), "--samples", str(calibration.samples)]
    return words, inputs


def _python(script: str) -> list[str]:
    return ["/usr/bin/python3", "-m", f"rules.actions.{script}"]


def _scripts(*names: str) -> dict[str, Artifact]:
    return {f"rules/actions/{name}.py": Source(f"actions/{name}.py", "rules") for name in names}
