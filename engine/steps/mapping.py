"""Step 7: reshape the event, map it to profile and session."""

from collections.abc import Iterable, Mapping
from typing import Any

from headrace.engine.errors import NodeError, PathError
from headrace.engine.files.event_type import EventType
from headrace.engine.files.mapping import FieldMap
from headrace.engine.passage import Passage
from headrace.engine.view import plain
from headrace.engine.writing.path import MISSING

RESHAPED = "reshaped"
"""The member of an event that says that its properties are not as they were sent."""

_CANNOT = (PathError, TypeError, ValueError, OverflowError, RecursionError)


def reshape(passage: Passage, kind: EventType) -> None:
    """Make the event's properties anew, and give it its tags. What was sent is not changed; an attempt may need it."""
    event = passage.event
    if kind.reshape and RESHAPED not in event:
        made = _values(passage, kind.reshape, {"event": event})
        if made:
            event["properties"] = plain(event["properties"])
            event[RESHAPED] = True
            _write(passage, made, {"event": event})
    if kind.tags:
        event["tags"] = [*kind.tags]


def map_fields(passage: Passage, kind: EventType) -> None:
    """Write what the event says of its profile and session; what is not there is passed over.

    All values are found before the first is written. One that cannot be, is told in the event's errors.
    """
    passage.edits += _write(passage, _values(passage, kind.map, passage.docs), passage.docs)


Values = list[tuple[FieldMap, Any]]


def _values(passage: Passage, maps: Iterable[FieldMap], docs: Mapping[str, Any]) -> Values:
    """Return what is to be written."""
    found: Values = []
    for each in maps:
        if docs[each.root] is None:
            continue
        if each.if_missing and each.path.read(docs) not in (MISSING, None):
            continue
        try:
            value = each.evaluate(passage.scope)
        except NodeError as error:
            _tell(passage, each, error)
            continue
        if value is not None or each.writes_null:
            found.append((each, value))
    return found


def _write(passage: Passage, values: Values, docs: Mapping[str, Any]) -> list[Any]:
    """Write values, and return the edits."""
    edits = []
    for each, value in values:
        try:
            edit = each.change(docs, value)
        except _CANNOT as error:
            _tell(passage, each, error)
        else:
            if edit is not None:
                edits.append(edit)
    return edits


def _tell(passage: Passage, each: FieldMap, error: Exception) -> None:
    """Let the event say what could not be written; the rest goes on."""
    text = f"{each.path.text}: {error}"
    passage.event["errors"].append(text)
    passage.log.append({"level": "warning", "message": text, "workflow": "", "node": ""})
