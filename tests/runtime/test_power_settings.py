"""What a request may ask for."""

from __future__ import annotations

import pytest

from forge_runtime.error import RequestError
from forge_runtime.power.settings import PowerSettings, parse_settings

BASE = PowerSettings(max_samples=500, dummy_s=7.0)


def test_the_defaults_are_the_predecessors() -> None:
    assert 60.0 == PowerSettings().seconds


def test_a_request_may_shorten_a_measurement() -> None:
    settings = parse_settings({"duration_s": 1, "cooldown_s": 0, "ramp_s": 0.5, "interval_s": 0.02}, BASE)

    assert PowerSettings(1.0, 0.0, 0.5, 0.02, 500, 7.0) == settings


def test_the_predecessors_client_is_understood() -> None:
    assert BASE == parse_settings({"data": "placeholder"}, BASE)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"duration_s": 1e9}, "duration_s: Expected a number from 0.05 to 300, got `1000000000.0`"),
        ({"duration_s": "10"}, "duration_s: Expected a number from 0.05 to 300, got `10`"),
        ({"interval_s": 0}, "interval_s: Expected a number from 0.005 to 10, got `0`"),
        ({"duration_s": 1, "interval_s": 2}, "interval_s: Expected at most `duration_s`, 1, got `2`"),
        ({"duration_s": 100, "interval_s": 0.1}, "interval_s: `duration_s` of 100 asks for 1000 samples"),
        ({"duration": 1}, "duration: Unknown key; did you mean `duration_s`?"),
        ({"max_samples": 10**9}, "max_samples: Unknown key"),
        ([], "Expected an object"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_name(asked: object, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_settings(asked, BASE)

    assert message in caught.value.message
    assert 400 == caught.value.status


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(RequestError) as caught:
        parse_settings({"ramp_s": -1, "cooldown_s": 61}, BASE)

    assert ("ramp_s" in caught.value.message, "cooldown_s" in caught.value.message) == (True, True)


@pytest.mark.parametrize("settings", [{"duration_s": float("nan")}, {"max_samples": 0}, {"interval_s": 11.0}], ids=str)
def test_settings_out_of_bounds_cannot_be_made(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))}: Expected"):
        PowerSettings(**settings)  # type: ignore[arg-type]
