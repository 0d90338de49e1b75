"""What images are pushed as, what is remembered of it, and what is said about where they come from."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from forge.cli.console import Console
from forge.cli.provenance import statement
from forge.cli.pushing import Note, Progress, Pushed, check_names, render_json, summary, target_name
from forge.core.action import Action
from forge.core.artifact import Derived, Source
from forge.core.digest import Digest
from forge.core.errors import ForgeError, UsageError
from forge.core.graph import ActionGraph
from forge.core.image_name import ImageName
from forge.core.label import Label
from forge.core.platform import Platform
from forge.core.provider import ImageInfo, IndexInfo
from forge.loading.workspace import PushTable
from forge.net.connection import ANONYMOUS
from forge.net.download import Downloader
from forge.oci.registry import Registry

LABEL = Label("team/gpt2", "images")
IMAGE = ImageInfo(ref="r.test/forge/gpt2:cpu", platform=Platform("cpu_llm_trf", "amd64"))


@pytest.mark.parametrize(
    ("to", "tag", "repository", "template", "expected"),
    [
        ("", "", "", "", "r.test/forge/gpt2:cpu"),
        ("x.test/a", "", "", "", "x.test/a:cpu"),
        ("127.0.0.1:5000/a:1.0", "", "y.test/b", "t", "127.0.0.1:5000/a:1.0"),
        ("x.test/a", "2", "", "t", "x.test/a:2"),
        ("", "", "y.test/b", "{label}_{platform}", "y.test/b:team_gpt2_images_cpu_llm_trf"),
        ("", "", "y.test/{label}", "{name}", "y.test/team/gpt2/images:images"),
        ("", "", "y.test/{package}", "", "y.test/team/gpt2:cpu"),
        ("docker.io/gpt2", "", "", "", "docker.io/library/gpt2:cpu"),
    ],
)
def test_a_flag_beats_the_workspace_which_beats_the_images_own_name(
    to: str, tag: str, repository: str, template: str, expected: str
) -> None:
    found = target_name(LABEL, IMAGE, PushTable(repository=repository, tag=template), to, tag)

    assert expected == str(found)


def test_an_index_has_its_targets_name_for_a_platform() -> None:
    found = target_name(Label("a", "both"), IndexInfo(ref="r.test/a:both"), PushTable(), "r.test/b", "{platform}")

    assert "r.test/b:both" == str(found)


@pytest.mark.parametrize(
    ("to", "tag", "fault"),
    [
        ("gpt2", "", "`gpt2`, the name of `//team/gpt2:images`, names no registry"),
        ("team/gpt2", "", "names no registry"),
        ("r.test/a@sha256:x", "", "say twice what the image is called"),
        ("r.test/a:1", "2", "say twice what the image is called"),
        ("r.test/a//b", "", "cannot be a repository"),
        ("r.test/a", "-x", "neither a tag nor a digest"),
    ],
)
def test_a_name_that_is_none_is_refused(to: str, tag: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        target_name(LABEL, IMAGE, PushTable(), to, tag)


def test_two_images_of_one_name_are_refused() -> None:
    name = ImageName("r.test", "a", "1")

    with pytest.raises(ForgeError, match="`//a:x` and `//a:y` would both be `r.test/a:1`"):
        check_names({Label("a", "x"): name, Label("a", "y"): name})


def test_what_was_pushed_is_remembered_by_registry(tmp_path: Path) -> None:
    registry = Registry("https://me:secret@r.test", Downloader(), ANONYMOUS)
    note = Note.read(tmp_path / "pushed")
    note.of(registry)["sha256:1"] = "a"
    note.save()

    assert {"sha256:1": "a"} == Note.read(tmp_path / "pushed").of(registry)
    assert "secret" not in (tmp_path / "pushed").read_text()


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}'])
def test_a_note_that_is_damaged_knows_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pushed").write_text(text)

    assert {} == Note.read(tmp_path / "pushed").table


def test_what_went_over_the_line_is_said_in_a_line_and_as_json() -> None:
    pushed = [Pushed(LABEL, "r.test/a:1", "sha256:1", 1200, 0, 5), Pushed(LABEL, "r.test/b:1", "sha256:1", 0, 3400, 0)]

    assert "2 images pushed: 1 kB sent, 3 kB mounted, 5 B already there, 1.5 s" == summary(pushed, 1.5)
    assert {"sent": 1200, "mounted": 0, "there": 5} == json.loads(render_json(pushed))["images"][0]["bytes"]


def test_a_long_push_says_how_far_it_is() -> None:
    stream, now = io.StringIO(), [0.0]
    progress = Progress(Console("plain", False, stream), lambda: now[0], _told=0.0)
    for now[0] in (5.0, 11.0, 12.0):
        progress.advance(1000)

    assert "    2 kB sent\n" == stream.getvalue()


def test_provenance_names_all_that_went_in_and_nothing_else() -> None:
    pin, written = Digest.of(b"wheel"), Digest.of(b"handler")
    params = {"name": "torch", "version": "2", "file": "torch.whl", "source": "pypi", "path": "", "suite": ""}
    fetch = Action(("forge-tool", "fetch", "1", json.dumps(params)), outputs=("torch.whl",), fixed_output=pin)
    other = Action(("forge-tool", "write", "1", "{}"), outputs=("x",))
    build = Action(
        ("x",), inputs=(("a", Source("a/handler.py")), ("b", Derived("fetch", "torch.whl"))), outputs=("layout/",)
    )
    graph = ActionGraph({"fetch": fetch, "other": other, "build": build}, {}, {})
    image = Digest.of(b"image")
    found = json.loads(statement(graph, Derived("build", "layout/"), "//a:x", "r/a:x", image, lambda source: written))
    definition = found["predicate"]["buildDefinition"]

    assert [{"name": "r/a:x", "digest": {"sha256": image.hash}}] == found["subject"]
    assert {"target": "//a:x"} == definition["externalParameters"]
    assert [
        {"uri": "pypi:torch.whl", "digest": {"sha256": pin.hash}},
        {"uri": "workspace:a/handler.py", "digest": {"sha256": written.hash}},
    ] == definition["resolvedDependencies"]
