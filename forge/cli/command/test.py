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
  forge test //tiny_gpt2:smoke""",
)
@click.argument("patterns", nargs=-1, required=True)
@build_options
def command(patterns: tuple[str, ...], **flags: Any) -> int:
    """Build test targets and run them; a result is cached until an input changes."""
    return build_targets(patterns, flags, tests=True)
