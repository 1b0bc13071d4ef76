"""time_passed: exact to the millisecond, and whatever stands where a time should."""

from typing import Any

import pytest

from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example


@pytest.mark.parametrize(
    ("value", "at_least", "port"),
    [
        ("2026-01-15T11:00:00.000Z", "1h", "passed"),
        ("2026-01-15T11:00:00.001Z", "1h", "not_passed"),
        ("2026-01-15T12:00:00+01:00", "1h", "passed"),
        ("2026-01-15 10:30", "1h30m", "passed"),
        ("2026-01-14", "1d12h", "passed"),
        ("2030-01-01T00:00:00Z", "0s", "not_passed"),
        ("0001-01-01T00:00:00+23:59", "1d", "passed"),
        ("next week", "1d", "missing"),
        ("", "1d", "missing"),
        (None, "1d", "missing"),
        (17, "1d", "missing"),
        (["2026-01-14"], "1d", "missing"),
    ],
)
async def test_since(value: Any, at_least: str, port: str) -> None:
    example = Example(
        {"since": "event.properties.t", "at_least": at_least}, port, event={"properties": {"t": value}}
    )
    ran = await run_example("time_passed", example)
    assert (ran.port, ran.error) == (port, "")
