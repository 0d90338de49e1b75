"""What a shell is told when somebody presses TAB: click's completion, with labels, and no errors.

click asks the commands' own parameters, so that options are those that there are. To know them takes none of what the
commands do with them: the parts of forge that do the work are not imported meanwhile (`absent`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, suppress
from pathlib import Path

import click
from click.shell_completion import BashComplete as ClickBash
from click.shell_completion import CompletionItem, ShellComplete, split_arg_string
from click.shell_completion import FishComplete as ClickFish
from click.shell_completion import ZshComplete as ClickZsh

from forge.cli.absence import absent
from forge.cli.label_completion import Going, complete_labels
from forge.cli.label_scan import LabelScan

VARIABLE = "_FORGE_COMPLETE"
"""Set by the scripts that `forge completion` writes."""
SHELLS = ("bash", "zsh", "fish")
LABELS = frozenset(("patterns", "label", "labels", "expression", "target"))
"""An argument that is called so takes labels, whatever its command."""
_REAL = (
    "forge.cli.surroundings",
    "forge.cli.app",
    "forge.cli.command",
    "forge.cli.options",
    "forge.core.errors",
    "forge.core.label",
)
"""What commands need, to say which options they have."""


def answer(group: click.Group, helps: Mapping[str, str], environ: Mapping[str, str]) -> int:
    """Print what the shell asks for by `VARIABLE`; 0 also where there is nothing to say, and never an error."""
    shell, _, instruction = environ[VARIABLE].partition("_")
    kinds: dict[str, type[_Completion]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}
    if shell in kinds and instruction == "complete":
        completion = kinds[shell](_Prepared(group, helps), {}, "forge", VARIABLE)
        with open(os.devnull, "w") as nothing, redirect_stderr(nothing), suppress(Exception), absent(_REAL):
            sys.stdout.write("".join(f"{line}\n" for line in completion.complete().splitlines()))
    return 0


def script(shell: str) -> str:
    """Read the script for a shell."""
    return (Path(__file__).parent / "shell" / f"completion.{shell}").read_text(encoding="utf-8")


class _Completion(ShellComplete):
    """Gives back the whole word that the shell has, also after `--option=`."""

    cli: click.Group

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        head = ""
        if incomplete.startswith("--") and "=" in incomplete:
            head = incomplete[: incomplete.index("=") + 1]
        named = next((each for each in args if not each.startswith("-")), None)
        if named is not None and named not in self.cli.list_commands(click.Context(self.cli)):
            return []
        items = super().get_completions(args, incomplete)
        for item in items:
            if item.type in ("plain", "part"):
                item.value = head + item.value
        return items


class Bash(_Completion, ClickBash):
    """bash breaks words at `:`, `=` and `@` too: its script gives the line to the cursor, and mends the answers."""

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_LINE")
        if line is None:
            return super().get_completion_args()
        words = split_arg_string(line)
        return (words[1:], "") if line[-1:].isspace() else (words[1:-1], words[-1])


class Zsh(_Completion, ClickZsh):
    """zsh has whole words."""


class Fish(_Completion, ClickFish):
    """fish has whole words, too."""


class _Prepared(click.Group):
    """The commands, with what can be known of their parameters' values."""

    def __init__(self, group: click.Group, helps: Mapping[str, str]) -> None:
        super().__init__(group.name, params=group.params, context_settings=group.context_settings)
        self._group, self._helps = group, helps

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._group.list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = self._group.get_command(ctx, cmd_name)
        if command is not None:
            _prepare(command)
            if cmd_name == "help":
                command.params[0].type = _Words(lambda text: [(each, True) for each in self._helps])
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        names = [name for name in self._helps if name.startswith(incomplete)]
        found: list[CompletionItem[str]] = [CompletionItem(name, help=self._helps[name]) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def _prepare(command: click.Command) -> None:
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _prepare(each)
    for param in command.params:
        if isinstance(param, click.Argument) and param.name in LABELS:
            param.type = _Words(_labels)
        elif param.name == "topic":
            param.type = _Words(lambda text: [*((word, True) for word in ("platforms", "sources")), *_labels(text)])
        elif param.name == "override":
            param.type = _Words(_pair)
        elif param.name == "config":
            param.type = _Words(lambda text: [(each, True) for each in _scan().configurations])


class _Words(click.ParamType[str]):
    """A parameter whose values are looked up when somebody asks how one goes on."""

    name = "words"

    def __init__(self, words: Callable[[str], Iterable[Going]]) -> None:
        self._words = words

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        found = [(each, is_whole) for each, is_whole in self._words(incomplete) if each.startswith(incomplete)]
        return [CompletionItem(each, "plain" if is_whole else "part") for each, is_whole in found]


def _labels(text: str) -> list[Going]:
    return complete_labels(_scan(), Path.cwd(), text)


def _pair(text: str) -> list[Going]:
    """Go on with `//A=//B`."""
    left, equals, right = text.partition("=")
    found = complete_labels(_scan(), Path.cwd(), right if equals else left, patterns=False)
    if equals:
        return [(f"{left}={each}", is_whole) for each, is_whole in found]
    return [(f"{each}=" if is_whole else each, False) for each, is_whole in found]


def _scan() -> LabelScan:
    """Look at the workspace; an error, which nobody sees, where there is none."""
    cwd = Path.cwd()
    root = next(folder for folder in (cwd, *cwd.parents) if (folder / "WORKSPACE.toml").is_file())
    package = Path(__file__).resolve().parents[1]
    return LabelScan(root, package / "builtin" if (package / "builtin").is_dir() else package.parent)
