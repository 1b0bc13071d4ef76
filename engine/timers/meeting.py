"""Tells runs of a profile that the event they wait for came."""

from collections.abc import Sequence

import msgspec

from headrace.engine.errors import HeadraceError, StoreError
from headrace.engine.model import Doc, iso, make_key
from headrace.engine.passage import Passage
from headrace.engine.plugin import Step
from headrace.engine.store.protocol import Row
from headrace.engine.workflow import Node
from headrace.engine.writing.path import MISSING, compile_path

LARGEST_EVENT = 64 * 1024
"""Bytes of an event's properties, as JSON, that a run which waited for it gets."""

_encode = msgspec.json.Encoder().encode


async def meet(passage: Passage) -> None:
    """Look whether the event is one that runs of its profile wait for: each is woken by a timer that is due now.

    What a run waits for is marked as met in the profile, so that the first event has it. Raises StoreError.
    """
    if "replay_of" in passage.event and "emitted_by" not in passage.event:
        # It came long ago; only what its replay causes is new.
        return
    draft = passage.draft
    now = iso(passage.now)
    entries, woken = [], []
    for entry in draft.waits:
        key = make_key("wake", entry["timer"], entry["node"], passage.key)
        if "met" not in entry and now < entry["until"] and await _is_awaited(passage, entry):
            entries.append({**entry, "met": key})
            woken.append(Row(key, _wake(passage, entry, key)))
        else:
            entries.append(entry)
    if woken:
        draft.waits = entries
        draft.timers += woken
        draft.touched.add("profile")


async def _is_awaited(passage: Passage, entry: Doc) -> bool:
    """Say whether type, values and condition fit; a condition that fails does not, and the log says why."""
    versions = passage.around.versions
    if versions is None or not fits(passage.event, entry["types"], entry.get("where")):
        return False
    try:
        workflow = await versions.find(entry["workflow"], entry["version"])
        node = next((node for node in workflow.nodes if node.name == entry["node"]), None)
        return node is not None and accepts(node, passage)
    except StoreError:
        raise
    except HeadraceError as error:
        line = {"level": "error", "message": f"waits for an event: {error}"}
        passage.log.append(line | {"workflow": entry["workflow"], "node": entry["node"]})
        return False


def accepts(node: Node, passage: Passage) -> bool:
    """Say whether the condition of a node that waits holds for an event. Raises NodeError."""
    # It is about the event that came: what the waiting run knew is not in scope.
    passage.scope.nodes, passage.scope.vars = {}, {}
    return node.plugin.accepts(Step(passage, node.name))


def fits(event: Doc, types: Sequence[str], where: Doc | None) -> bool:
    """Say whether an event is of one of some types, and has certain values at dotted paths."""
    if event["type"] not in types:
        return False
    for name, value in (where or {}).items():
        found = compile_path(f"event.{name}").reader(event)
        if found is MISSING or found != value or isinstance(found, bool) is not isinstance(value, bool):
            return False
    return True


def _wake(passage: Passage, entry: Doc, key: str) -> Doc:
    now = iso(passage.now)
    return {
        "id": key,
        "kind": "wake",
        "tenant": passage.draft.tenant,
        "event": entry["event"],
        "source": passage.source["id"],
        "profile": passage.draft.profile["id"] if passage.draft.profile else None,
        "session": None,
        "workflow": entry["workflow"],
        "version": entry["version"],
        "number": entry["number"],
        "node": entry["node"],
        "by": passage.event["id"],
        "due": now,
        "status": "pending",
        "created": now,
        "result": met_event(passage.event),
    }


def met_event(event: Doc) -> Doc:
    """Return what a run that waited for an event gets of it, of a bounded size."""
    found = {name: event[name] for name in ("id", "type", "source", "session", "properties")}
    found["happened"] = event["time"]["happened"]
    if len(_encode(found["properties"])) > LARGEST_EVENT:
        found |= {"properties": {}, "cut": True}
    return found
