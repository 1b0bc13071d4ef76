"""Applies what a node wrote: all of it, or nothing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec

from headrace.engine import throttling
from headrace.engine.config.fields import WritePath
from headrace.engine.errors import NodeError, PathError
from headrace.engine.held import Wait
from headrace.engine.identity.values.decide import Said
from headrace.engine.identity.values.weigh import Owner
from headrace.engine.model import Doc, iso, make_key
from headrace.engine.passage import MAX_EMITTED, Emitted, Passage, Start
from headrace.engine.plugin import ERROR_PORT, Entry, LogLevel, Out
from headrace.engine.store.protocol import Row
from headrace.engine.throttling import after_pass
from headrace.engine.view import plain
from headrace.engine.workflow import Node, Way, Workflow
from headrace.engine.writing import path
from headrace.engine.writing.edit import OPERATIONS, json_copy, turn_back

MAX_WAITS = 50
"""Events that the runs of one profile may wait for at the same time."""

MAX_EMIT_DEPTH = 3
"""How deep internal events may cause others; docs/workflows.md, Limits."""

OF_PROFILE = ("profile.traits", "profile.stats.counters", "profile.interests", "profile.segments")
OF_SESSION = ("session.context", "session.properties")
"""What `discard` turns back. A consent stays as it was given or withdrawn, and so do marks and throttles."""

LEVELS = frozenset(get_args(LogLevel))


class Asked:
    """What a journal asked of the run itself, besides changes: to wait, to stop, to stop later workflows too."""

    __slots__ = ("stops", "stops_event", "waits")

    def __init__(self) -> None:
        self.waits: Wait | None = None
        self.stops = False
        self.stops_event = False


NOTHING = Asked()
FAILED = Asked()
"""What a journal asks that could not be applied: nothing, but the run must know."""


class NodeRun(msgspec.Struct, gc=False):
    """What one node did: its way out, what it gave, its journal, the error if it failed, and where its edits stand."""

    node: Node
    way: Way
    out: Out
    journal: list[Entry]
    error: str = ""
    edits: tuple[int, int] = (0, 0)


def apply_journal(passage: Passage, workflow: Workflow, done: NodeRun) -> Asked:
    """Do every entry of a node's journal in order; fails the node, with nothing done, when one cannot be."""
    docs, edits = passage.docs, passage.edits
    start = len(edits)
    writer: Writer | None = None
    try:
        for op, where, value in done.journal:
            if op not in OPERATIONS:
                writer = writer or Writer(passage, workflow, done.node.name, done.out.port)
                OTHERS[op](writer, where, value)
                continue
            # A path in a config is compiled; only a plugin that puts one together itself gives a text.
            changes = (
                where.changes if type(where) is WritePath else path.compile_write_path(str(where)).changes
            )
            edit = changes[op](docs, value)
            if edit is not None:
                edits.append(edit)
    except (PathError, NodeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        passage.undo(start)
        if writer is not None:
            writer.undo()
        done.error = str(error)
        done.out = Out(ERROR_PORT, {"error": done.error})
        done.way = done.node.ways[ERROR_PORT]
        return FAILED
    done.edits = (start, len(edits))
    if writer is None:
        return NOTHING
    passage.stopped = passage.stopped or writer.asked.stops_event
    return writer.asked


def kept(value: Any) -> Any:
    """Return a copy of a JSON value, times as texts. Raises PathError for what JSON cannot say."""
    return json_copy(plain(value))


def named(value: Any, what: str) -> str:
    """Return a name that a plugin gave. Raises NodeError when it is no text, or an empty one."""
    if not isinstance(value, str) or not value.strip():
        raise NodeError(f"{what} should be a text, not {value!r}")
    return value


class Writer:
    """The entries of one node's journal that do more than write a field."""

    __slots__ = (
        "_attached", "_lengths", "_starts", "_written", "asked", "node", "passage", "port", "workflow",
    )  # fmt: skip

    def __init__(self, passage: Passage, workflow: Workflow, node: str, port: str) -> None:
        self.passage = passage
        self.workflow = workflow
        self.node = node
        self.port = port
        self.asked = NOTHING
        self._written = 0
        self._lengths = [len(kept) for kept in self._lists()]
        self._starts = passage.starts
        self._attached: dict[str, Any] | None = None

    def _lists(self) -> tuple[list[Any], ...]:
        passage = self.passage
        return (passage.log, passage.emitted, passage.effects, passage.waits, passage.draft.claims)

    def undo(self) -> None:
        """Take back what was done here."""
        for kept, length in zip(self._lists(), self._lengths, strict=True):
            del kept[length:]
        self.passage.starts = self._starts
        if self._attached is not None:
            self.passage.detach(self._attached)

    def respond(self, key: str, value: Any) -> None:
        """Put a member into the answer's `response`."""
        self.passage.put(
            self.passage.response, named(key, "respond: the name"), kept(value), f"response.{key}"
        )

    def attach(self, what: tuple[str | None, str | None, bool], _: Any) -> None:
        """Give the event a profile or a session."""
        self._attached = self._attached or self.passage.draft.snapshot()
        profile, session, create = what
        if session is not None:
            self.passage.attach_session(named(session, "attach: the session's id"))
        if profile is not None:
            self.passage.attach_profile(named(profile, "attach: the profile's id"))
        elif create:
            self.passage.attach_profile(None)

    def identify(self, asked: Said, owner: Owner | None) -> None:
        """Let the profile have an identifying value, as far as it may; an event without one gets who has it."""
        self._attached = self._attached or self.passage.draft.snapshot()
        self.passage.subject.identify(asked, owner)

    def merge(self, other: str, _: Any) -> None:
        """Have the profile merged with another one before the event starts again."""
        other = named(other, "merge: the profile's id")
        self.passage.subject.merge(other, f"{self.workflow.name}/{self.node}")

    def effect(self, ordered: bool, request: Any) -> None:
        """Record a deferred call; it is pending until the outbox has sent it."""
        key = self._next_key("effect")
        origin = self._origin(key)
        doc = origin | {
            "source": self.passage.source["id"],
            "request": kept(request),
            "ordered": ordered,
            "attempts": [],
            "status": "pending",
            "due": origin["created"],
            "lease": None,
            "response": None,
        }
        if self.passage.around.trace_parent:
            doc["traceparent"] = self.passage.around.trace_parent
        if ordered:
            self._put_in_order(doc)
        self.passage.effects.append(Row(key, doc))

    def _put_in_order(self, effect: dict[str, Any]) -> None:
        """Let the effect name the one that goes before it: the last of this node for the same profile."""
        profile = self.passage.draft.profile
        if profile is None:
            return
        name = f"{self.workflow.name}/{self.node}"
        last = profile.get("ordered", {})
        if name in last:
            effect["after"] = last[name]
        now = {"key": effect["id"], "at": effect["created"]}
        self.passage.put(profile, "ordered", {**last, name: now}, "profile.ordered")

    def emit(self, event_type: str, properties: Any) -> None:
        """Make an internal event."""
        depth = self.passage.depth + 1
        if depth > MAX_EMIT_DEPTH:
            raise NodeError(f"events may emit events {MAX_EMIT_DEPTH} deep; this would be {depth}")
        budget = self.passage.budget
        budget.emits -= 1
        if budget.emits < 0:
            raise NodeError(f"an event may cause {MAX_EMITTED} internal events in all")
        key = self._next_key("emitted")
        event_type = named(event_type, "emit: the event's type")
        self.passage.emitted.append(Emitted(event_type, kept(properties), key, depth))

    def start(self, workflow: str, _: Any) -> None:
        """Ask for another workflow, which runs for the same event when those that took it have run."""
        name = named(workflow, "start: the workflow")
        self.passage.starts += (Start(name, self.workflow.name),)

    def wait(self, until: Any, asked: tuple[list[str], Doc, str] | None) -> None:
        """Let the node be left later: when its time has come, or an event."""
        if not isinstance(until, datetime):
            raise NodeError(f"wait: the time should be a datetime, not {until!r}")
        wait = Wait(until.astimezone(UTC) if until.tzinfo else until.replace(tzinfo=UTC))
        if asked is not None:
            self._check_room()
            types, where, port = asked
            names = tuple(named(name, "wait: an event's type") for name in types)
            wait = Wait(wait.until, names, kept(where), named(port, "wait: the port"))
        self.passage.waits.append(wait)
        self._ask().waits = wait

    def call(self, _: Any, note: Doc) -> None:
        """Nothing: a call that was made stands in the journal for the trace."""

    def _check_room(self) -> None:
        """Raise NodeError when the profile can wait for no more events."""
        draft = self.passage.draft
        if draft.profile is None:
            raise NodeError("who waits for an event needs a profile, and this event has none")
        if len(draft.waits) + sum(1 for wait in self.passage.waits if wait.types) >= MAX_WAITS:
            raise NodeError(f"a profile waits for {MAX_WAITS} events at most")

    def stop(self, event: bool, _: Any) -> None:
        """End the run after this wave."""
        asked = self._ask()
        asked.stops = True
        asked.stops_event = asked.stops_event or event

    def mark(self, name: str, _: Any) -> None:
        """Keep the time now in the profile's marks."""
        profile = self.passage.draft.profile
        if profile is None:
            raise NodeError("a mark needs a profile, and the event has none")
        name = named(name, "mark: the name")
        self.passage.put(profile["marks"], name, iso(self.passage.now), f"profile.marks.{name}")

    def throttle(self, name: str, asked: tuple[str, int, timedelta]) -> None:
        """Count a pass of the profile; another node of the same wave may have taken the last one."""
        profile = self.passage.draft.profile
        passed = after_pass(profile, named(name, "throttle: the name"), *asked, self.passage.now)
        if profile is None or passed is None:
            raise NodeError(f"another node has just passed the throttle '{name}', and no more may")
        if throttling.MEMBER not in profile:
            self.passage.put(profile, throttling.MEMBER, {}, f"profile.{throttling.MEMBER}")
        where = f"profile.{throttling.MEMBER}.{name}"
        self.passage.put(profile[throttling.MEMBER], name, passed, where)

    def discard(self, profile: bool, session: bool) -> None:
        """Turn back what nodes of earlier waves, in every workflow of the event, wrote into profile and session."""
        passage, places = self.passage, (OF_PROFILE if profile else ()) + (OF_SESSION if session else ())
        for run in reversed(passage.runs):
            for done in reversed(run.done):
                for edit in reversed(passage.edits[slice(*done.edits)]):
                    if edit.path.startswith(places):
                        passage.edits += turn_back(edit)

    def log(self, level: str, message: str) -> None:
        """Write a log line."""
        if level not in LEVELS:
            raise NodeError(f"log: the level should be one of {', '.join(get_args(LogLevel))}, not {level!r}")
        message = named(message, "log: the message")
        line = {"level": level, "message": message, "workflow": self.workflow.name, "node": self.node}
        self.passage.log.append(line)

    def _ask(self) -> Asked:
        if self.asked is NOTHING:
            self.asked = Asked()
        return self.asked

    def _next_key(self, kind: str) -> str:
        """Return hash(event key, workflow, node, number within the node): the same in every attempt."""
        self._written += 1
        return make_key(kind, self.passage.key, self.workflow.name, self.node, str(self._written))

    def _origin(self, key: str) -> dict[str, Any]:
        draft = self.passage.draft
        return {
            "id": key,
            "tenant": draft.tenant,
            "event": self.passage.key,
            "workflow": self.workflow.name,
            "version": self.workflow.version,
            "node": self.node,
            "profile": draft.profile["id"] if draft.profile else None,
            "created": iso(self.passage.now),
        }


OTHERS: dict[str, Callable[[Writer, Any, Any], None]] = {
    "respond": Writer.respond,
    "attach": Writer.attach,
    "identify": Writer.identify,
    "merge": Writer.merge,
    "call": Writer.call,
    "effect": Writer.effect,
    "emit": Writer.emit,
    "start": Writer.start,
    "wait": Writer.wait,
    "stop": Writer.stop,
    "mark": Writer.mark,
    "throttle": Writer.throttle,
    "log": Writer.log,
    "discard": Writer.discard,
}
