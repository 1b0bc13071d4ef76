"""Check what expressions and templates read against what is declared."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jinja2 import nodes
from pydantic import BaseModel

from headrace.engine.config.fields import Compiled, Expression
from headrace.engine.files.check_graph import edges_into
from headrace.engine.files.event_type import EventType
from headrace.engine.files.json_file import JsonFile, Place
from headrace.engine.files.problem import Problem
from headrace.engine.files.segment import Condition
from headrace.engine.language.check import path_of
from headrace.engine.language.syntax import parse_expression, parse_template
from headrace.engine.model import new_profile, new_session
from headrace.engine.plugin import Plugin
from headrace.engine.suggest import did_you_mean
from headrace.engine.workflow import WorkflowFile

Read = tuple[str, ...]
Schemas = list[dict[str, Any]]

SEGMENTS: Read = ("profile", "segments")

EVENT_MEMBERS = (
    "id", "key", "type", "properties", "context", "source", "tenant", "session", "profile", "time", "door",
    "device", "page", "utm", "runs", "errors", "stream", "version", "tags", "reshaped", "goals", "consent",
)  # fmt: skip
EVENT_TIMES = ("happened", "received", "processed", "claimed")


def compiled_fields(value: Any, place: Place = ()) -> Iterator[tuple[Place, Compiled[Any]]]:
    """Yield every compiled field in a config, with its place there."""
    if isinstance(value, Compiled):
        yield place, value
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from compiled_fields(getattr(value, name), (*place, field.alias or name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from compiled_fields(item, (*place, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from compiled_fields(item, (*place, index))


def check_reads(
    model: WorkflowFile,
    plugins: Mapping[str, Plugin[Any]],
    file: JsonFile,
    types: Mapping[str, EventType],
    segments: Collection[str] | None = None,
) -> Iterator[Problem]:
    """Find reads of nodes that are not there or do not come before, and of members that nothing declares.

    `segments` are those that are declared; None: that is not known.
    """
    schemas = _schemas(model, types)
    before = _nodes_before(model)
    if model.on.when is not None:
        at: Place = ("on", "when")
        for read in sorted(model.on.when.reads()):
            if read[0] == "nodes":
                fix = "Test it in a branch node."
                yield file.problem(at, "W15", "no node has run yet when 'on.when' is tested", fix)
            yield from check_read(read, file, at, schemas)
        yield from check_members(model.on.when, file, at, segments)
    for name, plugin in plugins.items():
        for place, field in compiled_fields(plugin.config):
            at = ("nodes", name, "config", *place)
            yield from check_members(field, file, at, segments)
            for read in sorted(field.reads()):
                if read[0] == "nodes" and len(read) > 1:
                    yield from _check_node(read[1], file, at, list(model.nodes), before[name])
                yield from check_read(read, file, at, schemas)


def _check_node(
    node: str, file: JsonFile, at: Place, nodes: list[str], before: set[str]
) -> Iterator[Problem]:
    if node not in nodes:
        yield file.problem(at, "W15", f"there is no node '{node[:60]}'", did_you_mean(node, nodes))
    elif node not in before:
        message = f"the node '{node}' does not come before, so its result may be missing"
        yield file.problem(at, "W16", message, f"Lead an edge from '{node}' to this node.")


def _nodes_before(model: WorkflowFile) -> dict[str, set[str]]:
    """Return for each node all nodes from which edges lead to it, over others or directly."""
    edges = edges_into(model.nodes)
    before: dict[str, set[str]] = {}
    for name in model.nodes:
        found: set[str] = set()
        todo = [name]
        while todo:
            new = {node for node, _ in edges[todo.pop()]} - found
            found |= new
            todo += new
        before[name] = found
    return before


def check_read(read: Read, file: JsonFile, at: Place, schemas: Schemas | None) -> Iterator[Problem]:
    """Find a read of a member that no document has, or that none of the schemas of the properties declares."""
    for length in range(1, min(len(read), 3)):
        known = _KNOWN.get(read[:length])
        if known is not None and read[length] not in known:
            message = f"'{'.'.join(read[:length])}' has no member '{read[length][:60]}'"
            yield file.problem(at, "W14", message, did_you_mean(read[length], known))
            return
    if read[:2] == ("event", "properties") and len(read) > 2 and schemas:
        yield from _check_property(read[2:], file, at, schemas)


def check_members(
    field: Compiled[Any], file: JsonFile, at: Place, segments: Collection[str] | None
) -> Iterator[Problem]:
    """Find names that are looked for in profile.segments and are not declared, while others are."""
    if not segments or SEGMENTS not in field.reads():
        return
    for name in dict.fromkeys(_looked_for(field)):
        if name not in segments:
            message = f"no segment '{name[:60]}', so it is never in profile.segments"
            yield file.problem(at, "N07", message, did_you_mean(name, segments))


def _looked_for(field: Compiled[Any]) -> Iterator[str]:
    """Yield the texts in quotes of every `'…' in profile.segments`, and of its opposite."""
    for text in _texts(field.source):
        is_template = not isinstance(field, Expression | Condition)
        if is_template and "{" not in text:
            continue
        tree = parse_template(text) if is_template else parse_expression(text)
        for node in (tree, *tree.find_all(nodes.Compare)):
            if isinstance(node, nodes.Compare) and isinstance(node.expr, nodes.Const):
                (operand, *_) = node.ops
                if operand.op in ("in", "notin") and path_of(operand.expr) == SEGMENTS:
                    yield from (node.expr.value,) if isinstance(node.expr.value, str) else ()


def _texts(source: Any) -> Iterator[str]:
    if isinstance(source, str):
        yield source
    elif isinstance(source, Mapping | list | tuple):
        for item in source.values() if isinstance(source, Mapping) else source:
            yield from _texts(item)


def _check_property(keys: Read, file: JsonFile, at: Place, schemas: Schemas) -> Iterator[Problem]:
    """Check a property against the schemas of all types taken; one that has it is enough."""
    answers = [_knows(schema, keys) for schema in schemas]
    if "yes" in answers:
        return
    known = [name for schema in schemas for name in schema.get("properties", {})]
    path = ".".join(("event", "properties", *keys))
    fix = did_you_mean(keys[0], known) if keys[0] not in known else ""
    if all(answer == "refused" for answer in answers):
        yield file.problem(at, "W19", f"no schema of these events allows '{path}'", fix)
    else:
        yield file.problem(at, "W14", f"no schema of these events has '{path}'", fix)


def _knows(schema: Any, keys: Read) -> str:
    """Say whether a schema has a property: yes (or: cannot be told), no, refused."""
    if not keys or not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return "yes"
    if schema.keys() & _UNTOLD or schema.get("type", "object") != "object":
        return "yes"
    if keys[0] in schema["properties"]:
        return _knows(schema["properties"][keys[0]], keys[1:])
    more = schema.get("additionalProperties", True)
    if isinstance(more, dict):
        return "yes"
    return "no" if more else "refused"


def _schemas(model: WorkflowFile, types: Mapping[str, EventType]) -> Schemas | None:
    """Return the schemas of all types that the workflow takes; None when one of them has none, or it may be any."""
    if model.on.schedule is not None or model.on.started:
        return None
    schemas: Schemas = []
    for event in model.on.event:
        shapes = types[event].shapes if event in types else None
        if shapes is None:
            return None
        schemas += shapes
    return schemas


_UNTOLD = {
    "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "then", "else", "patternProperties",
    "dependentSchemas", "unevaluatedProperties",
}  # fmt: skip
"""Keywords that may bring properties from elsewhere, so that nothing can be told."""


def _known_members() -> dict[Read, tuple[str, ...]]:
    profile, session = new_profile("", "", ""), new_session("", "", "", "")
    return {
        ("event",): EVENT_MEMBERS,
        ("event", "time"): EVENT_TIMES,
        ("profile",): (*profile, "goals", "identities", "claimed"),
        ("profile", "stats"): tuple(profile["stats"]),
        ("profile", "time"): tuple(profile["time"]),
        ("session",): (*session, "goals"),
        ("source",): ("id", "tenant", "about"),
    }


_KNOWN = _known_members()
