"""What runs when something changes, counted by what the command says and from outside."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import CHECKPOINT, IMAGE, Built, edit
from tests.e2e.layout import Layout, file_hash
from tests.e2e.program import Forge, copy_code

pytestmark = pytest.mark.e2e

SERVER = "//tiny_gpt2:server@cpu_llm_trf"
MAKE, ASSEMBLE, LIST = "Make the checkpoint //tiny_gpt2", f"Assemble {IMAGE}", f"List what {IMAGE} is made of"
NEW_MODEL = [ASSEMBLE, f"Layer model {IMAGE}", LIST, MAKE]
PACKAGE = Path("targets/tiny_gpt2")


def test_the_first_command_on_a_new_machine_ends_with_an_image(built: Built) -> None:
    assert built.first.digest(IMAGE) == built.layout.index["manifests"][0]["digest"]
    assert MAKE in built.first.ran
    assert len(built.sandboxes.started()) >= 1


def test_a_second_build_runs_nothing_and_starts_no_sandbox(built: Built) -> None:
    built.forge("build", "//...")
    before = built.sandboxes.started()

    quick = built.forge("build", "//...")
    looked = built.forge("build", "//...", "--output=json", FORGE_NO_SNAPSHOT="1")

    assert re.fullmatch(r"Nothing to do: \d+ targets up to date\n", quick.stderr)
    assert looked.table["actions"]["ran"] == 0
    assert {row["status"] for row in looked.table["targets"]} == {"cached"}
    assert built.sandboxes.started() == before


def test_sources_touched_and_not_changed_run_nothing(copy: Forge) -> None:
    for path in (copy.cwd / "targets").rglob("*"):
        os.utime(path)
    os.utime(copy.cwd / "WORKSPACE.toml")

    assert copy("build", IMAGE, CHECKPOINT, "--output=json").table["actions"]["ran"] == 0


Change = Callable[[Path], None]


def change(name: str, old: str, new: str) -> Change:
    """Change one place of a file of the workspace."""
    return lambda folder: edit(folder / name, old, new)


CHANGES: dict[str, tuple[Change, list[str]]] = {
    "a comment of the script": (
        change("targets/tiny_gpt2/make_model.py", "    main()\n", "    main()  # A remark.\n"),
        [MAKE],
    ),
    "the model's seed": (change("targets/tiny_gpt2/BUILD.toml", '"--seed", "0"', '"--seed", "77"'), NEW_MODEL),
    "a byte of the handler": (
        change("targets/tiny_gpt2/handler.py", "text out", "text  out"),
        [ASSEMBLE, f"Gather handler and data {SERVER}", f"Layer handler and data {IMAGE}", LIST],
    ),
    "a parameter": (
        change("targets/tiny_gpt2/BUILD.toml", "top_p = 0.95", "top_p = 0.94"),
        [ASSEMBLE, f"Layer configuration {IMAGE}", LIST, f"Write {SERVER}"],
    ),
    "the workspace's name": (change("WORKSPACE.toml", 'name = "forge"', 'name = "other"'), [ASSEMBLE, LIST]),
    "a description": (change("targets/tiny_gpt2/BUILD.toml", "Make the checkpoint", "Wire the checkpoint"), []),
    "a comment of the declarations": (change("targets/tiny_gpt2/BUILD.toml", "[weights]", "# So.\n[weights]"), []),
    "the cases of the test": (change("targets/tiny_gpt2/smoke.json", "is live", "lives"), []),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_runs_exactly_what_depends_on_it(copy: Forge, what: str) -> None:
    apply, expected = CHANGES[what]
    apply(copy.cwd)

    assert copy("build", IMAGE, CHECKPOINT, "--progress=plain").ran == sorted(expected)


def test_another_corpus_makes_another_model(copy: Forge) -> None:
    corpus = copy.cwd / PACKAGE / "corpus.txt"
    corpus.write_text(corpus.read_text().replace(" the ", " teh "))

    assert copy("build", IMAGE, "--progress=plain").ran == NEW_MODEL


def test_a_byte_of_the_runtime_makes_one_layer(copy: Forge, tmp_path: Path) -> None:
    changed = replace(copy, checkout=copy_code(tmp_path / "code"))
    with (tmp_path / "code/runtime/forge_runtime/log.py").open("a") as file:
        file.write("# A remark.\n")

    ran = changed("build", IMAGE, "--progress=plain").ran

    compiled = [f"Compile runtime {SERVER}", f"Merge byte code runtime {SERVER}"]
    assert ran == sorted([ASSEMBLE, f"Gather runtime {SERVER}", f"Layer runtime {IMAGE}", LIST, *compiled])


def test_a_changed_case_runs_the_test_alone(copy: Forge) -> None:
    copy("test", "//tiny_gpt2:smoke")
    edit(copy.cwd / PACKAGE / "smoke.json", "is ready", "stands ready")

    result = copy("test", "//tiny_gpt2:smoke", "--progress=plain")

    assert result.ran == ["Test //tiny_gpt2:smoke@cpu_llm_trf"]
    assert result.stdout == "//tiny_gpt2:smoke@cpu_llm_trf  PASSED\n"


def test_a_test_that_fails_has_a_code_of_its_own_and_says_what_was_wrong(copy: Forge) -> None:
    edit(copy.cwd / PACKAGE / "smoke.json", '"path": "/healthz", "status": 200', '"path": "/healthz", "status": 418')

    result = copy("test", "//tiny_gpt2:smoke", "--progress=plain", code=3)

    assert result.stdout == "//tiny_gpt2:smoke@cpu_llm_trf  FAILED\n"
    assert re.search(r"is live.*418", result.stderr)


def test_a_temperature_changes_one_layer_of_a_few_hundred_bytes(copy: Forge) -> None:
    layout = Layout(copy.cwd / "forge-out/tiny_gpt2/cpu_llm_trf")
    before = layout.layers
    edit(copy.cwd / PACKAGE / "BUILD.toml", "temperature = 0.7", "temperature = 0.3")
    copy("build", IMAGE)
    after = layout.layers

    assert before[:-1] == after[:-1]
    assert before[-1]["digest"] != after[-1]["digest"]
    assert after[-1]["size"] < 1000


def test_explain_names_the_input_that_changed(copy: Forge) -> None:
    edit(copy.cwd / PACKAGE / "handler.py", "text in", "text  in")
    copy("build", IMAGE)

    said = copy("explain", IMAGE).stdout

    assert f"Gather handler and data {SERVER} ran in the last build, because\n" in said
    assert MAKE not in said


def blob(home: Path, name: str) -> Path:
    """Name a blob's file."""
    return home / "cas" / name[:2] / name


