from __future__ import annotations

import json

import pytest

from forge.core.action import Action
from forge.core.artifact import Derived, Source
from forge.core.digest import EMPTY, Hash
from forge.core.label import Label
from forge.core.lock import Lock, Material
from forge.core.lock_text import render
from forge.core.provider import ModelInfo
from tests.fakes.workspace import MODEL, FakeWorkspace

COMMIT = "0123456789" * 4
HUB = "[weights]\nrule = 'model'\nsource = 'hf:acme/tiny'\nrevision = 'main'\n"
FILES = ("config.json", "model.safetensors")
WEB = "[weights]\nrule = 'model'\nsource = ['https://a.example/x/{}', 'https://b.example/y/config.json?v=1']\n"


def lock(workspace: FakeWorkspace, *files: str, requested: tuple[str, ...] = (), name: str = "weights") -> None:
    """Write the lock of a hub's model."""
    asked = requested or ("format safetensors", "hf:acme/tiny", "revision main")
    materials = tuple(Material("acme/tiny", COMMIT, file, Hash(EMPTY.hash), "hf") for file in files)
    text = render(Lock("model", "all", asked, materials, "acme/tiny", COMMIT))
    workspace.write(f"targets/pkg/{name}.lock.toml", text)


def place(action: Action) -> dict[str, str]:
    """Tell where an action puts each of its inputs."""
    places: dict[str, str] = json.loads(action.argv[-1])["place"]
    return places


def test_a_target_s_folder_is_handed_on(workspace: FakeWorkspace) -> None:
    workspace.build(MODEL)
    info = workspace.analyze("//pkg:weights").providers[Label("pkg", "weights")]

    assert isinstance(info, ModelInfo)
    assert info.tree == Derived("//pkg:checkpoint#Command", "checkpoint/")
    assert workspace.target("//pkg:weights").dependencies() == (Label("pkg", "checkpoint"),)


def test_a_hub_s_files_are_fetched_gathered_checked_and_accepted(workspace: FakeWorkspace) -> None:
    workspace.build(HUB)
    lock(workspace, *FILES)
    graph = workspace.analyze("//pkg:weights")
    fetches = [action for action in graph.actions.values() if action.is_fixed_output and "hf" in action.argv[-1]]
    info = graph.providers[Label("pkg", "weights")]
    check, accept = graph.actions["//pkg:weights#Check"], graph.actions["//pkg:weights#Accept"]

    assert [json.loads(action.argv[-1])["path"] for action in fetches] == [
        f"acme/tiny/resolve/{COMMIT}/{file}" for file in FILES
    ]
    assert [action.fixed_output for action in fetches] == [Hash(EMPTY.hash)] * 2
    assert place(graph.actions["//pkg:weights#Gather"]) == {"0000": "config.json", "0001": "model.safetensors"}
    assert check.argv[1:7] == ("-m", "rules.actions.check_model", "--model", "model", "--format", "safetensors")
    assert dict(accept.inputs) == {
        "0": Derived("//pkg:weights#Check", "verdict/"),
        "1": Derived("//pkg:weights#Gather", "model/"),
    }
    assert isinstance(info, ModelInfo)
    assert (info.name, info.format, info.tree) == ("pkg", "safetensors", Derived("//pkg:weights#Accept", "model/"))


def test_nothing_but_the_check_reads_the_files_before_it_is_done(workspace: FakeWorkspace) -> None:
    workspace.build(HUB)
    lock(workspace, *FILES)
    graph = workspace.analyze("//pkg:weights")
    gathered = Derived("//pkg:weights#Gather", "model/")

    readers = [name for name, action in graph.actions.items() if gathered in dict(action.inputs).values()]
    assert readers == ["//pkg:weights#Check", "//pkg:weights#Accept"]
    assert graph.providers[Label("pkg", "weights")].files == {"weights": Derived("//pkg:weights#Accept", "model/")}


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        (None, "targets/pkg/BUILD.toml:1: `//pkg:weights` is not locked: no `weights.lock.toml`"),
        (("format safetensors", "hf:acme/tiny", "revision v1"), "The lock `weights.lock.toml` of `//pkg:weights` is"),
    ],
)  # fmt: skip
def test_what_is_not_locked_is_unavailable(
    workspace: FakeWorkspace, requested: tuple[str, ...] | None, expected: str
) -> None:
    workspace.build(HUB)
    if requested:
        lock(workspace, *FILES, requested=requested)
    message = workspace.error("//pkg:weights", analyze=True)

    assert expected in message
    assert "hint: Run `forge lock //pkg:weights`" in message
    assert list(workspace.analyze("//pkg:all").skipped) == [Label("pkg", "weights")]


