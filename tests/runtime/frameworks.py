"""Puts the fake frameworks where `import` finds them, for a while."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

FOLDER = Path(__file__).parent / "fake_frameworks"


@contextlib.contextmanager
def fake_frameworks(*names: str) -> Iterator[None]:
    """Import anew what is imported inside; leave modules and environment as they were."""
    environ, modules = dict(os.environ), dict(sys.modules)
    for name in [each for each in sys.modules if each.partition(".")[0] in names]:
        del sys.modules[name]
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))
        for name in [each for each in sys.modules if each.partition(".")[0] in names]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in modules.items() if name.partition(".")[0] in names})
        os.environ.clear()
        os.environ.update(environ)


def write_model(folder: Path, answers: Mapping[str, str], **config: object) -> Path:
    """Write what the fakes read of a model."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "answers.json").write_text(json.dumps(dict(answers)))
    return folder
