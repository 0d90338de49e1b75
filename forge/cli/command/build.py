"""`forge build`."""

from __future__ import annotations

from typing import Any

import click

from forge.cli.building import build_targets
from forge.cli.options import CONTEXT, build_options


@click.command(
    context_settings={**CONTEXT, "ignore_unknown_options": False},
    epilog="""\b
Examples:
  forge build //tiny_gpt2:cpu_llm_trf
  forge build //... -k
  forge build -- //... -//tiny_gpt2:smoke""",
)
@click.argument("patterns", nargs=-1, required=True)
@build_options
def command(patterns: tuple[str, ...], **flags: Any) -> int:
    """Build targets, and put links to what they come to under forge-out/."""
    return build_targets(patterns, flags, tests=False)
