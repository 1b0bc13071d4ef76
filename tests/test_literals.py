"""Durations, zones and patterns in a config: read, refused, written back."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.engine.plugin import Config, Duration, Pattern, PortName, Zone


class Sample(Config):
    length: Duration | None = None
    zone: Zone | None = None
    pattern: Pattern | None = None
    ports: list[PortName] | None = None


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30d", timedelta(days=30)),
        ("1h30m", timedelta(minutes=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("2w", timedelta(days=14)),
        ("0s", timedelta()),
    ],
)
def test_durations(text: str, length: timedelta) -> None:
    sample = Sample.model_validate({"length": text})
    assert sample.length == length
    assert Sample.model_validate(sample.model_dump(mode="json")) == sample
    assert sample.model_dump(mode="json")["length"] == text.replace("2w", "14d")


BAD: dict[str, list[Any]] = {
    "length": ["", "30", "d", "1y", "-1d", "1 d", 30, [], "999999999w", "40000d", "\uff11d"],
    "zone": ["", "Mars/Base", "Europe", "../x", 1, "a\x00b"],
    "pattern": ["(", 1, "\ud800"],
    "ports": [[bad] for bad in ("", "A", "a-b", "1a", "a" * 65)],
}


@pytest.mark.parametrize("config", [{name: bad} for name, values in BAD.items() for bad in values])
def test_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Sample.model_validate(config)


def test_written_back() -> None:
    config = {"length": "1d12h", "zone": "Europe/Berlin", "pattern": "a+", "ports": ["x"]}
    assert Sample.model_validate(config).model_dump(mode="json") == config
