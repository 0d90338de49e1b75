"""`forge test`."""

from __future__ import annotations

from typing import Any

import click

from forge.cli.building import build_targets
from forge.cli.options import CONTEXT, build_options


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge test //...
  forge test //tiny_gpt2:smoke --runs_per_test=5 --test_output=all
  forge test //tiny_gpt2:smoke --docker
  forge test //... --keep_going --flaky_test_attempts=3 --junit=junit.xml""",
)
@click.argument("patterns", nargs=-1, required=True)
@click.option(
    "--test-output",
    type=click.Choice(["all", "errors", "summary"]),
    default=None,
    help="Whose log to print: of every test that ran, of those that failed [default], of none.",
)
@click.option("--runs-per-test", type=click.IntRange(1, 1000), default=None, help="Run each as often [default: 1].")
@click.option(
    "--flaky-test-attempts",
    type=click.IntRange(1, 10),
    default=None,
    help="Try a test that fails as often; one that passes then is FLAKY [default: 1].",
)
@click.option("--junit", type=click.Path(dir_okay=False), default=None, help="Write verdicts as JUnit XML, for CI.")
@click.option(
    "--docker/--nodocker",
    default=None,
    help="Boot images as containers of a Docker engine, not their file systems here.",
)
@build_options
def command(patterns: tuple[str, ...], **flags: Any) -> int:
    """Build test targets and run them; a result is cached until an input changes."""
    return build_targets(patterns, flags, tests=True)
