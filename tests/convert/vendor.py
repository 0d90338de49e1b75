"""Runs llama.cpp's own converter out of the source distribution; in a sandbox, for comparison."""

from __future__ import annotations

import importlib
import runpy
import sys
import tarfile
from pathlib import Path


def main() -> None:
    """Unpack, tell the converter which pre-tokenizer it is, run it."""
    sdist, model, precision, out = sys.argv[1:]
    with tarfile.open(sdist) as archive:
        archive.extractall("/tmp/sdist")
    vendor = next(Path("/tmp/sdist").glob("*/vendor/llama.cpp"))
    sys.path[:0] = [str(vendor), str(vendor / "gguf-py")]
    base = importlib.import_module("conversion.base")
    # It knows a pre-tokenizer by what it makes of a text, and no tokenizer but those that it was shown.
    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    Path(out).mkdir(parents=True, exist_ok=True)
    sys.argv = ["convert", model, "--outfile", f"{out}/model.gguf", "--outtype", precision]
    runpy.run_path(str(vendor / "convert_hf_to_gguf.py"), run_name="__main__")


main()
