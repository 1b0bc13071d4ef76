"""An event type: its entry in event_types.json, and its compiled form."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, Literal, NoReturn, Protocol, get_args

import jsonschema_rs
from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from headrace.engine.config import fields
from headrace.engine.config.names import BARE
from headrace.engine.errors import FieldError
from headrace.engine.files.identify import IdentifyFile, KindName
from headrace.engine.files.mapping import Mapped, PropertyPath, compile_map, compile_reshape
from headrace.engine.suggest import did_you_mean
from headrace.engine.trigger import FileModel

MOST_ERRORS = 20
"""Errors of one event that are told; the rest would only fill the answer."""

MOST_LISTED, MOST_LOOKED_AT = 100, 2000
"""Values of an event of which all errors are looked for, and one of each member."""

_DEPENDS = frozenset(
    (
        "then",
        "else",
        "not",
        "anyOf",
        "oneOf",
        "allOf",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
    )
)
"""Keywords by which what one member must be may depend on another one."""

TOO_MANY_TO_SAY = (
    f"the properties do not fit the schema; with more than {MOST_LOOKED_AT:,} values it is not said where"
)

MOST_MAPPED = 200
"""Fields that one event type may write, and properties that it may make."""

EventTypeName = Annotated[str, StringConstraints(min_length=1, max_length=128), BARE]
VersionName = Annotated[str, StringConstraints(min_length=1, max_length=64), BARE]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64), BARE]
Schema = Annotated[
    dict[str, Any] | bool, WithJsonSchema({"$ref": "https://json-schema.org/draft/2020-12/schema"})
]
_Strategy = Literal[
    "newest", "oldest", "first_set", "largest", "smallest", "sum", "union", "and", "or", "keep"
]
STRATEGIES: tuple[str, ...] = get_args(_Strategy)
"""How a field of two profiles may become one when they are merged."""


def _known_strategy(value: object) -> object:
    if isinstance(value, str) and value not in STRATEGIES:
        fix = did_you_mean(value, STRATEGIES)
        raise PydanticCustomError("strategy", "no strategy '{value}'", {"value": value[:60], "fix": fix})
    return value


Strategy = Annotated[_Strategy, BeforeValidator(_known_strategy)]


class VersionFile(FileModel):
    """One version of an event type, for events that name it."""

    about: str = Field("", description="What is different in this version.")
    schema_: Schema | None = Field(
        None, alias="schema", description="The JSON Schema of its properties, in place of the type's."
    )


class EventTypeFile(FileModel):
    """One declared type of event."""

    about: str = Field("", description="What has happened when such an event comes.")
    schema_: Schema | None = Field(
        None,
        alias="schema",
        description="The JSON Schema of its properties; an event that breaks it is refused.",
    )
    versions: dict[VersionName, VersionFile] = Field(
        {},
        description="Versions by name. An event may name one by its `version`; any other is refused.",
        examples=[{"2": {"schema": {"required": ["total"]}}}],
    )
    condition: fields.Expression | None = Field(
        None,
        description="What must hold for event, profile, session and source, else the event is refused.",
        examples=["event.properties.total >= 0"],
    )
    reshape: dict[PropertyPath, fields.Body] = Field(
        {},
        max_length=MOST_MAPPED,
        description="Properties that are made anew once the event was checked; null takes one away.",
        examples=[{"total": "{{ event.properties.sum }}", "sum": None}],
    )
    tags: list[Tag] = Field([], max_length=20, description="Words that every such event gets: `event.tags`.")
    map: dict[fields.WritePath, Mapped] = Field(
        {},
        max_length=MOST_MAPPED,
        description="What is written into profile and session, by path.",
        examples=[
            {
                "profile.traits.email": "{{ event.properties.email }}",
                "profile.stats.counters.orders": {"increment": 1},
            }
        ],
    )
    identify: dict[KindName, IdentifyFile] = Field(
        {},
        max_length=20,
        description="Values of the event that say who it is about, by kind.",
        examples=[{"email": {"path": "event.properties.email", "per_profile": 3}}],
    )


class EventTypesFile(FileModel):
    """event_types.json: types of events that are declared."""

    schema_: str | None = Field(
        None, alias="$schema", description="The JSON Schema, for completion in an editor."
    )
    merge: dict[fields.WritePath, Strategy] = Field(
        {},
        description="How fields become one when two profiles are merged, by path of the profile.",
        examples=[{"profile.traits.age": "largest"}],
    )
    event_types: dict[EventTypeName, EventTypeFile] = Field(description="Event types by name.")


class _Validator(Protocol):
    def is_valid(self, instance: Any) -> bool: ...

    def iter_errors(self, instance: Any) -> Iterator[Any]: ...

    def validate(self, instance: Any) -> None: ...


class EventType:
    """A declared type of event, ready for events.

    `changes` says that it reshapes events or gives them tags. `shapes` are the schemas that one of them fits the
    properties that a workflow sees, or None where nothing can be told of them.
    """

    __slots__ = (
        "_validator", "_versions", "about", "changes", "condition", "identify", "map", "name", "reshape", "schema",
        "shapes", "tags", "versions",
    )  # fmt: skip

    def __init__(self, name: str, file: EventTypeFile) -> None:
        self.name = name
        self.about = file.about
        self.schema = file.schema_
        self._validator = _compiled(file.schema_)
        self._versions = {version: _compiled(entry.schema_) for version, entry in file.versions.items()}
        self.versions = tuple(file.versions)
        self.condition = file.condition
        self.reshape = compile_reshape(file.reshape)
        self.tags = tuple(file.tags)
        self.changes = bool(self.reshape or self.tags)
        self.map = compile_map(file.map)
        self.identify = file.identify
        self.shapes = shapes_of(file)

    def has_version(self, version: str) -> bool:
        """Say whether an event may name this version; a type that declares none takes any."""
        return not self._versions or version in self._versions

    def check(self, properties: Mapping[str, Any], version: str | None = None) -> list[FieldError]:
        """Return what the schema refuses in an event's properties, at most 20; pointers begin there."""
        validator = self._validator if version is None else self._versions.get(version, self._validator)
        if validator is None or validator.is_valid(properties):
            return []
        return [
            FieldError(pointer(error.instance_path), error.message[:300])
            for error in _errors(validator, properties)
        ] or [FieldError("", TOO_MANY_TO_SAY)]


