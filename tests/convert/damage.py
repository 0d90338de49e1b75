"""Damages the weights of a GGUF file, then measures it and holds it to //tiny_gpt2:gguf's bound; in a sandbox."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

from rules.actions.gguf_header import read_header


def main() -> None:
    """Zero a few rows of one tensor: the header stays whole."""
    original, model, _, out = sys.argv[1:]  # the third is the report of the conversion
    damaged = Path(out) / "model.gguf"
    damaged.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(model) / "model.gguf", damaged)
    tensor = read_header(damaged).tensors["blk.1.ffn_down.weight"]
    with damaged.open("r+b") as file:
        file.seek(tensor.start)
        file.write(bytes(tensor.size // 8))
    run("fidelity_gguf", "--original", original, "--converted", out, "--precision", "f16",
        "--prompts", "targets/check/rules/actions/prompts.json", "--out", f"{out}/report.json")  # fmt: skip
    run("gate", "--report", f"{out}/report.json", "--max-divergence", "0.002", "--out", f"{out}/verdict")


def run(script: str, *argv: str) -> None:
    """Run a script of the conversions."""
    sys.argv = [script, *argv]
    runpy.run_module(f"rules.actions.{script}", run_name="__main__")


if __name__ == "__main__":
    main()
