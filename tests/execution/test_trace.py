"""Why an action ran: the field or input is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.core.action import Action
from forge.core.digest import Digest
from forge.core.tool import FileContent
from forge.execution.trace import CUTOFF, TraceLog, parts_of
from tests.execution.workshop import Workshop, tool_action

ONE, TWO = FileContent(Digest.of(b"1")), FileContent(Digest.of(b"2"))
PLAIN = Action(("sh", "-c", "x"), env=(("A", "1"),), properties=(("arch", "amd64"),), outputs=("out",))

CHANGES = {
    "input": (PLAIN, {"a": ONE}, PLAIN, {"a": TWO}, "`input a` changed from"),
    "mode": (PLAIN, {"a": ONE}, PLAIN, {"a": FileContent(ONE.digest, True)}, "`input a` changed from"),
    "new input": (PLAIN, {}, PLAIN, {"a": ONE}, "`input a` is new"),
    "lost input": (PLAIN, {"a": ONE}, PLAIN, {}, "`input a` is gone"),
    "env": (
        PLAIN,
        {},
        Action(PLAIN.argv, env=(("A", "2"),), properties=PLAIN.properties, outputs=("out",)),
        {},
        "`env A`",
    ),
    "argv": (Action(("a b",)), {}, Action(("a", "b")), {}, "`argv` changed from `'a b'` to `a b`"),
    "outputs": (Action(("a",), outputs=("x",)), {}, Action(("a",), outputs=("y",)), {}, "`outputs` changed"),
    "timeout": (Action(("a",)), {}, Action(("a",), timeout=1), {}, "`timeout` changed from `3600` to `1`"),
    "property": (Action(("a",)), {}, Action(("a",), properties=(("arch", "arm64"),)), {}, "`property arch` is new"),
    "tool": (
        tool_action("layer", {}, ("x",)),
        {},
        Action(("forge-tool", "layer", "2", "{}"), outputs=("x",)),
        {},
        "`version of the tool` changed from `1` to `2`",
    ),
    "digest": (
        Action(("a",), fixed_output=ONE.digest),
        {},
        Action(("a",), fixed_output=TWO.digest),
        {},
        "`digest` changed",
    ),
    "long argv": (Action(("a" * 300, "1")), {}, Action(("a" * 300, "2")), {}, "`argv` changed"),
}


@pytest.mark.parametrize(("before", "inputs", "after", "then", "words"), CHANGES.values(), ids=CHANGES)
def test_the_one_thing_that_changed_is_named(
    tmp_path: Path,
    before: Action,
    inputs: dict[str, FileContent],
    after: Action,
    then: dict[str, FileContent],
    words: str,
) -> None:
    log = TraceLog(tmp_path / "traces")
    log.record("name", "key", parts_of(before, inputs, None), ran=True, reasons=[])
    log.save()

    reasons = TraceLog(tmp_path / "traces").reasons("name", parts_of(after, then, None))

    assert 1 == len(reasons)
    assert reasons[0].startswith(words)


def test_a_build_notes_why_it_ran(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    top = shop.action("top", shop.write("a", "A"), shop.write("b", "B"))
    shop.build(top)
    assert (1, ["It has never run in this workspace"]) == shop.traces.last_run("top")

    shop.write("b", "C")
    shop.build(top)
    number, reasons = shop.traces.last_run("top") or (0, [])
    assert 2 == number
    assert ["`input b` changed from"] == [reason[:22] for reason in reasons]

    shop.build(top)
    assert (2, reasons) == shop.traces.last_run("top")


def test_a_result_that_is_gone_is_a_reason(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    top = shop.action("top", shop.write("a", "A"))
    run = shop.build(top)
    content = run.contents["top"]["out"]
    assert isinstance(content, FileContent)
    shop.store.path(content.digest).unlink()
    shop.build(top)

    assert (2, ["Its result was no longer in the store"]) == shop.traces.last_run("top")


def test_a_result_from_the_cache_is_the_new_base_of_comparison(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    top = shop.action("top", shop.write("a", "A"))
    for text in ("A", "B", "A", "C"):
        shop.write("a", text)
        shop.build(top)

    _, (reason,) = shop.traces.last_run("top") or (0, [""])
    assert Digest.of(b"A").short in reason
    assert Digest.of(b"B").short not in reason


def test_a_damaged_note_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "traces").write_bytes(b"garbage")

    assert TraceLog(tmp_path / "traces").last_run("x") is None


def test_what_made_the_same_again_says_that_it_stopped_there(tmp_path: Path) -> None:
    traces = TraceLog(tmp_path / "traces")
    traces.record("a", "k1", {"argv": "1"}, ran=True, reasons=["new"], made="x")
    traces.record("a", "k2", {"argv": "2"}, ran=True, reasons=["`argv` changed"], made="x")
    same = traces.last_run("a")
    traces.record("a", "k3", {"argv": "3"}, ran=True, reasons=["`argv` changed"], made="y")

    assert same is not None
    assert ["`argv` changed", CUTOFF] == same[1]
    assert (1, ["`argv` changed"]) == traces.last_run("a")
