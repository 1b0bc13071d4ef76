"""Functions for times and durations."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo, available_timezones

from headrace.engine.language.lookup import MISSING, as_time
from headrace.engine.language.registry import BadLiteral, Function, Prepared, function
from headrace.engine.language.values import is_number

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION_CHARS: Final = 64
_DURATION: Final = re.compile(r"(?:\d{1,9}(?:\.\d{1,3})?(?:ms|[smhdw]))+", re.ASCII)
_DURATION_PART: Final = re.compile(r"([\d.]+)(ms|[smhdw])", re.ASCII)
_FORMAT: Final = re.compile(r"(?:[^%]|%[YmdHMSAaBbjyIpfzZVuG%])*")


class HasNow(Protocol):
    """What these functions need of a scope."""

    now: datetime


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `30d`, `1h30m` or `500ms` (units ms, s, m, h, d, w); raise BadLiteral."""
    if len(text) > _DURATION_CHARS:
        raise BadLiteral(f"the duration is longer than {_DURATION_CHARS} characters")
    return _parse_duration(text)


# Texts of events come here too; what is kept is bounded, since the texts are.
@lru_cache(maxsize=1_024)
def _parse_duration(text: str) -> timedelta:
    if not _DURATION.fullmatch(text):
        raise BadLiteral(
            f"{text!r} is not a duration", "write a number and a unit: '30d', '12h', '1h30m', '90s'"
        )
    try:
        return timedelta(seconds=sum(float(n) * _UNITS[unit] for n, unit in _DURATION_PART.findall(text)))
    except OverflowError:
        raise BadLiteral(f"the duration {text!r} is too long") from None


