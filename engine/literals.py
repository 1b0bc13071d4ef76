"""Field types whose value is the same for every event.

    Duration   "30d", "1h30m": a timedelta
    Zone       "Europe/Berlin": a ZoneInfo
    Pattern    a regular expression (RE2: its time is linear in the text, whatever an author writes)
    PortName   the name of a port that an author makes up
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import re2
from pydantic import GetCoreSchemaHandler, PlainSerializer, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from headrace.engine.errors import NodeError

PortName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]

UNIT_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""The units of a duration, largest first; each may stand once, in this order."""

LONGEST_DURATION = timedelta(days=36_525)
"""A hundred years: a time less a duration is always a time."""

_DURATION = "^" + "".join(rf"(\d{{1,9}}{unit})?" for unit in UNIT_SECONDS) + "$"
_duration = re2.compile(_DURATION)


def parse_duration(text: str) -> timedelta:
    """Return the length that a text like `30d` or `1h30m` says; raises ValueError on any other."""
    match = _duration.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"'{text[:40]}' is not a duration; write numbers with w, d, h, m, s, such as 30d or 1h30m")
    length = timedelta(seconds=sum(int(part[:-1]) * UNIT_SECONDS[part[-1]] for part in match.groups() if part))
    if length > LONGEST_DURATION:
        raise ValueError(f"'{text}' is longer than a hundred years")
    return length


def format_duration(length: timedelta) -> str:
    """Write a duration of whole seconds as `parse_duration` reads it."""
    left = int(length.total_seconds())
    parts = []
    for unit, seconds in UNIT_SECONDS.items():
        count, left = divmod(left, seconds)
        parts.append(f"{count}{unit}" if count else "")
    return "".join(parts) or "0s"


def _read_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("duration", "Input should be a text like 30d or 1h30m")
    return parse_duration(value)


Duration = Annotated[
    timedelta,
    PlainValidator(_read_duration),
    PlainSerializer(format_duration),
    WithJsonSchema(
        {"type": "string", "pattern": _DURATION, "minLength": 2, "description": "A duration, such as 30d or 1h30m."}
    ),
]


def _read_zone(value: object) -> ZoneInfo:
    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(value if isinstance(value, str) else "")
    except (KeyError, ValueError, OSError):
        raise PydanticCustomError(
            "time_zone", "no time zone '{value}'; write an IANA name such as Europe/Berlin", {"value": str(value)[:40]}
        ) from None


Zone = Annotated[
    ZoneInfo,
    PlainValidator(_read_zone),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "description": "An IANA time zone, such as Europe/Berlin."}),
]


class Pattern:
    """A regular expression of RE2's syntax, compiled when the config is read."""

    __slots__ = ("_compiled", "source")

    def __init__(self, source: str) -> None:
        options = re2.Options()
        options.log_errors = False
        options.max_mem = 1 << 20
        try:
            self._compiled = re2.compile(source, options)
        except (re2.error, UnicodeEncodeError) as error:
            reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
            raise PydanticCustomError("pattern", "bad pattern: {reason}", {"reason": reason}) from None
        self.source = source

    @property
    def groups(self) -> frozenset[str]:
        """The names and numbers (as texts) that its groups have; `0` is the whole match."""
        numbers = map(str, range(self._compiled.groups + 1))
        return frozenset((*numbers, *self._compiled.groupindex))

    def search(self, text: str) -> dict[str, str | None] | None:
        """Return the groups of the first match by number (as text) and name, or None."""
        return next(self.matches(text), (0, 0, None))[2]

    def matches(self, text: str) -> Iterator[tuple[int, int, dict[str, str | None]]]:
        """Give start, end and groups of each match, one after another; raises NodeError on a broken text."""
        try:
            for match in self._compiled.finditer(text):
                numbered = {str(number): match.group(number) for number in range(self._compiled.groups + 1)}
                yield match.start(), match.end(), numbered | match.groupdict()
        except UnicodeEncodeError:
            raise NodeError("the text is not valid Unicode: it has a lone surrogate") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.source == other.source

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        return f"Pattern({self.source!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def validate(value: object) -> "Pattern":
            if isinstance(value, Pattern):
                return value
            if not isinstance(value, str):
                raise PydanticCustomError("string_type", "Input should be a text")
            return cls(value)

        return core_schema.no_info_plain_validator_function(
            validate,
            json_schema_input_schema=core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda pattern: pattern.source),
        )
