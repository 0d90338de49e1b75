"""What the server costs and what it survives, against a backend that takes 20 ms. benchmarks/README.md has figures."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks import serving_fault, serving_predecessor, serving_rate
from benchmarks.serving_figure import Figure, as_json, as_table

DESCRIPTORS = 4096


def main() -> int:
    """Measure the parts that are named, or all; 1 where a promise is not kept."""
    options = _options()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard < DESCRIPTORS else max(soft, DESCRIPTORS), hard))
    parts = _parts(options.seconds, options.soak)
    found: dict[str, Sequence[Figure]] = {}
    for name in options.part or parts:
        found[name] = parts[name]()
        if not options.json:
            print(as_table(name, found[name]), flush=True)
    if options.json:
        print(as_json(found))
    return 0 if all(figure.is_met for figures in found.values() for figure in figures) else 1


def _parts(seconds: float, soak: float) -> Mapping[str, Callable[[], Sequence[Figure]]]:
    return {
        "overhead": lambda: serving_rate.overhead(seconds),
        "steady": lambda: serving_rate.steady(seconds),
        "batching": lambda: serving_rate.batching(seconds),
        "redis": lambda: serving_rate.redis(seconds),
        "held": serving_fault.held,
        "slow": lambda: serving_fault.slow(seconds),
        "drain": serving_fault.drain,
        "soak": lambda: serving_fault.soak(soak),
        "predecessor": lambda: serving_predecessor.fake(seconds),
        "predecessor-gpt2": lambda: serving_predecessor.gpt2(seconds),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*_parts(0, 0), []], help="what to measure; all of it")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--soak", type=float, default=60, metavar="S", help="of the soak; the promise is for 1800")
    parser.add_argument("--json", action="store_true", help="for a program")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
