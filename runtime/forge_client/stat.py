"""Figures out of samples: exact percentiles, rates, errors by kind."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from forge_client.sender import Sample

__all__ = ["Distribution", "Histogram", "Summary", "distribution", "histogram", "percentile", "summarize"]

BINS = 40
_LOGARITHMIC = 20.0
"""How many times the least value the greatest must be for bins that grow."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Milliseconds."""

    count: int
    mean: float
    minimum: float
    p50: float
    p90: float
    p99: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values lie between one edge and the next."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to."""

    seconds: float
    """From the start to the last answer."""
    requests: int
    answered: int
    rejected: int
    """Refused with 429 by a server that cannot keep up."""
    failed: int
    """Everything else without a good answer."""
    retries: int
    errors: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    """The first message of each kind of error."""
    requests_per_second: float = 0.0
    items_per_second: float = 0.0
    tokens_per_second: float | None = None
    """Generated tokens; None where the server does not count them."""
    items: int = 0
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    tokens_estimated: bool = False
    """Tokens are counted as events of the stream."""
    latency_ms: Distribution | None = None
    first_token_ms: Distribution | None = None
    inter_token_ms: Distribution | None = None
    send_lag_ms: Distribution | None = None
    """Open loop: how late requests were sent, which is part of their latency."""
    histogram: Histogram | None = None
    """Of the latencies, in milliseconds."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """Take a percentile of sorted values: exact, and linear between the two that it falls between.

    That is the definition of `statistics.quantiles(method="inclusive")` and of numpy.
    """
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    if ordered[below] == ordered[above]:
        return ordered[below]
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def distribution(seconds: Iterable[float]) -> Distribution | None:
    """Describe times; None where there are none."""
    ordered = sorted(value * 1000 for value in seconds)
    if not ordered:
        return None
    return Distribution(
        count=len(ordered),
        mean=_round(math.fsum(ordered) / len(ordered)),
        minimum=_round(ordered[0]),
        p50=_round(percentile(ordered, 0.5)),
        p90=_round(percentile(ordered, 0.9)),
        p99=_round(percentile(ordered, 0.99)),
        maximum=_round(ordered[-1]),
    )


def histogram(values: Sequence[float], bins: int = BINS) -> Histogram | None:
    """Sort values into bins; they grow where the greatest is many times the least."""
    if not values:
        return None
    low, high = min(values), max(values)
    if low == high:
        return Histogram((low, high), (len(values),))
    grow = low > 0 and high / low > _LOGARITHMIC
    scale = math.log if grow else float
    start, width = scale(low), (scale(high) - scale(low)) / bins
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((scale(value) - start) / width))] += 1
    edges = [start + width * number for number in range(bins + 1)]
    return Histogram(tuple(_round(math.exp(edge) if grow else edge) for edge in edges), tuple(counts))


def summarize(samples: Sequence[Sample], seconds: float, *, paced: bool = False) -> Summary:
    """Add up a run; `paced` for an open loop."""
    good = [sample for sample in samples if sample.tally is not None and not sample.kind]
    tallies = [sample.tally for sample in good if sample.tally is not None]
    errors = Counter(sample.kind for sample in samples if sample.kind)
    examples: dict[str, str] = {}
    for sample in samples:
        if sample.kind:
            examples.setdefault(sample.kind, sample.text)
    latencies = [sample.ended - sample.due for sample in good]
    items = sum(tally.items for tally in tallies)
    generated = _total([tally.generated_tokens for tally in tallies])
    per_second = 1 / seconds if seconds > 0 else 0.0
    return Summary(
        seconds=_round(seconds),
        requests=len(samples),
        answered=len(good),
        rejected=errors["rejected"],
        failed=len(samples) - len(good) - errors["rejected"],
        retries=sum(sample.retries for sample in samples),
        errors=dict(sorted(errors.items())),
        examples=dict(sorted(examples.items())),
        requests_per_second=_round(len(good) * per_second),
        items_per_second=_round(items * per_second),
        tokens_per_second=None if generated is None else _round(generated * per_second),
        items=items,
        prompt_tokens=_total([tally.prompt_tokens for tally in tallies]),
        generated_tokens=generated,
        tokens_estimated=any(tally.estimated for tally in tallies),
        latency_ms=distribution(latencies),
        first_token_ms=distribution(sample.first - sample.due for sample in good if sample.first is not None),
        inter_token_ms=distribution(gap for sample in good for gap in sample.gaps),
        send_lag_ms=distribution(sample.sent - sample.due for sample in samples) if paced else None,
        histogram=histogram([latency * 1000 for latency in latencies]),
    )


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _round(value: float) -> float:
    """Keep what a clock can tell: a microsecond of a millisecond figure."""
    return round(value, 3)
