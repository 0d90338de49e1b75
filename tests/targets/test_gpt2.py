"""//gpt2 is locked to the files that everybody means, and no wildcard asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge.cli.session import Session
from forge.core.artifact import Artifact
from forge.core.digest import Digest, Hash
from forge.core.graph import ActionGraph
from forge.core.label import Label

ROOT = Path(__file__).parents[2]
WEIGHTS = Label("gpt2", "weights")
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


@pytest.mark.parametrize("name", ["cpu_llm_trf", "cpu_llm_llama", "arm_llm_llama"])
def test_every_platform_wants_the_locked_files(session: Session, name: str) -> None:
    actions = session.analyze(session.load(session.patterns([f"//gpt2:{name}"])))

    assert hub_files(actions) == PINS


def test_a_wildcard_wants_nothing_of_the_hub(session: Session) -> None:
    actions = session.analyze(session.load(session.patterns(["//gpt2/..."])))

    assert hub_files(actions) == {}
    assert Label("gpt2", "client") in actions.providers


def test_another_model_may_stand_in_for_it(session: Session) -> None:
    override = {WEIGHTS: Label("tiny_gpt2", "weights")}
    actions = session.analyze(session.load(session.patterns(["//gpt2:images"]), override))

    assert hub_files(actions) == {}
    assert sum(label.package == "gpt2" and label.name.endswith("_llama") for label in actions.providers) == 4
