"""The samples that a target's own loader gives, for calibration and for comparison."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rules.actions.fault import BadFile

Feed = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Loader:
    """A Python file of the user's, and what it is called with."""

    file: Path
    function: str
    """Called as `function(dataset, batch_size, samples)`; gives batches: an array, or arrays by input."""
    dataset: str
    batch_size: int
    samples: int

    def feeds(self, inputs: Sequence[str]) -> Iterator[Feed]:
        """Give the batches as feeds for the model's inputs, no more than asked for; BadFile when they do not fit."""
        spec = importlib.util.spec_from_file_location("calibration_loader", self.file)
        if spec is None or spec.loader is None:
            raise BadFile(f"`{self.file.name}` is no Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        function = getattr(module, self.function, None)
        if function is None:
            raise BadFile(f"The loader `{self.file.name}` has no `{self.function}`")
        batches = itertools.islice(function(self.dataset, self.batch_size, self.samples), self.samples)
        empty = True
        for batch in batches:
            empty = False
            feed = batch if isinstance(batch, dict) else {inputs[0]: batch}
            if set(feed) != set(inputs):
                raise BadFile(f"The loader gives [{', '.join(map(str, feed))}], the model takes [{', '.join(inputs)}]")
            yield {name: np.asarray(value) for name, value in feed.items()}
        if empty:
            raise BadFile(f"The loader `{self.file.name}` gives no samples for `{self.dataset}`")


def add_arguments(parser: Any) -> None:
    """Add a loader's arguments to a script's."""
    parser.add_argument("--loader", type=Path, required=True)
    parser.add_argument("--function", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True, help="batches to take")


def loader_of(args: Any) -> Loader:
    """Make a loader of a script's arguments."""
    return Loader(args.loader, args.function, args.dataset, args.batch_size, args.samples)