def wheel(built: Built) -> Path:
    """One of the wheels."""
    lock = (built.forge.checkout / "toolchains/locks/cpu_llm_trf.python.toml").read_text()
    (name,) = re.findall(r'"h11-[^"]*\.whl"\nsha256 = "([0-9a-f]{64})"', lock)
    return blob(built.home, name)


def trees(built: Built) -> list[Path]:
    """A seventh of the descriptions of trees that are there."""
    names = sorted(path.name for path in (built.home / "closures").iterdir())
    return [path for path in (blob(built.home, name) for name in names) if path.exists()][::7]


def results(built: Built) -> list[Path]:
    """A seventh of the action cache."""
    return sorted(path for path in (built.home / "ac").rglob("*") if path.is_file())[::7]


LOSSES: dict[str, Callable[[Built], list[Path]]] = {
    "a layer": lambda built: [blob(built.home, built.layout.layers[-2]["digest"][7:])],
    "the manifest": lambda built: [blob(built.home, built.first.digest(IMAGE)[7:])],
    "the weights": lambda built: [blob(built.home, file_hash(built.weights))],
    "a wheel": lambda built: [wheel(built)],
    "trees": trees,
    "results": results,
    "the folder of the image": lambda built: [built.layout.folder.resolve()],
    "the folder of every tree": lambda built: [built.home / "trees"],
}
OF_OTHERS_TOO = {"trees", "results"}
"""What the image does not need is not made again: the store holds those of other tests as well."""


@pytest.mark.parametrize("what", LOSSES)
def test_what_is_lost_is_made_or_fetched_again(built: Built, what: str) -> None:
    restore(built)
    lost = LOSSES[what](built)
    assert lost
    for path in lost:
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    # A build with nothing to do looks at its outputs, which are whole whatever others have lost.
    if what in OF_OTHERS_TOO:
        built.forge("build", IMAGE, CHECKPOINT, FORGE_NO_SNAPSHOT="1")
    after = built.forge("build", IMAGE, CHECKPOINT)

    assert built.first.digest(IMAGE) == after.digest(IMAGE)
    if what not in OF_OTHERS_TOO:
        assert [path for path in lost if not path.exists()] == []
    assert_sound(built.layout)
    assert built.forge("build", IMAGE, CHECKPOINT, "--output=json").table["actions"]["ran"] == 0


def test_a_torn_result_is_no_result(built: Built) -> None:
    restore(built)
    torn = results(built)
    for path in torn:
        os.truncate(path, path.stat().st_size - 1)

    after = built.forge("build", IMAGE, CHECKPOINT, FORGE_NO_SNAPSHOT="1")

    assert built.first.digest(IMAGE) == after.digest(IMAGE)
    assert_sound(built.layout)


def test_a_damaged_blob_is_made_again_and_kept_for_inspection(built: Built) -> None:
    # The output's files are the store's own: another test may have had a blob made anew since.
    shutil.rmtree(built.layout.folder.resolve())
    restore(built)
    digest = built.layout.layers[-2]["digest"]
    damaged = blob(built.home, digest[7:])
    assert damaged.samefile(built.layout.blob(digest))
    damaged.chmod(0o644)
    with damaged.open("r+b") as file:
        file.seek(40)
        byte = file.read(1)[0]
        file.seek(40)
        file.write(bytes([byte ^ 1]))

    after = built.forge("build", IMAGE, CHECKPOINT)

    assert built.first.digest(IMAGE) == after.digest(IMAGE)
    assert re.search(r"warning: `[^`]+` of the store was damaged: making it again\n", after.stderr)
    assert_sound(built.layout)


def restore(built: Built) -> None:
    """Have everything as it should be, and the note by which a second build is quick."""
    built.forge("build", IMAGE, CHECKPOINT, FORGE_NO_SNAPSHOT="1")
    built.forge("build", IMAGE, CHECKPOINT)


def assert_sound(layout: Layout) -> None:
    """Re-hash every blob."""
    for path in (layout.folder / "blobs/sha256").iterdir():
        assert path.name == file_hash(path)
