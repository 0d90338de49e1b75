from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.core import wire
from forge.core.action import TOOL, Action, action_key, input_root
from forge.core.artifact import Artifact, Derived, Source
from forge.core.digest import EMPTY, Digest
from forge.core.label import Label
from forge.core.tool import Content, FileContent, TreeContent
from forge.core.tree import Directory, File, Symlink, Tree

ROOT = Directory(directories=(("build", EMPTY), ("usr", Digest.of(b"usr"))), symlinks=(("bin", Symlink("usr/bin")),))
ACTION = Action(
    argv=("/bin/sh", "-c", ""),
    env=(("A", "1"), ("B", "2")),
    inputs=(("pkg/a.txt", Source("pkg/a.txt")), ("pkg/t", Derived("//pkg:t#Command", "t/"))),
    root=Derived("//toolchains:busybox@amd64#Root", "tree/"),
    outputs=("b", "a/"),
    properties=(("arch", "amd64"), ("sandbox", "1")),
    timeout=60,
    owner=Label("pkg", "x"),
    mnemonic="Command",
    description="Make x",
)

CHANGED: dict[str, Any] = {
    "argv": ("/bin/sh", "-c", "x"),
    "env": (("A", "1"), ("B", "3")),
    "inputs": (("pkg/a.txt", Source("pkg/b.txt")), ("pkg/t", Derived("//pkg:t#Command", "t/"))),
    "root": None,
    "outputs": ("b", "a"),
    "properties": (("arch", "arm64"), ("sandbox", "1")),
    "timeout": 61,
    "fixed_output": Digest.of(b"x"),
    "owner": Label("pkg", "y"),
    "mnemonic": "Other",
    "description": "Make y",
}
"""Another value for every field of an action."""


def content(artifact: Artifact) -> Content:
    """Pretend that every artifact's content is its name."""
    if isinstance(artifact, Source):
        return FileContent(Digest.of(artifact.path.encode()))
    return TreeContent(Digest.of(b"tree"), Digest.of(artifact.action.encode()))


GOLDEN = [
    "c7baa6e0e883a30384d6e567fdc0c21d553bd5dcd8c28d42211544df868de5cb/176",
    "e3df682b7ee6c8958cb974c4e8c0eebaff6b7ef38560f84fafde8673ebd14d25/261",
    "019b5ed5b49538bbb343bbd3dd41c7122bd0f25d77cf9718a394814f2b15c261/145",
]


def key(action: Action) -> Digest:
    """Resolve an action and take its key."""
    inputs = {path: content(artifact) for path, artifact in action.inputs}
    return action_key(action, inputs, None if action.root is None else ROOT).digest


def test_every_field_has_another_value_here() -> None:
    assert {field.name for field in fields(Action)} == set(CHANGED)


@pytest.mark.parametrize("name", [field.name for field in fields(Action) if field.compare])
def test_changing_a_field_that_is_identity_changes_the_key(name: str) -> None:
    assert key(replace(ACTION, **{name: CHANGED[name]})) != key(ACTION)


@pytest.mark.parametrize("name", [field.name for field in fields(Action) if not field.compare])
def test_changing_a_field_that_says_it_is_no_identity_keeps_the_key(name: str) -> None:
    assert key(replace(ACTION, **{name: CHANGED[name]})) == key(ACTION)


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_equality_says_what_the_key_says(name: str) -> None:
    other = replace(ACTION, **{name: CHANGED[name]})

    assert (other == ACTION) == (key(other) == key(ACTION))


@pytest.mark.parametrize("input_path", ["pkg/c.txt", "a.txt"])
def test_moving_an_input_changes_the_key(input_path: str) -> None:
    other = replace(ACTION, inputs=((input_path, Source("pkg/a.txt")), ACTION.inputs[1]))

    assert key(other) != key(ACTION)


def test_making_an_input_executable_changes_the_key() -> None:
    plain = action_key(ACTION, {"a": FileContent(EMPTY)}, ROOT)
    executable = action_key(ACTION, {"a": FileContent(EMPTY, True)}, ROOT)

    assert plain.digest != executable.digest