def test_a_lock_with_a_pickle_that_nobody_allowed_is_refused(workspace: FakeWorkspace) -> None:
    workspace.build(HUB + "files = ['**']\n")
    lock(workspace, *FILES, "a.bin", requested=("files **", "hf:acme/tiny", "revision main"))

    assert "[a.bin]: a pickle runs code when it is read" in workspace.error("//pkg:weights", analyze=True)


def test_an_allowed_pickle_comes_along(workspace: FakeWorkspace) -> None:
    workspace.build(HUB + "allow_pickle = ['a.bin']\n")
    lock(workspace, *FILES, "a.bin", requested=("format safetensors", "hf:acme/tiny", "pickle a.bin", "revision main"))
    graph = workspace.analyze("//pkg:weights")

    assert sorted(place(graph.actions["//pkg:weights#Gather"]).values()) == ["a.bin", *FILES]
    assert graph.actions["//pkg:weights#Check"].argv[7:9] == ("--allow-pickle", "a.bin")


def test_what_the_declaration_does_not_want_is_left_out_of_a_lock_that_has_more(workspace: FakeWorkspace) -> None:
    workspace.build(HUB)
    lock(workspace, *FILES, "README.md")
    graph = workspace.analyze("//pkg:weights")

    assert sorted(place(graph.actions["//pkg:weights#Gather"]).values()) == list(FILES)


@pytest.mark.parametrize(
    ("form", "files", "expected"),
    [
        ("gguf", ["q8/tiny-q8.gguf"], ["model.gguf"]),
        ("onnx", ["onnx/tiny.onnx", "onnx/tiny.onnx_data", "config.json"],
         ["config.json", "model.onnx", "tiny.onnx_data"]),
        ("onnx", ["tiny.onnx"], ["model.onnx"]),
        ("tensorrt", ["rank0.engine"], ["rank0.engine"]),
    ],
)  # fmt: skip
def test_a_model_that_is_one_file_has_the_name_that_readers_know(
    workspace: FakeWorkspace, form: str, files: list[str], expected: list[str]
) -> None:
    workspace.build(HUB + f"format = '{form}'\nfiles = ['**']\n")
    lock(workspace, *files, requested=("files **", "hf:acme/tiny", "revision main"))
    graph = workspace.analyze("//pkg:weights")

    assert sorted(place(graph.actions["//pkg:weights#Gather"]).values()) == expected


@pytest.mark.parametrize("files", [["a.gguf", "b.gguf"], ["config.json"]])
def test_a_gguf_must_be_one_file(workspace: FakeWorkspace, files: list[str]) -> None:
    workspace.build(HUB + "format = 'gguf'\nfiles = ['**']\n")
    lock(workspace, *files, requested=("files **", "hf:acme/tiny", "revision main"))

    assert "`//pkg:weights` is one `*.gguf`, its source gives" in workspace.error("//pkg:weights", analyze=True)


def test_an_instance_for_a_platform_has_a_lock_of_its_own(workspace: FakeWorkspace) -> None:
    workspace.build(HUB + "platforms = ['*_trf']\n[weights.override]\ngpu_llm_trf.revision = 'half'\n")
    targets = workspace.load("//pkg:weights").targets

    assert sorted(each.file for target in targets.values() for each in target.lock_requests if each.model) == [
        "weights@cpu_llm_trf.lock.toml", "weights@gpu_llm_trf.lock.toml",
    ]  # fmt: skip


