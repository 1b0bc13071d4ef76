"""Field types whose value is the same for every event.

Duration   "30d", "1h30m": a timedelta
Zone       "Europe/Berlin": a tzinfo
Pattern    a regular expression (RE2: its time is linear in the text, whatever an author writes)
PortName   the name of a port that an author makes up
WrittenSegment   the name of a segment that is declared, and not computed
KindName   the kind of an identifying value; one that is nearly that of an event type is a typing error
"""

from collections.abc import Iterator
from datetime import timedelta, tzinfo
from difflib import get_close_matches
from typing import Annotated, Any, LiteralString

from pydantic import (
    AfterValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from headrace.engine.config.fields import Declared, Names, text_schema
from headrace.engine.config.names import IDENTIFIER, KEY
from headrace.engine.errors import NodeError
from headrace.engine.language.limits import EvaluationError, Work
from headrace.engine.language.patterns import parse_pattern
from headrace.engine.language.registry import BadLiteral
from headrace.engine.language.times import parse_duration, parse_zone
from headrace.engine.suggest import did_you_mean

PortName = Annotated[str, StringConstraints(max_length=64), IDENTIFIER]

LONGEST_DURATION = timedelta(days=36_525)
"""A hundred years: a time less a duration is always a time."""


def _not_computed(name: str, info: ValidationInfo) -> str:
    if isinstance(info.context, Names) and name in info.context.computed:
        fix = f"change the condition of '{name}' in segments.json, or take another segment"
        told = {"name": name, "fix": fix}
        message = "the segment '{name}' is computed by its condition, so no node can write it"
        raise PydanticCustomError("computed_segment", message, told)
    return name


WrittenSegment = Annotated[str, Declared("segments", "segment"), AfterValidator(_not_computed)]


def _not_mistyped(name: str, info: ValidationInfo) -> str:
    kinds = info.context.kinds if isinstance(info.context, Names) else frozenset[str]()
    # A kind need not be declared: nodes alone may know it. One that is nearly declared is hardly meant so.
    if name not in kinds and get_close_matches(name, kinds, n=1, cutoff=0.6):
        told = {"name": name, "fix": did_you_mean(name, kinds)}
        raise PydanticCustomError("unknown_kind", "no event type declares values of the kind '{name}'", told)
    return name


KindName = Annotated[str, StringConstraints(max_length=64), KEY, AfterValidator(_not_mistyped)]

_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def _problem(code: LiteralString, error: BadLiteral) -> PydanticCustomError:
    return PydanticCustomError(code, "{message}", {"message": str(error), "fix": error.fix})


def format_duration(length: timedelta) -> str:
    """Write a duration as a config has it, to the millisecond: `1d12h`."""
    left = round(length.total_seconds() * 1000)
    parts = []
    for unit, milliseconds in _UNITS.items():
        count, left = divmod(left, milliseconds)
        parts.append(f"{count}{unit}" if count else "")
    return "".join(parts) or "0s"


def _read_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        length = parse_duration(value if isinstance(value, str) else str(value)[:40])
    except BadLiteral as error:
        raise _problem("duration", error) from None
    if length > LONGEST_DURATION:
        raise PydanticCustomError(
            "duration", "the duration '{value}' is longer than a hundred years", {"value": value}
        )
    return length


Duration = Annotated[
    timedelta,
    PlainValidator(_read_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        text_schema(
            "duration",
            "A duration, such as 30d or 1h30m.",
            pattern=r"^([0-9]{1,9}(\.[0-9]{1,3})?(ms|[smhdw]))+$",
        )
    ),
]


def _read_zone(value: object) -> tzinfo:
    if isinstance(value, tzinfo):
        return value
    try:
        return parse_zone(value if isinstance(value, str) else str(value)[:40])
    except BadLiteral as error:
        raise _problem("time_zone", error) from None


Zone = Annotated[
    tzinfo,
    PlainValidator(_read_zone),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(text_schema("time zone", "An IANA time zone, such as Europe/Berlin.")),
]


class Pattern:
    """A regular expression of RE2's syntax, compiled when the config is read."""

    __slots__ = ("_compiled", "source")

    def __init__(self, source: str) -> None:
        try:
            self._compiled = parse_pattern(source)
        except BadLiteral as error:
            raise _problem("pattern", error) from None
        self.source = source

    @property
    def groups(self) -> frozenset[str]:
        """The names and numbers (as texts) that its groups have; `0` is the whole match."""
        numbers = map(str, range(self._compiled.groups + 1))
        return frozenset((*numbers, *self._compiled.names))

    def search(self, text: str) -> dict[str, str | None] | None:
        """Return the groups of the first match by number (as text) and name, or None."""
        return next(self.matches(text), (0, 0, None))[2]

    def matches(self, text: str) -> Iterator[tuple[int, int, dict[str, str | None]]]:
        """Give start, end and groups of each match, one after another.

        Raises NodeError for a text that is too long or broken, and for more matches or searching than is allowed.
        """
        try:
            for match in self._compiled.find_all(text, Work()):
                numbered = {str(number): match.group(number) for number in range(self._compiled.groups + 1)}
                yield match.start(), match.end(), numbered | match.groupdict()
        except UnicodeEncodeError:
            raise NodeError("the text is not valid Unicode: it has a lone surrogate") from None
        except EvaluationError as error:
            raise NodeError(str(error)) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.source == other.source

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        return f"Pattern({self.source!r})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        def validate(value: object) -> "Pattern":
            if isinstance(value, Pattern):
                return value
            if not isinstance(value, str):
                raise PydanticCustomError("string_type", "Input should be a text")
            return cls(value)

        return core_schema.no_info_plain_validator_function(
            validate,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda pattern: pattern.source),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return text_schema("regular expression", "A regular expression of RE2's syntax.")
