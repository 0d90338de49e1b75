"""Pictures of shapes, drawn in whole numbers: the same bytes on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SIZE = 32
COLOURS = ("red", "blue")
SHAPES = ("disc", "square", "triangle", "cross", "ring")
LABELS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)


def pictures(count: int, seed: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Draw `count` pictures, the classes in turn: (class, height x width x RGB)."""
    chance = random.Random(seed)
    for number in range(count):
        kind = number % len(LABELS)
        yield kind, draw(kind, chance)


def draw(kind: int, chance: random.Random) -> NDArray[np.uint8]:
    """Draw one picture of a class, in a place, a size and a shade of its own, on a dark noise."""
    colour, shape = divmod(kind, len(SHAPES))
    x, y, radius = 16 + chance.randint(-3, 3), 16 + chance.randint(-3, 3), chance.randint(8, 11)
    noise = [chance.randrange(48) for _ in range(SIZE * SIZE * 3)]
    picture = np.array(noise, dtype=np.uint8).reshape(SIZE, SIZE, 3)
    strong, weak = chance.randint(190, 255), chance.randint(0, 60)
    pixel = (strong, weak, weak) if colour == 0 else (weak, weak, strong)
    picture[mask(SHAPES[shape], x, y, radius)] = pixel
    return picture


def mask(shape: str, x: int, y: int, radius: int) -> NDArray[np.bool_]:
    """Say of each pixel whether it is inside."""
    down, right = np.mgrid[:SIZE, :SIZE].astype(np.int64)
    down, right = down - y, right - x
    squared, far = down**2 + right**2, np.maximum(abs(down), abs(right))
    inside: dict[str, NDArray[np.bool_]] = {
        "disc": squared <= radius**2,
        "square": far <= radius * 4 // 5,
        "triangle": (abs(down) <= radius) & (2 * abs(right) <= down + radius),
        "cross": (far <= radius) & (np.minimum(abs(down), abs(right)) <= 2),
        "ring": (squared <= radius**2) & (squared >= (radius - 4) ** 2),
    }
    return inside[shape]