@lru_cache(maxsize=256)
def parse_zone(name: str) -> tzinfo:
    """Return the time zone of an IANA name; raise BadLiteral."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        close = get_close_matches(name, available_timezones(), 1)
        raise BadLiteral(f"no time zone {name!r}", f"did you mean {close[0]!r}?" if close else "") from None


def _parse_format(text: str) -> str:
    if not _FORMAT.fullmatch(text):
        raise BadLiteral(
            f"{text!r} is not a time format", "use %Y %m %d %H %M %S %A %a %B %b %j %y %I %p %f %z %V %u"
        )
    return text


_ZONE = Prepared(parse_zone, only=False)
_DURATION_TEXT = Prepared(parse_duration, only=False)


def _length(duration: Any) -> timedelta | None:
    if isinstance(duration, timedelta):
        return duration
    try:
        return parse_duration(duration) if isinstance(duration, str) else None
    except BadLiteral:
        return None


def _moved(now: datetime, length: timedelta | None, direction: int) -> Any:
    try:
        return MISSING if length is None else now + direction * length
    except OverflowError:
        return MISSING


def read_time(value: Any, zone: tzinfo = UTC) -> Any:
    """Read an ISO 8601 text, or seconds (milliseconds from 100,000,000,000 on) since 1970, as a UTC time."""
    if is_number(value):
        try:
            return datetime.fromtimestamp(value / 1000 if abs(value) >= 1e11 else value, UTC)
        except (ValueError, OverflowError, OSError):
            return MISSING
    if isinstance(value, str) and zone is not UTC:
        try:
            read = datetime.fromisoformat(value)
            return (read.replace(tzinfo=zone) if read.tzinfo is None else read).astimezone(UTC)
        except (ValueError, OverflowError):
            return MISSING
    read = as_time(value)
    return MISSING if read is None else read


@function(duration=_DURATION_TEXT)
def ago(scope: HasNow, duration: Any) -> Any:
    """Give the time that was a duration before now.

    >>> ago('30d')
    "2026-01-30T12:00:00.000Z"
    """
    return _moved(scope.now, _length(duration), -1)


@function(duration=_DURATION_TEXT)
def ahead(scope: HasNow, duration: Any) -> Any:
    """Give the time that will be a duration after now.

    >>> ahead('1h30m')
    "2026-03-01T13:30:00.000Z"
    """
    return _moved(scope.now, _length(duration), 1)


@function(zone=_ZONE)
def time(value: Any, zone: Any = "UTC") -> Any:
    """Read an ISO 8601 text, or a number of seconds or milliseconds since 1970, as a time.

    A text without a zone is in `zone` (an IANA name), which is UTC when not given.

    >>> time('2026-02-01 08:30', zone='Europe/Berlin')
    "2026-02-01T07:30:00.000Z"
    """
    place = _zone(zone)
    return MISSING if place is None else read_time(value, place)


def _since(scope: HasNow, value: Any, unit: float) -> Any:
    moment = read_time(value)
    return MISSING if moment is MISSING else (scope.now - moment).total_seconds() / unit


@function()
def seconds_since(scope: HasNow, value: Any) -> Any:
    """Give the seconds from a time (or its ISO 8601 text) until now.

    >>> seconds_since('2026-03-01T11:59:00Z')
    60.0
    """
    return _since(scope, value, 1)


@function()
def minutes_since(scope: HasNow, value: Any) -> Any:
    """Give the minutes from a time (or its ISO 8601 text) until now.

    >>> minutes_since('2026-03-01T11:30:00Z')
    30.0
    """
    return _since(scope, value, 60)


@function()
def hours_since(scope: HasNow, value: Any) -> Any:
    """Give the hours from a time (or its ISO 8601 text) until now.

    >>> hours_since('2026-03-01T06:00:00Z')
    6.0
    """
    return _since(scope, value, 3_600)


@function()
def days_since(scope: HasNow, value: Any) -> Any:
    """Give the days from a time (or its ISO 8601 text) until now, with a fraction.

    >>> days_since(profile.time.created)
    28.5
    """
    return _since(scope, value, 86_400)


def _zone(zone: Any) -> tzinfo | None:
    if zone == "UTC":
        return UTC
    if isinstance(zone, tzinfo):
        return zone
    try:
        return ZoneInfo(zone) if isinstance(zone, str) and len(zone) <= 64 else None
    except (ValueError, OSError, KeyError):
        return None


def _local(value: Any, zone: Any, show: Callable[[datetime], Any]) -> Any:
    moment = read_time(value)
    place = _zone(zone)
    try:
        return MISSING if moment is MISSING or place is None else show(moment.astimezone(place))
    except (OverflowError, ValueError):
        return MISSING


@function(zone=_ZONE, format=Prepared(_parse_format))
def format_time(value: Any, format: str = "%Y-%m-%d %H:%M", zone: Any = "UTC") -> Any:  # noqa: A002
    """Write a time as a text, by the codes of `strftime`, in a zone.

    >>> format_time(now, '%d.%m.%Y %H:%M', zone='Europe/Berlin')
    "01.03.2026 13:00"
    """
    return _local(value, zone, lambda moment: moment.strftime(format))


@function(zone=_ZONE)
def day(value: Any, zone: Any = "UTC") -> Any:
    """Give the date of a time in a zone, as a text.

    >>> day(now)
    "2026-03-01"
    """
    return _local(value, zone, lambda moment: moment.date().isoformat())


@function(zone=_ZONE)
def weekday(value: Any, zone: Any = "UTC") -> Any:
    """Give the day of the week of a time in a zone: 1 is Monday, 7 is Sunday.

    >>> weekday(now)
    7
    """
    return _local(value, zone, datetime.isoweekday)


@function(zone=_ZONE)
def hour(value: Any, zone: Any = "UTC") -> Any:
    """Give the hour of a time in a zone, 0 to 23.

    >>> hour(now, zone='America/New_York')
    7
    """
    return _local(value, zone, lambda moment: moment.hour)


FUNCTIONS: Final[tuple[Function, ...]] = (
    ago,
    ahead,
    time,
    seconds_since,
    minutes_since,
    hours_since,
    days_since,
    format_time,
    day,
    weekday,
    hour,
)
