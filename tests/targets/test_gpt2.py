"""//gpt2 is locked to the files that everybody means, for every platform of its predecessor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge.cli.session import Session, Settings
from forge.core.artifact import Artifact
from forge.core.digest import Digest, Hash
from forge.core.errors import UserError
from forge.core.graph import ActionGraph
from forge.core.label import Label
from forge.core.provider import AppInfo

ROOT = Path(__file__).parents[2]
WEIGHTS = Label("gpt2", "weights")
STAND_IN = {WEIGHTS: Label("tiny_gpt2", "weights")}
PINS = {
    "config.json": Digest("0daed7749b4f02b8f76240d5444551d7b08712dab4d0adb8239c56ba823bb7b4", 665),
    "generation_config.json": Hash("ed0b32ac72c0f5f44a719abb2d7786ea5146c871f83717b7f2018065954de02b"),
    "merges.txt": Digest("1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5", 456318),
    "model.safetensors": Digest("248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707", 548105171),
    "tokenizer.json": Hash("8414cab924d8b9b33013f0d221c5862f365ee9be39c5c2bfae8a5a9e970478a6"),
    "tokenizer_config.json": Hash("5e04eb606e3a1583530a42e36c2a6b6615c86f34fe77e44d9ddeb43ff940931f"),
    "vocab.json": Hash("196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"),
}
"""Of openai-community/gpt2 at 607a30d, as public sources have them; a size where they tell it."""


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(ROOT, {})


def hub_files(actions: ActionGraph) -> dict[str, object]:
    """Tell what a build of all that was asked for would want of the Hub."""
    wanted: list[Artifact] = [each for provider in actions.providers.values() for each in provider.files.values()]
    found = (actions.actions[name] for name in actions.closure(wanted))
    return {
        each.outputs[0]: each.fixed_output
        for each in found
        if each.is_fixed_output and json.loads(each.argv[-1])["source"] == "hf"
    }


DEVICES = {"cpu": "amd64", "arm": "arm64", "gpu": "amd64", "agx_orin": "arm64"}
PLATFORMS = [
    *(f"{device}_llm_{backend}" for device in DEVICES for backend in ("trf", "llama", "vllm")),
    "gpu_llm_trt",
    "agx_orin_llm_trt",
]
"""Accelerator and inference framework, as the GPT-2 predecessor has them: fourteen."""
UNREACHED = {"agx_orin_llm_llama", "agx_orin_llm_vllm", "agx_orin_llm_trt"}
"""Platforms with a material that has no digest yet: its source was never reached."""


def parameters(session: Session, platform: str) -> dict[str, object]:
    """Tell what a service is baked with, where its backend is told something."""
    actions = session.analyze(
        session.load(session.patterns([f"//gpt2:server@{platform}"]), Settings(override=STAND_IN))
    )
    found = actions.providers[Label("gpt2", f"server@{platform}")]
    assert isinstance(found, AppInfo)
    return dict(found.params)


def test_there_are_fourteen_services_and_a_client(session: Session) -> None:
    graph = session.load(session.patterns(["//gpt2:images", "//gpt2:clients"]))
    found = {label.name: target.platform.arch for label in graph.requested if (target := graph.targets[label]).platform}

    assert found == {
        **{name: DEVICES[name.partition("_llm_")[0]] for name in PLATFORMS},
        "client": "amd64",
        "client_arm": "arm64",
    }


@pytest.mark.parametrize("name", [name for name in PLATFORMS if name not in UNREACHED])
def test_every_platform_wants_the_locked_files(session: Session, name: str) -> None:
    actions = session.analyze(session.load(session.patterns([f"//gpt2:{name}"])))

    assert hub_files(actions) == PINS


@pytest.mark.parametrize("name", sorted(UNREACHED))
def test_what_could_not_be_locked_says_what_is_missing_and_from_where(session: Session, name: str) -> None:
    with pytest.raises(UserError) as raised:
        session.analyze(session.load(session.patterns([f"//gpt2:{name}"]), Settings(override=STAND_IN)))

    text = str(raised.value)
    assert "jetson-ai-lab" in text or "dustynv/tensorrt_llm" in text
    assert "forge lock //toolchains:" in text


def test_a_wildcard_leaves_the_large_ones_out(session: Session) -> None:
    graph = session.load(session.patterns(["//gpt2/..."]), Settings(override=STAND_IN))
    images = {label.name for label in graph.requested if graph.targets[label].rule == "image"}

    assert images == {"cpu_llm_trf", "cpu_llm_llama", "arm_llm_trf", "arm_llm_llama", "client", "client_arm"}


def test_one_conversion_feeds_the_llama_platforms(session: Session) -> None:
    labels = [f"//gpt2:{device}_llm_llama" for device in ("cpu", "arm", "gpu")]
    actions = session.analyze(session.load(session.patterns(labels), Settings(override=STAND_IN)))
    wanted = [each for label in labels for each in actions.providers[Label.parse(label, "")].files.values()]
    mnemonics = [actions.actions[name].mnemonic for name in actions.closure(wanted)]

    assert mnemonics.count("Convert") == 1


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("cpu_llm_trf", {"batch_size": 2, "num_threads": 8, "do_sample": True}),
        ("cpu_llm_llama", {"batch_size": 2, "num_threads": 8}),
        ("gpu_llm_trf", {"batch_size": 4, "device_index": 0, "do_sample": True}),
        ("gpu_llm_trt", {"batch_size": 4, "device_index": 0}),
        ("gpu_llm_llama", {"batch_size": 2, "device_index": 0}),
        ("arm_llm_trf", {"batch_size": 2, "num_threads": 0}),
    ],
)
def test_parameters_are_those_of_the_predecessor(session: Session, platform: str, expected: dict[str, object]) -> None:
    """But for the device: theirs took the second GPU, whatever was asked for."""
    found = parameters(session, platform)

    assert {"max_length": 1024, "temperature": 0.7, "top_p": 0.95, **expected}.items() <= found.items()


def test_another_model_may_stand_in_for_it(session: Session) -> None:
    actions = session.analyze(session.load(session.patterns(["//gpt2/..."]), Settings(override=STAND_IN)))

    assert hub_files(actions) == {}
