"""What `convert` asks for, without running it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from forge.core.artifact import Derived, Source
from forge.core.errors import AnalysisError
from forge.core.provider import ModelInfo, Provider
from tests.convert.sample import analyzed, onnx_model

GGUF: dict[str, Any] = {"format": "gguf", "precision": "q4_k_m"}
SAMPLES = {"loader": "load.py", "dataset": ":pictures"}
INT8: dict[str, Any] = {"format": "onnx", "precision": "int8", "calibration": SAMPLES}
PICTURES = {":pictures": Provider({"pictures": Derived("//pkg:pictures#Command", "pictures/")})}


def test_a_conversion_and_its_report_are_two_actions() -> None:
    context, model = analyzed(GGUF)

    assert list(context.actions) == ["//pkg:made#Convert", "//pkg:made#Measure"]
    assert (model.name, model.format) == ("pkg", "gguf")
    assert model.tree == Derived("//pkg:made#Convert", "model/")
    assert model.report == Derived("//pkg:made#Measure", "report.json")
    assert model.files == {"made": model.tree, "made.report.json": model.report}
    assert model.precision == "q4_k_m"
    assert model.original is not None and model.original.format == "safetensors"


def test_the_conversion_takes_no_prompts_and_no_script_of_the_report() -> None:
    context, _ = analyzed({**GGUF, "prompts": "prompts.json"})

    inputs = dict(context.actions["//pkg:made#Convert"].inputs)
    assert Source("targets/pkg/prompts.json") not in inputs.values()
    assert not [path for path in inputs if "fidelity" in path or "divergence" in path or "language" in path]


def test_the_report_is_of_the_prompts_that_were_given() -> None:
    context, _ = analyzed({**GGUF, "prompts": "prompts.json"})

    assert dict(context.actions["//pkg:made#Measure"].inputs)["prompts.json"] == Source("targets/pkg/prompts.json")


def test_precision_and_name_are_arguments() -> None:
    context, _ = analyzed(GGUF)

    argv = context.actions["//pkg:made#Convert"].argv
    assert argv[:3] == ("/usr/bin/python3", "-m", "rules.actions.convert_gguf")
    assert argv[argv.index("--precision") + 1] == "q4_k_m"
    assert argv[argv.index("--name") + 1] == "pkg"


def test_a_bound_stands_between_the_model_and_who_takes_it() -> None:
    context, model = analyzed({**GGUF, "max_divergence": 0.5})

    assert list(context.actions)[2:] == ["//pkg:made#Bound", "//pkg:made#Accept"]
    assert model.tree == Derived("//pkg:made#Accept", "model/")
    assert dict(context.actions["//pkg:made#Accept"].inputs)["0"] == Derived("//pkg:made#Bound", "verdict/")
    assert "0.5" in context.actions["//pkg:made#Bound"].argv


def test_a_changed_bound_measures_nothing_again() -> None:
    first, _ = analyzed({**GGUF, "max_divergence": 0.5})
    second, _ = analyzed({**GGUF, "max_divergence": 0.25})

    differing = [name for name, action in first.actions.items() if action != second.actions[name]]
    assert differing == ["//pkg:made#Bound"]


@pytest.mark.parametrize(
    ("attrs", "source", "environment", "script"),
    [
        (GGUF, None, "convert_llm", "convert_gguf"),
        ({"format": "onnx", "precision": "fp32"}, None, "convert_onnx", "export_onnx"),
        (INT8, onnx_model(), "convert_onnx", "quantise_onnx"),
    ],
    ids=["gguf", "onnx", "int8"],
)
def test_each_edge_has_its_environment_and_its_script(
    attrs: dict[str, Any], source: ModelInfo | None, environment: str, script: str
) -> None:
    context, _ = analyzed(attrs, source, PICTURES)

    action = context.actions["//pkg:made#Convert"]
    assert action.root == Derived(f"//toolchains:{environment}@amd64#Root", "tree/")
    assert action.argv[2] == f"rules.actions.{script}"


def test_calibration_lays_out_loader_and_dataset() -> None:
    context, _ = analyzed(INT8, onnx_model(), PICTURES)

    for name in ("Convert", "Measure"):
        action = context.actions[f"//pkg:made#{name}"]
        assert dict(action.inputs)["loader/loader.py"] == Source("targets/pkg/load.py")
        assert dict(action.inputs)["dataset"] == Derived("//pkg:pictures#Command", "pictures/")
        assert action.argv[action.argv.index("--samples") + 1] == "50"


def test_a_dataset_of_files_keeps_their_folders() -> None:
    calibration = {"loader": "load.py", "dataset": ["a/one.npy"]}
    context, _ = analyzed({**INT8, "calibration": calibration}, onnx_model())

    inputs = dict(context.actions["//pkg:made#Convert"].inputs)
    assert inputs["dataset/a/one.npy"] == Source("targets/pkg/a/one.npy")


@pytest.mark.parametrize(
    ("attrs", "source", "words"),
    [
        ({"format": "gguf", "precision": "fp16"}, None, "unknown precision `fp16`, gguf has [f32, f16, bf16, q8_0"),
        ({"format": "onnx", "precision": "FP32"}, None, "unknown precision `FP32`, onnx has [fp32, int8]"),
        (INT8, None, "makes int8 of onnx, `//pkg:weights` is safetensors"),
        ({**INT8, "calibration": None}, onnx_model(), "has no `calibration`"),
        ({**INT8, "format": "gguf", "precision": "f16"}, None, "`calibration`, which f16 has no use for"),
        ({**INT8, "prompts": "prompts.json"}, onnx_model(), "int8 is measured over its calibration samples"),
        (GGUF, onnx_model(), "Nothing makes gguf of onnx"),
        ({"format": "onnx", "precision": "fp32"}, onnx_model(), "is onnx already"),
    ],
    ids=["unknown", "case", "two steps", "no samples", "idle samples", "idle prompts", "no edge", "no step"],
)
def test_contradictions_are_told_in_words(attrs: dict[str, Any], source: ModelInfo | None, words: str) -> None:
    with pytest.raises(AnalysisError) as caught:
        analyzed(attrs, source, PICTURES)

    assert words in caught.value.faults[0].text
    assert caught.value.faults[0].place == "targets/pkg/BUILD.toml:7"


@pytest.mark.parametrize("attrs", [{"format": "tflite"}, {"max_divergence": -1}, {"samples": 3}], ids=str)
def test_attributes_have_types(attrs: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        analyzed({**GGUF, **attrs})
