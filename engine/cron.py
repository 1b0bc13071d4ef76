"""When a schedule ticks: cron's five fields, in a time zone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from cronsim import CronSim, CronSimError
from pydantic import GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

FIELDS: Final = ("minute", "hour", "day of the month", "month", "day of the week")
RANGES: Final = ("0 to 59", "0 to 23", "1 to 31", "1 to 12 or JAN to DEC", "0 to 7 or SUN to SAT")
WORDS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""What some crons write in words, and how it is written here."""

LONGEST: Final = 200
_SECOND = timedelta(seconds=1)


class Cron:
    """A cron expression of five fields, compiled when the file is read.

    With a fixed minute and hour every day that fits has its tick: at a time that the clock leaps over it comes at the
    first minute after it, at one that comes twice it is there once, the first time. Where minute or hour begin with `*`
    the wall clock alone counts: an hour that is leapt over has no ticks, and one that comes twice has them twice.
    """

    __slots__ = ("source",)

    def __init__(self, source: str) -> None:
        self.source = source
        _check(source)

    def next(self, after: datetime, zone: tzinfo) -> datetime:
        """Return the first tick later than a time, in UTC."""
        return next(self.ticks(after, zone))

    def ticks(self, after: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Give the ticks later than a time, in UTC, one after another, without an end."""
        last = after.astimezone(UTC)
        for found in CronSim(self.source, _local(last, zone)):
            tick = found.astimezone(UTC)
            # At the end of summer time the wall clock shows an hour again, of which the ticks are over.
            if tick > last:
                yield (last := tick)

    def newest(self, now: datetime, zone: tzinfo) -> datetime:
        """Return the last tick that is not later than a time, in UTC."""
        now = now.astimezone(UTC)
        for found in CronSim(self.source, _local(now + _SECOND, zone), reverse=True):
            tick = found.astimezone(UTC)
            if tick <= now:
                break
        # Going back, the clock's leaps are not quite what they are going on.
        for later in self.ticks(tick, zone):
            if later > now:
                break
            tick = later
        return tick

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cron) and self.source == other.source

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        return f"Cron({self.source!r})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else _read(value),
            json_schema_input_schema=core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda cron: cron.source),
        )


def _local(time: datetime, zone: tzinfo) -> datetime:
    """Return a time on the wall clock of a zone; UTC, in which nothing leaps, is one that cronsim knows."""
    return time.astimezone(UTC if str(zone) in ("UTC", "Etc/UTC") else zone)


def _read(value: object) -> Cron:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Input should be a text")
    return Cron(value)


def _check(source: str) -> None:
    """Raise a validation error that names the field that is wrong, and what may stand there."""
    fields = source.split()
    if source.strip().lower() in WORDS:
        raise _problem(f"'{source}' is not five fields", f'Write "{WORDS[source.strip().lower()]}".')
    if len(fields) != len(FIELDS) or len(source) > LONGEST:
        message = f"a cron expression has five fields, {', '.join(FIELDS)}; '{source[:60]}' has {len(fields)}"
        raise _problem(message, 'Write for example "0 9 * * 1" for Mondays, 9:00.')
    for place, field in enumerate(fields):
        alone = ["*"] * len(FIELDS)
        alone[place] = field
        if not _works(" ".join(alone)):
            message = f"'{field[:60]}' is no {FIELDS[place]} (field {place + 1} of five)"
            raise _problem(message, f"It has {RANGES[place]}, lists as 1,2, ranges as 1-5, steps as */5.")
    if not _works(source):
        raise _problem(f"'{source}' never comes: no month has such a day", "Mend the day or the month.")


def _works(source: str) -> bool:
    try:
        next(CronSim(source, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration, ValueError, AssertionError):
        return False
    return True


def _problem(message: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("cron", "{message}", {"message": message, "fix": fix})
