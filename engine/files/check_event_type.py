"""Find what is wrong with event types."""

from collections.abc import Collection, Iterator
from typing import Any

import jsonschema_rs

from headrace.engine.config import fields
from headrace.engine.errors import PathError
from headrace.engine.files.check_reads import check_members, check_read
from headrace.engine.files.event_type import EventTypeFile, EventTypesFile, compile_schema, shapes_of
from headrace.engine.files.identify import check_identify
from headrace.engine.files.json_file import JsonFile, Place
from headrace.engine.files.mapping import MappedFile, way_of
from headrace.engine.files.problem import Problem

SEGMENTS = ("segments",)


def check_event_types(
    model: EventTypesFile, file: JsonFile, segments: Collection[str] | None = None
) -> Iterator[Problem]:
    """Find schemas that do not compile, reads of what is not there, and what cannot be written.

    `segments` are those that are declared; None: that is not known.
    """
    for name, entry in model.event_types.items():
        yield from _check_schemas(entry, file, ("event_types", name))
        for field, at, schemas in _fields(entry, file, ("event_types", name)):
            yield from _check_field(field, file, at, schemas)
            yield from check_members(field, file, at, segments)
        yield from _check_map(entry, file, ("event_types", name, "map"))
        yield from _check_twice([w.path.text for w in entry.reshape], file, ("event_types", name, "reshape"))
    yield from check_identify(model.event_types, file)
    yield from _check_twice([where.path.text for where in model.merge], file, ("merge",))
    for where in model.merge:
        if where.path.root != "profile":
            message = f"{where.source} is no field of a profile, so no strategy can stand there"
            yield file.problem(("merge", where.source), "E06", message)


def _fields(
    entry: EventTypeFile, file: JsonFile, at: Place
) -> Iterator[tuple[fields.Compiled[Any], Place, list[dict[str, Any]] | None]]:
    """Yield expressions and templates, where they stand, and schemas of the properties that they read.

    Condition and reshape read what was sent, all else what was made of it.
    """
    shapes = shapes_of(entry)
    sent = None if shapes is None else list(shapes[: 1 + len(entry.versions)])
    if entry.condition is not None:
        yield entry.condition, (*at, "condition"), sent
    for where, body in entry.reshape.items():
        yield body, (*at, "reshape", where.source), sent
    made = None if shapes is None else [*shapes]
    for kind, identify in entry.identify.items():
        yield identify.path, (*at, "identify", kind, "path"), made
    for field, mapped in entry.map.items():
        way, value = way_of(mapped)
        yield value, _way_place(file, (*at, "map", field.source), way), made


def _check_field(
    field: fields.Compiled[Any], file: JsonFile, at: Place, schemas: list[dict[str, Any]] | None
) -> Iterator[Problem]:
    for read in sorted(field.reads()):
        if read[0] in ("nodes", "vars"):
            message = f"'{read[0]}' is there within a workflow only; here it is always empty"
            fix = "Read event, profile, session, source or now."
            yield file.problem(at, "E03", message, fix)
        else:
            yield from check_read(read, file, at, schemas)


def _way_place(file: JsonFile, at: Place, way: str) -> Place:
    """Return where a value stands in the file: a value alone has no member that names its way."""
    value: Any = file.value
    for part in at:
        value = value[part]
    return (*at, way) if isinstance(value, dict) else at


def _check_map(entry: EventTypeFile, file: JsonFile, at: Place) -> Iterator[Problem]:
    yield from _check_twice([where.path.text for where in entry.map], file, at)
    for where, mapped in entry.map.items():
        place: Place = (*at, where.source)
        if where.path.root == "vars":
            message = "'vars' live for a run of a workflow only, so a mapping cannot write them"
            yield file.problem(place, "E04", message, "Write below profile.traits or session.properties.")
        elif where.path.root == "profile" and where.path.keys == SEGMENTS:
            message = "segments are entered by nodes, and by the conditions in segments.json"
            yield file.problem(place, "E04", message, "Declare the segment with a condition, in `when`.")
        else:
            yield from _check_way(where, mapped, file, place)


def _check_way(
    where: fields.WritePath, mapped: MappedFile, file: JsonFile, place: Place
) -> Iterator[Problem]:
    way, value = way_of(mapped)
    rule = where.path.rule
    if ("set" if way == "set_if_missing" else way) not in rule.operations:
        known = [one for one in ("set", "increment", "append") if one in rule.operations]
        fix = f"It takes {', '.join(known)}."
        yield file.problem(_way_place(file, place, way), "E04", f"{where.source} takes no {way}", fix)
    elif rule.check is not None and way != "increment" and is_literal(value.source):
        try:
            rule.check(value.source)
        except PathError as error:
            message = f"{error.message} at {where.source}"
            yield file.problem(_way_place(file, place, way), "E04", message)


def is_literal(source: Any) -> bool:
    """Say whether a value is the same for every event: no text in it is a template."""
    if isinstance(source, dict):
        return all(is_literal(value) for value in source.values())
    if isinstance(source, list):
        return all(is_literal(value) for value in source)
    return not (isinstance(source, str) and "{" in source)


def _check_twice(texts: list[str], file: JsonFile, at: Place) -> Iterator[Problem]:
    """Find places that stand twice, written in two ways."""
    value: Any = file.value
    for part in at:
        value = value.get(part, {})
    for number, (key, text) in enumerate(zip(value, texts, strict=True)):
        if text in texts[:number]:
            yield file.problem((*at, key), "E05", f"'{text}' stands here twice", "Delete one of the two.")


def _check_schemas(entry: EventTypeFile, file: JsonFile, at: Place) -> Iterator[Problem]:
    schemas: list[tuple[Place, Any]] = [(("schema",), entry.schema_)]
    schemas += [(("versions", name, "schema"), one.schema_) for name, one in entry.versions.items()]
    for place, schema in schemas:
        if schema is not None:
            yield from _check_schema(schema, file, (*at, *place))


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