def test_addresses_come_from_the_declaration_and_digests_from_the_lock(workspace: FakeWorkspace) -> None:
    workspace.build(WEB.format("model.safetensors"))
    request = workspace.target("//pkg:weights").lock_requests[0]
    materials = tuple(Material(file, "", file, EMPTY, "https") for file in FILES)
    workspace.write("targets/pkg/weights.lock.toml", render(Lock("model", "all", request.requested, materials)))
    graph = workspace.analyze("//pkg:weights")

    paths = [json.loads(each.argv[-1])["path"] for each in graph.actions.values() if each.fixed_output == EMPTY]
    assert paths == ["https://b.example/y/config.json?v=1", "https://a.example/x/model.safetensors"]


def test_another_address_makes_the_lock_stale(workspace: FakeWorkspace) -> None:
    workspace.build(WEB.format("model.safetensors"))
    before = workspace.target("//pkg:weights").lock_requests[0].requested
    workspace.build(WEB.format("v2/model.safetensors"))

    assert workspace.target("//pkg:weights").lock_requests[0].requested != before


def test_a_lock_with_other_files_than_the_addresses_is_refused(workspace: FakeWorkspace) -> None:
    workspace.build(WEB.format("model.safetensors"))
    requested = workspace.target("//pkg:weights").lock_requests[0].requested
    materials = (Material("x", "", "x", EMPTY, "https"),)
    workspace.write("targets/pkg/weights.lock.toml", render(Lock("model", "all", requested, materials)))

    assert "The lock names other files than `source`" in workspace.error("//pkg:weights", analyze=True)


@pytest.mark.parametrize(
    ("source", "more", "expected"),
    [
        ("file:model", "", ["config.json", "model.safetensors"]),
        ("file:model/", "", ["config.json", "model.safetensors"]),
        ("file:model/*.safetensors", "", ["model.safetensors"]),
        ("file:model/model.safetensors", "", ["model.safetensors"]),
        ("file:model", "files = ['**/*.md']", ["sub/read.md"]),
        ("file:top.safetensors", "", ["top.safetensors"]),
    ],
)
def test_files_of_the_workspace_need_no_lock(
    workspace: FakeWorkspace, source: str, more: str, expected: list[str]
) -> None:
    for name in ("model/config.json", "model/model.safetensors", "model/sub/read.md", "top.safetensors"):
        workspace.write(f"targets/pkg/{name}", name)
    workspace.build(f"[weights]\nrule = 'model'\nsource = '{source}'\n{more}\n")
    gather = workspace.action("//pkg:weights", "Gather")

    assert sorted(place(gather).values()) == expected
    assert all(isinstance(artifact, Source) for _, artifact in gather.inputs)
    assert workspace.target("//pkg:weights").lock_requests == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("source = 'hf:tiny'", "`hf:tiny` is no repository, write `hf:OWNER/NAME`"),
        ("source = 'hf:../x'", "`hf:../x` is no repository"),
        ("source = 'hf:a/b'", '`hf:` needs a `revision`: a commit, or a branch such as `revision = "main"`'),
        ("source = 'hf:a/b'\nrevision = '../x'", "`../x` cannot be a commit, branch or tag"),
        ("source = 'https://a.example/m.gguf'\nrevision = 'v1'", "`revision` is for `hf:` sources"),
        ("source = 'https://a.example/m.gguf'\nfiles = ['x']", "`files` is for sources that have more than is named"),
        ("source = 'https://a.example/m.bin'", "[m.bin]: a pickle runs code when it is read"),
        ("source = 'https://a.example/m.gguf'\nallow_pickle = ['x.bin']", "`allow_pickle` names [x.bin]"),
        ("source = ':checkpoint'\nallow_pickle = ['x.bin']", "`allow_pickle` is for what is fetched"),
        ("source = 'hf:a/b'\nrevision = 'main'\nformat = 'tensorrt'", "`files` is needed: tensorrt has no usual ones"),
        ("source = 'http://a.example/m.gguf'", "`http://a.example/m.gguf` is no source: write a label,"),
        ("source = 's3://bucket/m.gguf'", "`s3://bucket/m.gguf` is no source"),
        ("source = 'https://me:secret@a.example/m.gguf'", "holds no login; put that into `~/.netrc`"),
        ("source = 'https:///m.gguf'", "needs a host"),
        ("source = 'https://[a/m.gguf'", "is no address"),
        ("source = 'https://a.example/'", "`https://a.example/` names no file"),
        ("source = ['https://a.example/x', 'https://b.example/x']", "two addresses end with `x`"),
        ("source = []", "must not be empty"),
        ("source = [':checkpoint', 3]", "`:checkpoint` is no source"),
        ("source = [3]", "must be a label, `hf:OWNER/NAME`, `file:PATH`, or one or more addresses"),
        ("source = 3", "must be a label"),
        ("source = 'file:absent'", "`absent` does not exist"),
        ("source = 'file:../x'", "must lie below the package's folder"),
    ],
)  # fmt: skip
def test_a_source_that_cannot_be_is_an_error_in_words(workspace: FakeWorkspace, text: str, expected: str) -> None:
    workspace.build(f"[weights]\nrule = 'model'\n{text}\n")
    message = workspace.error("//pkg:weights")

    assert expected in message
    assert message.startswith("targets/pkg/BUILD.toml:")
    assert "secret@" not in message


