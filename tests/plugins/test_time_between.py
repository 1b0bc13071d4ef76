"""time_between: midnight, days, and the hour that daylight saving takes or gives."""

from typing import Any

import pytest
from pydantic import ValidationError

from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example

NIGHT = {"start": "22:00", "end": "02:00", "days": ["fri"]}


@pytest.mark.parametrize(
    ("config", "at", "port"),
    [
        # 2026-01-16 is a Friday.
        (NIGHT, "2026-01-16T21:59:59.999Z", "outside"),
        (NIGHT, "2026-01-16T22:00:00.000Z", "inside"),
        (NIGHT, "2026-01-17T01:59:59.999Z", "inside"),
        (NIGHT, "2026-01-17T02:00:00.000Z", "outside"),
        (NIGHT, "2026-01-16T01:00:00.000Z", "outside"),
        ({"days": ["sat", "sun"]}, "2026-01-17T23:59:59.999Z", "inside"),
        ({"days": ["sat", "sun"]}, "2026-01-16T23:59:59.999Z", "outside"),
        # The day of the zone, not of UTC: already Saturday in Tokyo.
        ({"days": ["sat"], "zone": "Asia/Tokyo"}, "2026-01-16T16:00:00.000Z", "inside"),
        # Berlin, 2026-03-29: 02:00 becomes 03:00.
        ({"start": "02:00", "end": "03:00", "zone": "Europe/Berlin"}, "2026-03-29T00:59:00.000Z", "outside"),
        ({"start": "02:00", "end": "03:00", "zone": "Europe/Berlin"}, "2026-03-29T01:00:00.000Z", "outside"),
        ({"start": "03:00", "end": "04:00", "zone": "Europe/Berlin"}, "2026-03-29T01:00:00.000Z", "inside"),
        # 2026-10-25: 02:30 comes twice.
        ({"start": "02:00", "end": "03:00", "zone": "Europe/Berlin"}, "2026-10-25T00:30:00.000Z", "inside"),
        ({"start": "02:00", "end": "03:00", "zone": "Europe/Berlin"}, "2026-10-25T01:30:00.000Z", "inside"),
        # A day that began in summer time, looked back on over midnight.
        ({**NIGHT, "days": ["sat"], "zone": "Europe/Berlin"}, "2026-10-25T00:30:00.000Z", "outside"),
        ({**NIGHT, "days": ["sat"], "zone": "Europe/Berlin"}, "2026-10-24T23:30:00.000Z", "inside"),
    ],
)
async def test_window(config: dict[str, Any], at: str, port: str) -> None:
    assert (await run_example("time_between", Example(config, port, at=at))).port == port


@pytest.mark.parametrize(
    "config",
    [
        {"start": "25:00"},
        {"start": "9:00"},
        {"start": "10:00", "end": "10:00"},
        {"days": []},
        {"days": ["monday"]},
        {"zone": "Berlin"},
        {"zone": "../../etc/passwd"},
        {"zone": 1},
    ],
)
async def test_bad_config(config: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, ValueError)):
        await run_example("time_between", Example(config, ""))
