"""What a command costs that has nothing to do: `forge --help` and a second `forge build //tiny_gpt2/...`.

Rounds of runs that alternate, each beside an empty Python, so that a busy machine slows all of them alike; then a trace
of the files that each opens and the programs that it starts. benchmarks/README.md has figures.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = os.path.join(ROOT, ".forge", "venv", "bin", "python")
FORGEW = os.path.join(ROOT, "forgew")
EMPTY = "python3 -I -S -c pass"
COMMANDS = {
    EMPTY: [PYTHON, "-I", "-S", "-c", "pass"],
    "forge --help": [FORGEW, "--help"],
    "the same without forgew": [PYTHON, "-I", "-c", "from forge.cli.main import main; main()", "--help"],
    "forge build //tiny_gpt2/...": [FORGEW, "build", "//tiny_gpt2/..."],
}
LIMITS = {"forge --help": 0.150, "forge build //tiny_gpt2/...": 0.300}
"""Seconds of CPU that DESIGN.md's users were promised."""
HEAVY = ("pydantic", "pydantic_core", "rich", "jinja2", "httpx2", "httpcore2", "asyncio")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took."""

    cpu: float
    wall: float


def run(argv: Sequence[str]) -> Cost:
    """Run once; CPU is that of the process and all its children."""
    begun = time.perf_counter()
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(argv)} ended with {process.returncode}")
    return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - begun)


def measure(rounds: int) -> dict[str, list[Cost]]:
    """Run all commands in turn, `rounds` times, after one round that does not count."""
    costs: dict[str, list[Cost]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, argv in COMMANDS.items():
            cost = run(argv)
            if number:
                costs[name].append(cost)
    return costs


def show(costs: dict[str, list[Cost]]) -> bool:
    """Print medians and the median of the rounds' ratios; True when all are within LIMITS."""
    fine = True
    print(f"{'':<30} {'CPU ms':>8} {'wall ms':>8} {'CPU, ratio':>11}")
    for name, each in costs.items():
        cpu = statistics.median(cost.cpu for cost in each)
        wall = statistics.median(cost.wall for cost in each)
        ratio = statistics.median(a.cpu / b.cpu for a, b in zip(each, costs[EMPTY], strict=True))
        over = cpu > LIMITS.get(name, cpu)
        fine = fine and not over
        print(f"{name:<30} {cpu * 1e3:>8.1f} {wall * 1e3:>8.1f} {ratio:>11.1f}{'  over the limit' if over else ''}")
    return fine


def trace(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Run under strace; the files that were opened and the programs that were started."""
    with tempfile.NamedTemporaryFile("r", suffix=".trace") as log:
        subprocess.run(
            ["strace", "-f", "-qq", "-z", "-e", "trace=open,openat,execve", "-o", log.name, *argv],
            cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        lines = log.read().splitlines()
    found = [match.groups() for line in lines if (match := re.search(r'(open|openat|execve)\([^"]*"([^"]+)"', line))]
    return [path for call, path in found if call != "execve"], [path for call, path in found if call == "execve"]


def imported(argv: Sequence[str]) -> list[str]:
    """Run with -X importtime; the modules that were imported, as paths. For machines without strace."""
    command = [PYTHON, "-X", "importtime", "-I", "-c", "from forge.cli.main import main; main()", *argv[1:]]
    talk = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stderr
    names = [line.rpartition("|")[2].strip() for line in talk.splitlines() if line.startswith("import time:")]
    return ["/" + name.replace(".", "/") + "/" for name in names]


def inspect() -> bool:
    """Print what each command opens and starts; True when nothing heavy is among it."""
    fine = True
    for name in LIMITS:
        if shutil.which("strace"):
            files, programs = trace(COMMANDS[name])
        else:
            files, programs = imported(COMMANDS[name]), ["(no strace here: imports only)"]
        heavy = [path for path in files if any(f"/{part}/" in path for part in HEAVY)]
        fine = fine and not heavy
        print(f"\n{name}: {len(files)} files opened, programs started: {', '.join(map(os.path.basename, programs))}")
        print(f"    of {', '.join(HEAVY)}: {', '.join(heavy) or 'none'}")
    return fine


def main() -> None:
    """Measure, then trace; exit 1 where something is over its limit or heavy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    subprocess.run([FORGEW, "build", "//tiny_gpt2/..."], cwd=ROOT, check=True)
    quick = show(measure(rounds))
    light = inspect()
    sys.exit(not (quick and light))


if __name__ == "__main__":
    main()
