from __future__ import annotations

import pytest

from forge.core.model_source import (
    HubSource,
    ModelRequest,
    WebSource,
    choose,
    is_commit,
    is_pickle,
    is_repository,
    is_revision,
)

PATHS = ["config.json", "model.safetensors", "onnx/model.onnx", "pytorch_model.bin"]
ADDRESS = "https://models.example/a/model.gguf"


@pytest.mark.parametrize(
    ("globs", "pickles", "expected"),
    [
        (["*.safetensors", "*.json"], [], ("config.json", "model.safetensors")),
        (["**", "!*.bin"], [], ("config.json", "model.safetensors", "onnx/model.onnx")),
        (["*.json"], ["pytorch_model.bin"], ("config.json", "pytorch_model.bin")),
    ],
)
def test_files_are_chosen_by_globs(globs: list[str], pickles: list[str], expected: tuple[str, ...]) -> None:
    assert choose(PATHS, globs, pickles) == expected


@pytest.mark.parametrize(
    ("globs", "pickles", "fault"),
    [
        (["*.gguf"], [], "[*.gguf] matches none of its files: [config.json, model.safetensors, onnx/model.onnx, pyt"),
        (["**"], [], "[pytorch_model.bin]: a pickle runs code when it is read; `allow_pickle` lets one in by name"),
        (["*.json"], ["other.bin"], "`allow_pickle` names [other.bin], which the source has not"),
    ],
)
def test_what_cannot_be_chosen_says_why(globs: list[str], pickles: list[str], fault: str) -> None:
    with pytest.raises(ValueError) as caught:
        choose(PATHS, globs, pickles)

    assert str(caught.value).startswith(fault)


def test_a_long_list_of_files_is_cut() -> None:
    with pytest.raises(ValueError) as caught:
        choose([f"{number:02}" for number in range(20)], ["x"], [])

    assert str(caught.value).endswith("10, 11, …]")


@pytest.mark.parametrize("name", ["a.bin", "a.PT", "a.pth", "a.ckpt", "a.pkl", "sub/a.pickle", "a.joblib"])
def test_pickles_are_known_by_their_names(name: str) -> None:
    assert is_pickle(name)
    assert not is_pickle(f"{name}.safetensors")


def test_a_hubs_request_is_repository_revision_and_files() -> None:
    request = ModelRequest(HubSource("a/b"), "main", ("*.json",), ("files *.json",), ("x.bin",))

    assert request.requested == ("files *.json", "hf:a/b", "pickle x.bin", "revision main")


def test_a_request_for_addresses_holds_none_and_changes_with_them() -> None:
    first, other = (ModelRequest(WebSource((("m.gguf", each),))).requested for each in (ADDRESS, f"{ADDRESS}?v=2"))

    assert first == ("m.gguf@8ae720a81d4694d4",)
    assert first != other


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (is_repository, ["a/b", "open-ai.1/g_pt2"], ["a", "a/b/c", "../b", "a/..", "/a", "a/b?x", "a/ b", ""]),
        (is_revision, ["main", "v1.0", "refs/pr/1", "0" * 40], ["", "../x", "a/../b", "/a", "a/", "a b", "-x", "a?b"]),
        (is_commit, ["0123456789" * 4], ["main", "0" * 39, "0" * 41, "A" * 40]),
    ],
)  # fmt: skip
def test_names_on_a_hub(check: object, good: list[str], bad: list[str]) -> None:
    assert callable(check)
    assert [check(each) for each in good] == [True] * len(good)
    assert [check(each) for each in bad] == [False] * len(bad)
