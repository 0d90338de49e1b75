"""The command line: names of commands, and errors to exit codes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from types import FrameType

import click

from forge import __version__
from forge.core.errors import ActionFailed, ForgeError, Interrupted

COMMANDS = {
    "init": "Make a workspace that builds",
    "build": "Build targets",
    "test": "Build and run test targets",
    "run": "Serve an image here, from its own file system",
    "shell": "Work in the environment of a target",
    "bench": "Put an image or a server under load, and tell how it does",
    "query": "Ask about the graph of targets",
    "graph": "Draw targets as DOT, Mermaid or an HTML page",
    "explain": "Say what made each action of a target run",
    "lock": "Resolve requirements into lock files",
    "fetch": "Download everything that targets need",
    "vendor": "Copy everything that targets need into a folder, for a machine without a network",
    "spec": "Write down all that a target is made of, to compare machines",
    "push": "Push images to a registry",
    "verify": "Check that images in a registry are signed by a key",
    "load": "Load an image into the local Docker engine",
    "image": "Export and inspect images",
    "export": "Write a compose file, Kubernetes manifests or a bake file from targets",
    "info": "Show how forge is set up, or a target's outputs",
    "doctor": "Check what a build needs on this machine",
    "completion": "Write the script by which a shell completes commands, options and labels",
    "clean": "Remove forge-out, or everything that is cached",
    "version": "Show forge's version",
    "help": "Show help of a command",
}

EPILOG = """\b
Examples:
  forge build //tiny_gpt2:cpu_llm_trf     build one image
  forge build //...                       build everything
  forge test //...                        boot the images and talk to them
  forge run //tiny_gpt2:cpu_llm_trf --port 3000

Labels: //package:name, //package (= //package:package), //package/..., //..., -//x to exclude.
Exit codes: 0 done, 1 build failed, 2 bad command line, 3 tests failed, 4 no tests found,
7 query failed, 8 interrupted, 9 locked by another build, 36 this machine, 37 a bug in forge."""


class Commands(click.Group):
    """Loads a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"forge.cli.command.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if close:
                raise click.UsageError(f"{error.message}\n  hint: Did you mean `{close[0]}`?", ctx) from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="forge %(version)s")
def forge() -> None:
    """Build OCI images of machine-learning services: one model, many accelerators.

    Hashes every input, builds only what changed, and needs no daemon.
    """


def run(argv: list[str]) -> int:
    """Run a command line; its exit code. A user's mistake never shows a traceback, a bug always does."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    if "_FORGE_COMPLETE" in os.environ:  # a shell asks, by a script of `forge completion`
        from forge.cli.completion import answer

        return answer(forge, COMMANDS, os.environ)
    try:
        result = forge.main(argv, prog_name="forge", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort, Interrupted):
        print("forge: interrupted", file=sys.stderr)
        return 8
    except ForgeError as error:
        show(error)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception:
        traceback.print_exc()
        print("error: This is a bug in forge; please report it with the lines above", file=sys.stderr)
        return 37


def show(error: ForgeError) -> None:
    """Print an error: each fault with its place and hint, and what a failed action printed."""
    if isinstance(error, ActionFailed) and error.log:
        print(error.log, file=sys.stderr)
    for fault in error.faults:
        print(f"error: {fault}", file=sys.stderr)
    if error.exit_code == 37:
        traceback.print_exc()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
