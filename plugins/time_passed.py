"""Tell whether enough time has passed since a time.

The node's result has how long ago it was as `seconds`; a time to come has a negative number.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field

from headrace.engine.plugin import Config, Duration, Example, Expression, Out, Plugin, Step

_MONTH = {"since": "profile.time.last_visit", "at_least": "30d"}


class TimePassedConfig(Config):
    since: Expression = Field(
        description="The time: one of ours, or an ISO 8601 text (in UTC when it names no zone).",
        examples=["profile.time.last_visit", "event.properties.bought_at"],
    )
    at_least: Duration = Field(description="How long ago it must be.", examples=["30d", "1h30m"])


class TimePassed(Plugin[TimePassedConfig]):
    ports = {
        "passed": "It was that long ago, or longer.",
        "not_passed": "It was not that long ago.",
        "missing": "There is no time.",
    }
    examples = (
        Example(
            _MONTH,
            "passed",
            profile={"time": {"last_visit": "2025-12-16T12:00:00.000Z"}},
            result={"seconds": 2592000.0},
        ),
        Example(_MONTH, "not_passed", profile={"time": {"last_visit": "2026-01-15T11:59:00.000Z"}}),
        Example(
            {"since": "event.properties.bought_at", "at_least": "2d"},
            "missing",
            event={"properties": {"bought_at": "yesterday"}},
        ),
    )

    def run(self, step: Step) -> Out:
        since = _read(step.value(self.config.since))
        if since is None:
            return Out("missing")
        passed: timedelta = step.now - since
        return Out(
            "passed" if passed >= self.config.at_least else "not_passed", {"seconds": passed.total_seconds()}
        )


def _read(value: Any) -> datetime | None:
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except (TypeError, ValueError):
        return None
