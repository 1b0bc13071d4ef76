"""One event on its way through the workflows."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from math import inf
from time import perf_counter
from typing import Any, NamedTuple

from headrace.engine.calls.http import Http
from headrace.engine.draft import Draft, merged_owner
from headrace.engine.errors import NodeError
from headrace.engine.held import Wait
from headrace.engine.identity.subject import Subject
from headrace.engine.identity.values.weigh import NO_GROUND, Ground
from headrace.engine.language.scope import Scope
from headrace.engine.model import ID_RULE, Doc, clean_id
from headrace.engine.needs import Reads
from headrace.engine.restart import Needs
from headrace.engine.store.protocol import Row
from headrace.engine.versions import Versions
from headrace.engine.writing import path

MAX_NODE_RUNS = 2_000
"""Node runs of one event and all that it emits; docs/workflows.md, Limits."""

MAX_EMITTED = 10_000
"""Internal events that one event may cause in all; each is a document of its own."""

LONGEST_TURN_SECONDS = 0.005
"""The loop is given back at least this often, so that no request waits for long."""


@dataclass(slots=True)
class Emitted:
    """An internal event that a node made; it is processed right after the event that it came from."""

    type: str
    properties: Doc
    key: str
    depth: int


class Start(NamedTuple):
    """A workflow that a node asked for by its name; `by` is the workflow whose node it was."""

    workflow: str
    by: str


class Budget:
    """What is left for an event and all that it emits: node runs, internal events, and time before others' turn.

    It `is_settled` who they are about as soon as a trusted value said so; then no other one moves the session.
    """

    __slots__ = ("emits", "is_settled", "left", "turn_ends")

    def __init__(self) -> None:
        self.renew()
        self.turn_ends = perf_counter() + LONGEST_TURN_SECONDS

    def renew(self) -> None:
        """Make it that of another event; the turn goes on."""
        self.left = MAX_NODE_RUNS
        self.emits = MAX_EMITTED
        self.is_settled = False

    async def breathe(self) -> None:
        """Give the loop back; called when the turn has ended."""
        await asyncio.sleep(0)
        self.turn_ends = perf_counter() + LONGEST_TURN_SECONDS


@dataclass(slots=True)
class Surroundings:
    """What a passage gets from outside, the same for all events of a request.

    Nodes that do I/O must be done when the process's clock (`perf_counter`) says `ends`; it is the same in all attempts
    of a request. `trace_parent` is the trace context that the client sent; `calls` are what nodes called so far.
    `versions` are those of workflows that wait, `ground` what identifying stands on.
    """

    reads: Reads
    http: Http
    secrets: Callable[[str], str | None]
    tracing: bool = False
    zone: tzinfo = UTC
    ends: float = inf
    trace_parent: str | None = None
    versions: Versions | None = None
    calls: dict[tuple[str, str, str], Any] | None = None
    ground: Ground = NO_GROUND


class Passage:
    """An event, the draft that it works on, and everything that its nodes did."""

    __slots__ = (
        "around", "budget", "consents", "depth", "docs", "draft", "edits", "effects", "emitted", "event", "key", "log",
        "now", "response", "runs", "save", "scope", "skipped", "source", "starts", "stopped", "times", "waits",
    )  # fmt: skip

    def __init__(
        self,
        draft: Draft,
        event: Doc,
        key: str,
        source: Doc,
        now: datetime,
        around: Surroundings,
        budget: Budget | None = None,
        depth: int = 0,
    ) -> None:
        self.draft = draft
        self.event = event
        self.key = key
        self.source = source
        self.now = now
        self.around = around
        self.budget = budget or Budget()
        self.depth = depth
        profile, session = draft.profile, draft.session
        self.scope = Scope(event, profile, session, source, now)
        self.docs: dict[str, Any] = {"profile": profile, "session": session, "vars": None}
        self.edits: list[path.Edit] = []
        self.response: Doc = {}
        self.log: list[Doc] = []
        self.emitted: list[Emitted] = []
        self.effects: list[Row] = []
        self.waits: list[Wait] = []
        self.runs: list[Any] = []
        self.skipped: list[Any] = []
        self.starts: tuple[Start, ...] = ()
        self.times: dict[str, tuple[float, float]]
        self.consents: tuple[str, ...] = ()
        self.save = True
        self.stopped = False

    def begin_run(self, run: Any) -> None:
        """Begin a run, in which nothing has happened: `vars`, `nodes` and `times` are its own."""
        self.runs.append(run)
        self.times = run.times
        self.scope.nodes = {}
        self.scope.vars = self.docs["vars"] = {}

    def ran(self) -> set[str]:
        """Return the names of the workflows that ran for the event, those before a run of it waited too."""
        before = {record["workflow"] for record in self.event.get("runs", ())}
        return before | {run.workflow.name for run in self.runs}

    def see(self, name: str, doc: Doc | None) -> None:
        """Let nodes see and write another profile or session."""
        self.scope.set(name, doc)
        self.docs[name] = doc

    def detach(self, before: dict[str, Any]) -> None:
        """Take back what a node attached; `before` is the draft's snapshot from before it."""
        self.draft.restore(before)
        self.see("profile", self.draft.profile)
        self.see("session", self.draft.session)

    @property
    def reads(self) -> Reads:
        """What nodes may look up."""
        return self.around.reads

    @property
    def http(self) -> Http:
        """The HTTP client of nodes."""
        return self.around.http

    @property
    def zone(self) -> tzinfo:
        """The time zone of wall clocks for which no other is named."""
        return self.around.zone

    @property
    def ground(self) -> Ground:
        """What identifying stands on."""
        return self.around.ground

    @property
    def subject(self) -> Subject:
        """Who the event is about; made anew for who asks, since most events ask nothing."""
        return Subject(self)

    def secret(self, name: str) -> str:
        """Return a secret's value; raises NodeError when it is not set."""
        value = self.around.secrets(name)
        if value is None:
            raise NodeError(
                f"the secret {name} is not set: set the environment variable {name} or {name}_FILE"
            )
        return value

    def put(self, container: Doc, key: str, value: Any, where: str) -> None:
        """Write one member of the event's documents so that `undo` can take it back."""
        before = container.get(key, path.MISSING)
        container[key] = value
        self.edits.append(path.Edit(container, key, before, value, where))

    def undo(self, down_to: int = 0) -> None:
        """Take back the edits of this event, newest first."""
        while len(self.edits) > down_to:
            path.undo(self.edits.pop())

    def attach_profile(self, profile_id: str | None) -> str:
        """Give the event a stored profile, or a new one (None); returns its id.

        Raises NodeError when it has one already or there is no such profile, Needs when it is not locked yet.
        """
        if self.draft.profile is not None:
            raise NodeError("the event has a profile already")
        if profile_id is None:
            profile = self.draft.create_profile()
        else:
            if profile_id not in self.draft.profiles:
                raise Needs(profile=profile_id)
            stored = self.draft.profiles[profile_id]
            if stored is None:
                raise NodeError(f"there is no profile {profile_id}")
            profile = self.draft.use_profile(stored.doc, stored.version)
        session = self.draft.session
        if session is not None and self.draft.session_attached and session["profile"] != profile["id"]:
            if (merged := merged_owner(session, profile)) is not None:
                self.put(session, "profile_then", merged, "session.profile_then")
            self.put(session, "profile", profile["id"], "session.profile")
            self.draft.linked = True
        self.put(self.event, "profile", profile["id"], "event.profile")
        self.see("profile", profile)
        return str(profile["id"])

    def attach_session(self, session_id: str) -> None:
        """Give the event a session, stored or new; one that has a profile brings it along.

        Raises NodeError when the event has a session or profile already, or the id is none; Needs when it is not locked
        yet.
        """
        if self.draft.session is not None or self.draft.profile is not None:
            raise NodeError("the event has a session or profile already")
        given, session_id = session_id, clean_id(session_id) or ""
        if not session_id:
            raise NodeError(f"{given[:40]!r}: a session's id {ID_RULE}")
        if session_id not in self.draft.sessions:
            raise Needs(session=session_id)
        session = self.draft.join_session(session_id, self.source["id"])
        self.draft.session_attached = True
        self.put(self.event, "session", session_id, "event.session")
        self.see("session", session)
        self.put(session["stats"], "events", session["stats"]["events"] + 1, "session.stats.events")
        owner = session["profile"]
        if owner is not None and self.draft.profiles.get(owner) is not None:
            self.attach_profile(owner)
