"""What an event type writes into event, profile and session."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from headrace.engine.config import fields
from headrace.engine.errors import PathError
from headrace.engine.language.scope import Scope
from headrace.engine.trigger import FileModel
from headrace.engine.writing import path
from headrace.engine.writing.rules import Rule
from headrace.engine.writing.usual import Change

PROPERTIES = "event.properties"

_NONE: Any = None
"""Stands for a way that an entry does not use."""


class PropertyPath(fields.Compiled[path.WritePath]):
    """A path within an event's properties, such as `total` or `address.city`."""

    __slots__ = ("path",)
    json_schema: ClassVar[Mapping[str, Any]] = fields.text_schema(
        "path", "A path within the properties, such as total, address.city or ['my-key']."
    )

    def __init__(self, source: str) -> None:
        if source.startswith(f"{PROPERTIES}."):
            fix = f"write {source.removeprefix(f'{PROPERTIES}.')}"
            raise PathError(f"{source!r}: the path begins within {PROPERTIES}; {fix}", fix=fix)
        dot = "" if source.startswith("[") else "."
        keys = path.compile_path(f"{PROPERTIES}{dot}{source}").keys
        compiled = self.path = path.WritePath("event", keys, Rule())
        super().__init__(source, lambda _: compiled)


class MappedFile(FileModel):
    """How one field is written, in one of four ways."""

    set_: fields.Body = Field(
        _NONE, alias="set", description="The value, in place of what is there; its texts are templates."
    )
    set_if_missing: fields.Body = Field(_NONE, description="The value, where nothing or null stands.")
    increment: fields.Value[int | float] = Field(
        _NONE, description="What is added to the number that is there.", examples=[1]
    )
    append: fields.Body = Field(_NONE, description="The value, at the end of the list that is there.")

    @model_validator(mode="after")
    def _one_way(self) -> "MappedFile":
        if len(self.model_fields_set) != 1:
            fix = f"Write one of {', '.join(WAYS)}; an object that is the value itself stands under set."
            raise PydanticCustomError("ways", "a field is written in exactly one way", {"fix": fix})
        return self


WAYS = ("set", "set_if_missing", "increment", "append")
"""How a mapping may write a field."""


def _bare(value: object) -> object:
    """Return a value that stands alone as the way that it means: set."""
    return value if isinstance(value, dict | MappedFile) else {"set": value}


class _OrBare:
    """Adds to the JSON Schema that a value may stand alone."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        bare = {"not": {"type": "object"}, "description": "A value alone is set; texts are templates."}
        return {"anyOf": [handler(schema), bare]}


Mapped = Annotated[MappedFile, BeforeValidator(_bare), _OrBare]


class FieldMap(NamedTuple):
    """One field that is written for each event of a type, compiled.

    `change` does it, given the documents by root name and the value that `evaluate` gave. A value that is nothing or
    null is not written, unless the author wrote null.
    """

    root: str
    path: path.WritePath
    change: Change
    evaluate: Callable[[Scope], Any]
    if_missing: bool = False
    writes_null: bool = False


def compile_map(entries: Mapping[fields.WritePath, MappedFile]) -> tuple[FieldMap, ...]:
    """Compile the mappings of an event type, which were checked."""
    made = []
    for where, entry in entries.items():
        way, field = way_of(entry)
        change = where.changes["set" if way == "set_if_missing" else way]
        is_null = field.source is None
        place = where.path
        made.append(FieldMap(place.root, place, change, field.evaluate, way == "set_if_missing", is_null))
    return tuple(made)


def way_of(entry: MappedFile) -> tuple[str, fields.Compiled[Any]]:
    """Return how an entry writes its field, and the value."""
    (name,) = entry.model_fields_set
    return name.rstrip("_"), getattr(entry, name)


def compile_reshape(entries: Mapping[PropertyPath, fields.Body]) -> tuple[FieldMap, ...]:
    """Compile what is made of an event's properties; null takes a property away."""
    return tuple(
        FieldMap(
            "event",
            where.path,
            where.path.changes["unset" if body.source is None else "set"],
            body.evaluate,
            writes_null=body.source is None,
        )
        for where, body in entries.items()
    )
