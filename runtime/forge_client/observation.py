"""What the server says of itself during a run: its power, and the time that its own steps took."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from forge_client.connection import Timeouts
from forge_client.error import RequestFailed
from forge_client.exposition import Figure, figures
from forge_client.server import Server

__all__ = ["Observation", "Power", "Step", "Watch"]

PATH, POWER = "/metrics", "/api/power"
WATTS = "forge_power_watts"
STEP = "forge_step_seconds"
INTERVAL_S = 0.5
_PATIENCE = Timeouts(connect=2.0, first_byte=5.0, total=5.0)


@dataclass(frozen=True, slots=True)
class Power:
    """Of all that the server's sensors cover."""

    mean_w: float | None = None
    joules_per_request: float | None = None
    samples: int = 0
    reason: str | None = None
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class Step:
    """One of the server's own steps, during the run."""

    count: int
    mean_ms: float


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen in one run."""

    power: Power
    steps: Mapping[str, Step] | None = None
    """None unless asked for, or where the server does not tell."""


@dataclass(slots=True)
class Watch:
    """Looks at the metrics when a run begins, at its end, and in between where there is a power to see."""

    server: Server
    steps: bool = False
    """Look at the steps too."""
    interval: float = INTERVAL_S
    _watts: list[tuple[float, float]] = field(default_factory=list)
    _reason: str | None = None
    _before: Sequence[Figure] = ()
    _task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Look for the first time."""
        self._before = await self._look()
        if self._watts:
            self._task = asyncio.ensure_future(self._follow())
        elif self._reason is None:
            told = (await self.server.table("GET", POWER)).get("reason")
            self._reason = told if isinstance(told, str) else f"`{PATH}` has no `{WATTS}`"

    async def end(self, seconds: float, answered: int) -> Observation:
        """Look for the last time, and add up."""
        self.stop()
        after = await self._look() if self._watts or (self.steps and self._before) else ()
        steps = _steps(self._before, after) if self.steps and after else None
        if not self._watts:
            return Observation(Power(reason=self._reason), steps)
        mean = _mean(self._watts)
        joules = round(mean * seconds / answered, 6) if answered else None
        return Observation(Power(round(mean, 3), joules, len(self._watts)), steps)

    def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.interval)
            await self._look()

    async def _look(self) -> Sequence[Figure]:
        try:
            response = await self.server.ask("GET", PATH, timeouts=_PATIENCE)
        except RequestFailed as error:
            self._reason = f"`{PATH}`: {error.text}"
            return ()
        if response.status != 200:
            self._reason = f"`{PATH}` answers {response.status}"
            return ()
        found = list(figures(response.body.decode(errors="replace")))
        watts = [each.value for each in found if each.name == WATTS and each.labels.get("rail") == "total"]
        if watts:
            self._watts.append((asyncio.get_running_loop().time(), watts[0]))
        return found


def _mean(samples: Sequence[tuple[float, float]]) -> float:
    """Weigh by time, straight from one sample to the next."""
    pairs = list(itertools.pairwise(samples))
    seconds = samples[-1][0] - samples[0][0]
    if seconds <= 0:
        return samples[0][1]
    return sum((end - start) * (low + high) / 2 for (start, low), (end, high) in pairs) / seconds


def _steps(before: Sequence[Figure], after: Sequence[Figure]) -> dict[str, Step]:
    """Take the difference of the sums and counts of each step."""
    found = {}
    for name in sorted({each.labels.get("step", "") for each in after if each.name == f"{STEP}_count"}):
        count = _value(after, "count", name) - _value(before, "count", name)
        total = _value(after, "sum", name) - _value(before, "sum", name)
        if count > 0:
            found[name] = Step(int(count), round(total / count * 1000, 3))
    return found


def _value(found: Sequence[Figure], what: str, step: str) -> float:
    name = f"{STEP}_{what}"
    return sum(each.value for each in found if each.name == name and each.labels.get("step", "") == step)
