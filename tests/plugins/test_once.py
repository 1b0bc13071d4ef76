"""once: for ever, or for a period."""

import pytest

from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example


@pytest.mark.parametrize(
    ("period", "marked", "port"),
    [
        (None, None, "first"),
        (None, "1990-01-01T00:00:00.000Z", "again"),
        ("12h", "2026-01-15T00:00:00.001Z", "again"),
        ("12h", "2026-01-15T00:00:00.000Z", "first"),
        ("12h", "2026-01-16T00:00:00.000Z", "again"),
    ],
)
async def test_period(period: str | None, marked: str | None, port: str) -> None:
    config = {"name": "m"} | ({"period": period} if period else {})
    ran = await run_example("once", Example(config, port, profile={"marks": {"m": marked} if marked else {}}))
    assert ran.port == port


async def test_names_do_not_meet() -> None:
    profile = {"marks": {"other": "2026-01-15T00:00:00.000Z"}}
    assert (await run_example("once", Example({"name": "m"}, "", profile=profile))).port == "first"
