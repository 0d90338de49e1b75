"""Steps of load: `a:b:step`, `a:b`, `a,b,c` or one value."""

from __future__ import annotations

from fractions import Fraction

from forge_client.error import UsageFault

__all__ = ["steps"]

STEPS = 200
"""Steps of one sweep; more is a mistake."""


def steps(text: str, what: str, *, whole: bool) -> tuple[float, ...]:
    """Read a sweep; UsageFault when it is none. Both ends are part of it, where a step meets the second."""
    hint = "Write `4`, `1,2,4,8`, `1:8` or `2:16:2`"
    try:
        parts = [Fraction(part) for part in text.replace(",", ":").split(":")]
    except (ValueError, ZeroDivisionError):
        raise UsageFault(f"{what} cannot be {text!a}", hint) from None
    if "," in text or len(parts) == 1:
        found = parts if ":" not in text else []
    elif len(parts) > 3 or (len(parts) == 3 and parts[2] <= 0):
        found = []
    else:
        step = parts[2] if len(parts) == 3 else Fraction(1)
        count = int((parts[1] - parts[0]) / step) + 1 if parts[1] >= parts[0] else 0
        found = [parts[0] + step * number for number in range(min(count, STEPS + 1))]
    if not found or any(part <= 0 or (whole and part.denominator != 1) for part in found):
        raise UsageFault(f"{what} cannot be {text!a}", hint)
    if len(found) > STEPS:
        raise UsageFault(f"{what} {text!a} has more than {STEPS} steps")
    return tuple(float(part) for part in found)
