"""When a wait ends: hours of offices, and clocks that leap."""

from typing import Any

import pytest

from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example
from headrace.plugins.wait import Wait

OSLO: dict[str, Any] = {"zone": "Europe/Oslo"}


@pytest.mark.parametrize(
    ("at", "hours", "until"),
    [
        # Within the hours nothing is added.
        ("2026-01-15T10:00:00.000Z", OSLO, "2026-01-15T11:00:00.000Z"),
        ("2026-01-15T15:00:00.000Z", OSLO, "2026-01-16T08:00:00.000Z"),
        ("2026-01-15T14:59:59.999Z", OSLO, "2026-01-15T15:59:59.999Z"),
        ("2026-01-15T03:00:00.000Z", OSLO, "2026-01-15T08:00:00.000Z"),
        # Friday evening: Monday.
        ("2026-01-16T20:00:00.000Z", OSLO, "2026-01-19T08:00:00.000Z"),
        ("2026-01-16T20:00:00.000Z", OSLO | {"days": ["fri"]}, "2026-01-23T08:00:00.000Z"),
        (
            "2026-01-16T20:00:00.000Z",
            {"days": ["sat"], "start": "00:00", "end": "24:00"},
            "2026-01-17T00:00:00.000Z",
        ),
        # The weekend in which the clock leaps forward, and that in which it leaps back.
        ("2026-03-27T20:00:00.000Z", OSLO, "2026-03-30T07:00:00.000Z"),
        ("2026-10-23T20:00:00.000Z", OSLO, "2026-10-26T08:00:00.000Z"),
        ("2026-03-28T12:00:00.000Z", OSLO | {"days": ["sun"], "start": "02:30"}, "2026-03-29T01:30:00.000Z"),
    ],
)
async def test_a_wait_ends_in_the_hours(at: str, hours: dict[str, Any], until: str) -> None:
    run = await run_example(Wait, Example({"period": "1h", "hours": hours}, "done", at=at))
    assert run.result == {"until": until}
    assert [wait.until.isoformat() for wait in run.passage.waits] == [
        until.replace(".000Z", "+00:00").replace("Z", "000+00:00")
    ]


@pytest.mark.parametrize("until", ["'2026-01-15T11:59:59Z'", "now", "event.time.received"])
async def test_a_time_that_is_over_is_not_waited_for(until: str) -> None:
    run = await run_example(Wait, Example({"until": until}, "done"))
    assert (run.port, run.passage.waits) == ("done", [])


@pytest.mark.parametrize("until", ["event.properties.none", "'soon'", "5", "'9999-12-31T23:59:59-05:00'"])
async def test_what_is_no_time_fails(until: str) -> None:
    run = await run_example(Wait, Example({"until": until}, "error"))
    assert "is no time" in run.error


@pytest.mark.parametrize(
    "config",
    [{}, {"period": "1h", "until": "now"}, {"period": "1h", "hours": {"start": "17:00", "end": "09:00"}}],
)
async def test_a_config_that_cannot_work_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"either|after 'start'"):
        await run_example(Wait, Example(config, "done"))
