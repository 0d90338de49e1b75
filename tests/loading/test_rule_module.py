"""Rules of a workspace's own: Python files in its folder `rules`, found and checked as the built-in ones are."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from forge.core.errors import LoadError
from forge.loading.reader import Reader
from forge.loading.rule_module import load_rules
from tests.fakes.workspace import BUILTIN_RULES, MODEL, FakeWorkspace

GREET = """
from __future__ import annotations

from forge.api import Attributes, Context, Provider, rule


class Attrs(Attributes):
    word: str = "hello"


@rule("greet", Attrs)
def analyze(context: Context, attrs: Attrs) -> Provider:
    return Provider({"word": context.write("word", attrs.word)})
"""


def test_a_workspace_s_own_rule_is_found(workspace: FakeWorkspace) -> None:
    workspace.write("rules/greet.py", GREET)
    workspace.build("[x]\nrule = 'greet'\nword = 'hi'\n")

    assert '"hi"' in workspace.action("//pkg:x", "Write").argv[-1]


def test_an_edited_rule_is_read_anew(workspace: FakeWorkspace) -> None:
    """Also one of the same size, in the same second: no bytecode is believed, and none is left behind."""
    file = workspace.write("rules/greet.py", GREET)
    workspace.build("[x]\nrule = 'greet'\n")
    before = workspace.action("//pkg:x", "Write").argv[-1]
    file.write_text(file.read_text().replace("hello", "howdy"))

    assert (before, workspace.action("//pkg:x", "Write").argv[-1]) == ('{"text":"hello"}', '{"text":"howdy"}')
    assert [path.name for path in (workspace.root / "rules").iterdir()] == ["greet.py"]


def test_private_modules_and_other_files_are_no_rules(workspace: FakeWorkspace) -> None:
    workspace.write("rules/_draft.py", "raise SystemExit")
    workspace.write("rules/README.md", "words")

    assert sorted(workspace.rules) == [
        "client", "command", "compose", "convert", "dockerfile", "environment", "image", "index", "model", "test",
        "wheel",
    ]  # fmt: skip


def test_the_built_in_folder_by_another_name_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "rules").symlink_to(BUILTIN_RULES)

    assert "command" in load_rules([BUILTIN_RULES, tmp_path / "rules", tmp_path / "none"], Reader())


def test_a_name_already_taken_names_both_files(workspace: FakeWorkspace) -> None:
    workspace.write("rules/greet.py", GREET.replace('"greet"', '"command"'))
    workspace.build(MODEL)
    message = workspace.error("//pkg:all")

    assert message.startswith(f"{workspace.root}/rules/greet.py: Rule `command` is already declared in {BUILTIN_RULES}")


def test_a_rule_of_two_names_in_its_module_is_one_rule(workspace: FakeWorkspace) -> None:
    workspace.write("rules/greet.py", GREET + "\nalias = analyze\n")

    assert "greet" in workspace.rules


def test_a_rule_imported_from_elsewhere_is_not_the_module_s(workspace: FakeWorkspace, tmp_path: Path) -> None:
    workspace.write("rules/greet.py", GREET)
    module = workspace.rules["greet"].analyze.__module__
    workspace.write(
        "rules/other.py",
        f"from {module} import analyze\nclass Odd:\n    def __getattr__(self, name): return 3\nodd = Odd()\n",
    )

    assert workspace.rules["greet"].place == f"{workspace.root}/rules/greet.py"


def test_slotted_dataclasses_and_forward_references_resolve(workspace: FakeWorkspace) -> None:
    """Annotations are text under `from __future__ import annotations`; both look them up in the module."""
    workspace.write(
        "rules/nested.py",
        """
        from __future__ import annotations

        from dataclasses import dataclass

        from forge.api import Annotated, Attributes, Context, ForExecution, Provider, TargetLabel, rule


        class Attrs(Attributes):
            inner: Inner
            pair: Pair
            tool: Annotated[Later | None, ForExecution()] = None


        class Inner(Attributes):
            deps: dict[str, TargetLabel]


        @dataclass(frozen=True, slots=True)
        class Pair:
            left: TargetLabel
            right: TargetLabel | None = None


        Later = TargetLabel


        @rule("nested", Attrs)
        def analyze(context: Context, attrs: Attrs) -> Provider:
            return Provider()
        """,
    )
    workspace.build(MODEL)
    workspace.build(
        "[x]\nrule = 'nested'\ninner = { deps = { a = '//pkg:weights' } }\npair = { left = '//pkg:checkpoint' }\n"
        "tool = '//toolchains:busybox'\n",
        "other",
    )

    assert list(map(str, workspace.target("//other:x").dependencies())) == [
        "//pkg:checkpoint", "//pkg:weights", "//toolchains:busybox@amd64",
    ]  # fmt: skip


def test_nested_attributes_have_hints_of_their_own(workspace: FakeWorkspace) -> None:
    workspace.write(
        "rules/nested.py",
        GREET.replace("class Attrs", "class Inner(Attributes):\n    width: int = 1\n\n\nclass Attrs").replace(
            'word: str = "hello"', "inner: Inner = Inner()\n    word: str | None = None"
        ),
    )
    workspace.build("[x]\nrule = 'greet'\n\n[x.inner]\nwidht = 3\n\n[y]\nrule = 'greet'\nword = { widht = 3 }\n")

    assert workspace.error("//pkg:x") == (
        "targets/pkg/BUILD.toml:5: Unknown attribute `widht` of `greet` target `//pkg:x`\n"
        "  hint: Did you mean `width`?\n"
        "targets/pkg/BUILD.toml:9: `word` of `greet` target `//pkg:y`: must be text"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\nx = = 2\n", ":2: SyntaxError: invalid syntax"),
        ("x = 1\n\nraise ValueError('why')\n", ":3: ValueError: why"),
        ("def f():\n    raise KeyError('k')\n\nf()\n", ":2: KeyError: 'k'"),
        ("import no_such_module_anywhere\n", ":1: ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("import sys\n\nsys.exit(3)\n", ":3: SystemExit: 3"),
        ("x = '\0'\n", ": SyntaxError: source code string cannot contain null bytes"),
    ],
)
def test_an_error_in_a_module_names_its_line(workspace: FakeWorkspace, text: str, expected: str) -> None:
    workspace.write("rules/bad.py", text)
    before = set(sys.modules)

    with pytest.raises(LoadError) as caught:
        _ = workspace.rules

    assert (
        str(caught.value)
        .replace(":1: SyntaxError: source", ": SyntaxError: source")
        .startswith(f"{workspace.root}/rules/bad.py{expected}")
    )
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GREET.replace("Attrs)\ndef", "dict)\ndef"), "Attributes of rule `greet` must be a class of `Attributes`"),
        (GREET.replace("word: str", "word: Missing"), "Attributes of rule `greet`: name 'Missing' is not defined"),
        (
            GREET.replace("word: str", "name: str"),
            "Rule `greet` cannot have the attributes [name]: every target has them",
        ),
        (
            GREET.replace("Attrs)\ndef", "Attrs, platforms_from='words')\ndef"),
            "Rule `greet` has no attribute `words` to take platforms from\n  hint: Did you mean `word`?",
        ),
    ],
)
def test_a_rule_that_cannot_work_is_refused(workspace: FakeWorkspace, text: str, expected: str) -> None:
    workspace.write("rules/greet.py", text)

    with pytest.raises(LoadError) as caught:
        _ = workspace.rules

    assert str(caught.value) == f"{workspace.root}/rules/greet.py: {expected}"


def test_a_rule_that_returns_nothing_is_an_error(workspace: FakeWorkspace) -> None:
    workspace.write(
        "rules/greet.py", GREET.replace('return Provider({"word": context.write("word", attrs.word)})', "pass")
    )
    workspace.build("[x]\nrule = 'greet'\n")

    assert workspace.error("//pkg:x", analyze=True).startswith(
        "targets/pkg/BUILD.toml:1: Rule `greet` gives no provider for `//pkg:x`"
    )


def test_rules_are_named_by_their_place(tmp_path: Path) -> None:
    """Two copies of one module are two modules."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        shutil.copy(BUILTIN_RULES / "model.py", tmp_path / name / "model.py")
    first, second = (load_rules([tmp_path / name], Reader())["model"] for name in ("one", "other"))

    assert first.analyze.__module__ != second.analyze.__module__
