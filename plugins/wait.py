"""Wait for some time, or until a time, and go on.

The run is kept and goes on with the profile as it is then, in the version of the workflow that it began in, whatever
happens to the server in between. A time that is over is not waited for. With `hours` the run goes on within these
hours only: when the wait ends outside, it stands still until they begin. The node's result has the time as `until`.
"""

from datetime import UTC, datetime, time, timedelta
from typing import Any, Literal, get_args

from pydantic import Field

from headrace.engine.model import iso
from headrace.engine.plugin import (
    ClockTime,
    Config,
    Duration,
    Example,
    Expression,
    NodeError,
    Out,
    Plugin,
    Step,
    Zone,
)

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

_DAYS: tuple[Day, ...] = get_args(Day)
_WEEK = 8


class Hours(Config):
    days: list[Day] = Field(
        ["mon", "tue", "wed", "thu", "fri"], min_length=1, description="The days of the week."
    )
    start: ClockTime = Field("09:00", description="When they begin, as HH:MM.")
    end: ClockTime = Field("17:00", description="When they end, as HH:MM of the same day.")
    zone: Zone | None = Field(
        None,
        description="The time zone; the server's `HEADRACE_TIME_ZONE` if not given.",
        examples=["Europe/Oslo"],
    )


class WaitConfig(Config):
    period: Duration | None = Field(None, description="How long to wait.", examples=["2d", "1h30m"])
    until: Expression | None = Field(
        None,
        description="Instead of `period`: the time, one of ours, or an ISO 8601 text (in UTC when it names no zone).",
        examples=["event.properties.starts_at", "time('2026-12-24T12:00:00Z')"],
    )
    hours: Hours | None = Field(None, description="Go on within these hours only.")


class Wait(Plugin[WaitConfig]):
    ports = {"done": "The time has come."}
    examples = (
        Example({"period": "2d"}, "done", result={"until": "2026-01-17T12:00:00.000Z"}),
        Example(
            {"until": "event.properties.starts_at"},
            "done",
            event={"properties": {"starts_at": "2026-01-15T14:30:00+01:00"}},
            result={"until": "2026-01-15T13:30:00.000Z"},
        ),
        Example(
            {"period": "1d12h", "hours": {"zone": "Europe/Oslo"}},
            "done",
            "Saturday, 1 o'clock in the night: it goes on on Monday, at 9 in Oslo.",
            result={"until": "2026-01-19T08:00:00.000Z"},
        ),
        Example({"until": "event.properties.starts_at"}, "error", "There is no time."),
    )

    def prepare(self) -> None:
        if (self.config.period is None) is (self.config.until is None):
            raise ValueError("say either 'period' or 'until'")
        if self.config.hours is not None and self.config.hours.start >= self.config.hours.end:
            raise ValueError("hours: 'end' must be after 'start', on the same day")

    def run(self, step: Step) -> Out:
        period, hours = self.config.period, self.config.hours
        until = step.now + period if period is not None else _read(self._asked(step))
        if hours is not None:
            until = _within(until, hours, step)
        if until > step.now:
            step.wait(until)
        return Out("done", {"until": iso(until)})

    def _asked(self, step: Step) -> Any:
        return None if self.config.until is None else step.value(self.config.until)


def _read(value: Any) -> datetime:
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise NodeError(f"until: {str(value)[:60]!r} is no time") from None


def _within(until: datetime, hours: Hours, step: Step) -> datetime:
    """Return the first time from `until` on that is within the hours."""
    zone = hours.zone or step.zone
    today = until.astimezone(zone).date()
    for days in range(_WEEK):
        day = today + timedelta(days=days)
        if _DAYS[day.weekday()] not in hours.days:
            continue
        midnight = datetime.combine(day, time(), zone)
        start, end = (_at(midnight, clock) for clock in (hours.start, hours.end))
        if until < end:
            return max(until, start)
    raise NodeError("the hours never begin")


def _at(midnight: datetime, clock: str) -> datetime:
    """Return the time in UTC at which the wall clock of a day shows HH:MM."""
    hour, minute = map(int, clock.split(":"))
    # The wall clock of the day, which may be an hour longer or shorter than others.
    return (midnight + timedelta(hours=hour, minutes=minute)).astimezone(UTC)