def _errors(validator: _Validator, properties: Mapping[str, Any]) -> Iterator[jsonschema_rs.ValidationError]:
    """Yield what is wrong with properties, at most 20: of few values, of members of many, nothing of very many.

    The library finds all errors before it gives the first, each with a copy of what it is about: with thousands of
    values, seconds and gigabytes.
    """
    if _has_more_values(properties, MOST_LISTED):
        if not _has_more_values(properties, MOST_LOOKED_AT):
            yield from _first_errors(validator, properties)
        return
    yield from islice(validator.iter_errors(properties), MOST_ERRORS)


def _first_errors(
    validator: _Validator, properties: Mapping[str, Any]
) -> Iterator[jsonschema_rs.ValidationError]:
    """Yield the first error, and that of each other member, found without those before."""
    left = dict(properties)
    for _ in range(MOST_ERRORS):
        try:
            validator.validate(left)
        except jsonschema_rs.ValidationError as error:
            place = error.instance_path
            if len(left) < len(properties) and (not place or not _DEPENDS.isdisjoint(error.schema_path)):
                # It may come of what was taken away.
                return
            yield error
            if not place:
                return
            del left[str(place[0])]
        else:
            return


def _has_more_values(value: Any, most: int) -> bool:
    """Say whether there are more values than some in a JSON value, at any depth."""
    count, left = 0, [value]
    while left:
        inner = left.pop()
        if isinstance(inner, Mapping | list):
            count += len(inner)
            if count > most:
                return True
            left += inner.values() if isinstance(inner, Mapping) else inner
    return False


def shapes_of(file: EventTypeFile) -> tuple[dict[str, Any], ...] | None:
    """Return the schemas of which the properties, as workflows see them, fit one; None where that cannot be told."""
    schemas = [file.schema_, *(version.schema_ for version in file.versions.values())]
    known = tuple(schema for schema in schemas if isinstance(schema, dict))
    if len(known) < len(schemas):
        return None
    made = {where.path.keys[1]: True for where, body in file.reshape.items() if body.source is not None}
    return (*known, {"properties": made, "additionalProperties": False}) if made else known


def _compiled(schema: dict[str, Any] | bool | None) -> _Validator | None:
    return None if schema is None else compile_schema(schema)


def pointer(place: list[str | int]) -> str:
    """Write a place as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def compile_schema(schema: dict[str, Any] | bool, mask: str | None = "the value") -> _Validator:
    """Compile a JSON Schema (2020-12 unless it names another draft); raises jsonschema_rs.ValidationError.

    Nothing is fetched, patterns take linear time, and formats are checked in every draft. `mask` stands for the values
    of an event in messages.
    """
    return jsonschema_rs.validator_for(
        schema,
        validate_formats=True,
        retriever=_refuse,
        pattern_options=jsonschema_rs.RegexOptions(),
        mask=mask,
    )


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is never fetched")
