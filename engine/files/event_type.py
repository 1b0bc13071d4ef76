"""An event type: its entry in event_types.json, and its compiled JSON Schema."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, NoReturn, Protocol

import jsonschema_rs
from pydantic import Field, StringConstraints, WithJsonSchema

from headrace.engine.errors import FieldError
from headrace.engine.files.json_file import JsonFile, Place
from headrace.engine.files.problem import Problem
from headrace.engine.trigger import FileModel

MOST_ERRORS = 20
"""Errors of one event that are told; the rest would only fill the answer."""

EventTypeName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^\S(.*\S)?$")]
Schema = Annotated[
    dict[str, Any] | bool, WithJsonSchema({"$ref": "https://json-schema.org/draft/2020-12/schema"})
]


class EventTypeFile(FileModel):
    """One declared type of event."""

    about: str = Field("", description="What has happened when such an event comes.")
    schema_: Schema | None = Field(
        None,
        alias="schema",
        description="The JSON Schema of its properties; an event that breaks it is refused.",
    )


class EventTypesFile(FileModel):
    """event_types.json: types of events that are declared."""

    schema_: str | None = Field(
        None, alias="$schema", description="The JSON Schema, for completion in an editor."
    )
    event_types: dict[EventTypeName, EventTypeFile] = Field(description="Event types by name.")


class _Validator(Protocol):
    def is_valid(self, instance: Any) -> bool: ...

    def iter_errors(self, instance: Any) -> Iterator[Any]: ...


class EventType:
    """A declared type of event, ready to check events."""

    __slots__ = ("_validator", "about", "name", "schema")

    def __init__(self, name: str, about: str, schema: dict[str, Any] | bool | None) -> None:
        self.name = name
        self.about = about
        self.schema = schema
        self._validator: _Validator | None = None if schema is None else compile_schema(schema)

    def check(self, properties: Mapping[str, Any]) -> list[FieldError]:
        """Return what the schema refuses in an event's properties, at most 20; pointers begin there."""
        if self._validator is None or self._validator.is_valid(properties):
            return []
        errors = islice(self._validator.iter_errors(properties), MOST_ERRORS)
        return [FieldError(pointer(error.instance_path), error.message[:300]) for error in errors]


def pointer(place: list[str | int]) -> str:
    """Write a place as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def compile_schema(schema: dict[str, Any] | bool, mask: str | None = "the value") -> _Validator:
    """Compile a JSON Schema (2020-12 unless it names another draft); raises jsonschema_rs.ValidationError.

    Nothing is fetched, and patterns take linear time. `mask` stands for the values of an event in messages.
    """
    return jsonschema_rs.validator_for(
        schema, retriever=_refuse, pattern_options=jsonschema_rs.RegexOptions(), mask=mask
    )


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is never fetched")


def check_event_types(entries: Mapping[str, EventTypeFile], file: JsonFile) -> Iterator[Problem]:
    """Find schemas that do not compile."""
    for name, entry in entries.items():
        if entry.schema_ is not None:
            yield from _check_schema(entry.schema_, file, ("event_types", name, "schema"))


def _check_schema(schema: dict[str, Any] | bool, file: JsonFile, at: Place) -> Iterator[Problem]:
    try:
        compile_schema(schema, mask=None)
    except jsonschema_rs.ValidationError as error:
        if "retrieving it failed" in error.message:
            place, uri = next(_far_references(schema), ((), "a reference"))
            fix = "Copy the part into $defs and refer to #/$defs/…"
            yield file.problem((*at, *place), "E02", f"'{uri[:80]}' is never fetched", fix)
            return
        message = f"the JSON Schema is not valid: {error.message[:300]}"
        yield file.problem((*at, *error.instance_path), "E01", message)
    except ValueError as error:
        yield file.problem(at, "E01", f"the JSON Schema is not valid: {str(error)[:300]}")


def _far_references(schema: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield the references that leave the schema."""
    members = schema.items() if isinstance(schema, dict) else enumerate(schema)
    for key, value in members:
        if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
            if not value.startswith("#"):
                yield (*place, key), value
        elif isinstance(value, dict | list):
            yield from _far_references(value, (*place, key))
