"""Passes a model on when its report is within bounds; runs in a sandbox.

What it makes is an empty folder, laid under the model: the bytes stay, and nothing goes on without it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> None:
    """Compare, say the figures, end with 1 beyond the bound."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--max-divergence", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True, help="empty folder to make")
    args = parser.parse_args()
    report = json.loads(args.report.read_bytes())
    largest, mean = report["logits"]["largest_difference"], report["logits"]["mean_difference"]
    shares = ", ".join(f"{name.replace('_', ' ')} {share}" for name, share in sorted(report["agreement"].items()))
    figures = f"mean {_word(mean)}; agreement: {shares}"
    if largest is None or largest > args.max_divergence:
        sys.stderr.write(
            f"error: The largest logit difference is {_word(largest)}, "
            f"`max_divergence` allows {args.max_divergence} ({figures})\n"
        )
        sys.exit(1)
    args.out.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"largest {_word(largest)} of {args.max_divergence}; {figures}\n")


def _word(value: float | None) -> str:
    return "not finite" if value is None else str(value)


if __name__ == "__main__":
    main()
