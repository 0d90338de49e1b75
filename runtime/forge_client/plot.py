"""Plots as SVG, in the colours of the page that they stand in."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from forge_client.stat import Histogram

__all__ = ["Series", "bars", "lines"]

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 44
TICKS = 5


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot."""

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str]
    """What each point is, for who rests on it."""


def lines(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> str:
    """Draw lines, both axes from zero."""
    right = _ceiling(max((x for each in series for x, _ in each.points), default=1.0))
    top = _ceiling(max((y for each in series for _, y in each.points), default=1.0))
    parts = [_axes(x_label, y_label, [(_across(x, right), _number(x)) for x in _ticks(right)], top)]
    for number, each in enumerate(series):
        places = [(_across(x, right), _up(y, top)) for x, y in each.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="s{number % 3}" points="{path}"/>')
        for (x, y), label in zip(places, each.labels, strict=True):
            tip = f"<title>{html.escape(label)}</title>"
            parts.append(f'<circle class="s{number % 3}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">{tip}</circle>')
        if len(series) > 1:
            place = WIDTH - RIGHT - 60 * (len(series) - number)
            name = f'<text x="{place + 14}" y="20">{html.escape(each.name)}</text>'
            parts.append(f'<rect class="s{number % 3}" x="{place}" y="11" width="10" height="10"/>{name}')
    return _svg(title, parts)


def bars(title: str, x_label: str, y_label: str, histogram: Histogram) -> str:
    """Draw a histogram; its bins are equally wide, whatever they span."""
    top = _ceiling(max(histogram.counts))
    count = len(histogram.counts)
    width = (WIDTH - LEFT - RIGHT) / count
    step = max(1, math.ceil(count / TICKS))
    marks = [(LEFT + place * width, _number(histogram.edges[place])) for place in range(0, count + 1, step)]
    parts = [_axes(x_label, y_label, marks, top)]
    for place, number in enumerate(histogram.counts):
        span = f"{_number(histogram.edges[place])} to {_number(histogram.edges[place + 1])} ms: {number}"
        y = _up(number, top)
        shape = f'x="{LEFT + place * width + 0.5:.1f}" y="{y:.1f}" width="{max(1.0, width - 1):.1f}"'
        height = HEIGHT - BOTTOM - y
        parts.append(f'<rect class="s0" {shape} height="{height:.1f}"><title>{html.escape(span)}</title></rect>')
    return _svg(title, parts)


def _svg(title: str, parts: Sequence[str]) -> str:
    name = html.escape(title)
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">'
    return f'{head}<text class="title" x="{LEFT}" y="20">{name}</text>{"".join(parts)}</svg>'


def _axes(x_label: str, y_label: str, marks: Sequence[tuple[float, str]], top: float) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in _ticks(top):
        y = _up(value, top)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{_number(value)}</text>')
    for x, text in marks:
        parts.append(f'<text class="middle" x="{x:.1f}" y="{bottom + 16}">{text}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text class="middle" x="{middle:.0f}" y="{HEIGHT - 8}">{html.escape(x_label)}</text>')
    turn = f'transform="rotate(-90 14 {(TOP + bottom) / 2:.0f})"'
    parts.append(f'<text class="middle" x="14" y="{(TOP + bottom) / 2:.0f}" {turn}>{html.escape(y_label)}</text>')
    return "".join(parts)


def _across(value: float, right: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * value / right


def _up(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def _ceiling(value: float) -> float:
    """Find the end of an axis: a whole number of round steps."""
    if value <= 0:
        return 1.0
    step = 10.0 ** math.floor(math.log10(value / TICKS))
    for factor in (1, 2, 5, 10):
        if step * factor * TICKS >= value:
            return step * factor * TICKS
    return step * 10 * TICKS


def _ticks(end: float) -> list[float]:
    return [end * number / TICKS for number in range(TICKS + 1)]


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