def test_a_command_is_encoded_as_the_specification_says() -> None:
    """By hand: arguments=1, environment_variables=2, output_directories=4, platform=5, working_directory=6,
    output_paths=7, each list sorted, no slash at a path's end.
    """
    expected = (
        "0a07 2f62696e2f7368" "0a02 2d63" "0a00"
        "1206 0a0141 120131" "1206 0a0142 120132"
        "2205 6f75742f61"
        "2a1d 0a0d 0a0461726368 1205616d643634" "0a0c 0a0773616e64626f78 120131"
        "3205 6275696c64"
        "3a05 6f75742f61" "3a05 6f75742f62"
    )  # fmt: skip

    assert action_key(ACTION, {}, None).command.hex() == bytes.fromhex(expected).hex()


def test_an_action_is_encoded_as_the_specification_says() -> None:
    """By hand: command_digest=1, input_root_digest=2, timeout=6 (seconds=1), platform=10."""
    made = action_key(ACTION, {}, None)
    command, root = Digest.of(made.command), input_root({}, None)
    expected = (
        b"\x0a\x44\x0a\x40" + command.hash.encode() + b"\x10" + wire.varint(command.size)
        + b"\x12\x44\x0a\x40" + root.hash.encode() + b"\x10" + wire.varint(root.size)
        + b"\x32\x02\x08\x3c"
        + bytes.fromhex("521d 0a0d 0a0461726368 1205616d643634 0a0c 0a0773616e64626f78 120131")
    )  # fmt: skip

    assert made.action == expected


def test_keys_are_what_they_were() -> None:
    """Golden: another digest here makes every cache in the world start anew."""
    keys = [key(ACTION), key(replace(ACTION, fixed_output=EMPTY)), key(Action(argv=("true",)))]

    assert [str(each) for each in keys] == GOLDEN


@given(st.permutations(list(ACTION.inputs)), st.permutations(list(ACTION.outputs)), st.permutations(list(ACTION.env)))
def test_the_order_of_declarations_does_not_matter(
    inputs: list[tuple[str, Artifact]], outputs: list[str], env: list[tuple[str, str]]
) -> None:
    other = replace(ACTION, inputs=tuple(inputs), outputs=tuple(outputs), env=tuple(env))

    assert key(other) == key(ACTION)


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(PATHS, st.binary(max_size=2).map(Digest.of), max_size=5))
def test_the_input_root_is_the_tree_of_all_that_lies_in_it(files: Mapping[str, Digest]) -> None:
    """The same as merging flat entries, which is done elsewhere in another way."""
    if any(one.startswith(f"{other}/") for one in files for other in files):
        return
    expected = Tree.of({f"build/{path}": File(digest) for path, digest in files.items()}).root

    assert input_root({path: FileContent(digest) for path, digest in files.items()}, None) == (
        expected if files else Digest.of(Directory(directories=(("build", EMPTY),)).encode())
    )


def test_a_tree_among_the_inputs_is_as_good_as_its_files() -> None:
    tree = Tree.of({"x/y": File(EMPTY)})
    whole = input_root({"t": TreeContent(tree.digest, tree.root)}, None)

    assert whole == input_root({"t/x/y": FileContent(EMPTY)}, None)


def test_inputs_take_the_place_of_the_root_s_working_folder() -> None:
    bare = Directory(ROOT.files, (("usr", Digest.of(b"usr")),), ROOT.symlinks)

    assert input_root({"a": FileContent(EMPTY)}, ROOT) == input_root({"a": FileContent(EMPTY)}, bare)


@pytest.mark.parametrize("other", [FileContent(EMPTY), TreeContent(EMPTY, EMPTY)])
def test_an_input_cannot_lie_inside_another(other: Content) -> None:
    with pytest.raises(ValueError, match="Input `a`"):
        input_root({"a": other, "a/b": FileContent(EMPTY)}, None)


def test_only_a_declared_digest_makes_the_output_fixed() -> None:
    assert (ACTION.is_fixed_output, replace(ACTION, fixed_output=EMPTY).is_fixed_output) == (False, True)


@pytest.mark.parametrize(("argv", "expected"), [((TOOL, "fetch", "1", "{}"), "fetch"), (("sh",), ""), ((), "")])
def test_knows_its_tool(argv: tuple[str, ...], expected: str) -> None:
    assert Action(argv=argv).tool == expected


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Action(argv=("forge-tool", "pull", "1", "{}")), True),
        (Action(argv=("forge-tool", "fetch", "1", "{}"), fixed_output=EMPTY), True),
        (Action(argv=("forge-tool", "layer", "1", "{}")), False),
        (Action(argv=("pull",)), False),
    ],
    ids=["pull", "fetch", "layer", "command"],
)
def test_what_may_use_the_network_is_told(action: Action, expected: bool) -> None:
    assert expected == action.is_download