def test_plain_http_does_on_this_machine(workspace: FakeWorkspace) -> None:
    workspace.build("[weights]\nrule = 'model'\nsource = 'http://127.0.0.1:8000/model.safetensors'\n")

    assert [each.file for each in workspace.target("//pkg:weights").lock_requests] == ["weights.lock.toml"]


def test_no_file_of_the_workspace_is_an_error_that_lists_what_is_there(workspace: FakeWorkspace) -> None:
    workspace.write("targets/pkg/model/a.txt")
    workspace.build("[weights]\nrule = 'model'\nsource = 'file:model'\n")

    assert "matches none of its files: [a.txt]" in workspace.error("//pkg:weights", analyze=True)


def test_the_headers_are_checked_in_the_environment_that_is_named(workspace: FakeWorkspace) -> None:
    workspace.write("targets/pkg/m.safetensors")
    workspace.build("[weights]\nrule = 'model'\nsource = 'file:m.safetensors'\nenvironment = '//toolchains:busybox'\n")

    assert workspace.action("//pkg:weights", "Check").root == Derived("//toolchains:busybox@amd64#Root", "tree/")


IMAGE = "[weights]\nrule = 'model'\nsource = 'oci:vendor.test/acme/m:1'\nformat = 'gguf'\n"


def test_a_model_in_an_image_is_pulled_extracted_checked_and_accepted(workspace: FakeWorkspace) -> None:
    workspace.build(IMAGE)
    asked = ("folder models", "format gguf", "oci:vendor.test/acme/m:1")
    digest = f"sha256:{EMPTY.hash}"
    file = Material("acme/m", digest, "m-q8_0.gguf", EMPTY, "vendor.test")
    workspace.write("targets/pkg/weights.lock.toml", render(Lock("model", "all", asked, (file,), "acme/m", digest)))
    graph = workspace.analyze("//pkg:weights")
    pull, gather = graph.actions["//pkg:weights#Pull"], graph.actions["//pkg:weights#Gather"]
    ((_, pinned),) = pull.inputs

    assert isinstance(pinned, Derived)
    assert graph.actions[pinned.action].fixed_output == Hash(EMPTY.hash)
    assert json.loads(gather.argv[-1]) == {
        "folder": "models",
        "files": {"m-q8_0.gguf": {"place": "model.gguf", "sha256": EMPTY.hash}},
    }
    assert dict(gather.inputs) == {"layout": Derived("//pkg:weights#Pull", "layout/")}
    assert "//pkg:weights#Accept" in graph.actions


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("source = 'oci:vendor.test/acme/m'\n", "needs a tag"),
        ("source = 'oci:vendor.test/acme/m:1'\nrevision = 'x'\n", "`revision` is for `hf:` sources"),
        ("source = 'file:m.gguf'\nfolder = 'models'\n", "`folder` is for `oci:` sources"),
    ],
)
def test_what_an_image_s_model_cannot_be_is_said(workspace: FakeWorkspace, declared: str, expected: str) -> None:
    workspace.write("targets/pkg/m.gguf")
    workspace.build(f"[weights]\nrule = 'model'\nformat = 'gguf'\n{declared}")

    assert expected in workspace.error("//pkg:weights")
