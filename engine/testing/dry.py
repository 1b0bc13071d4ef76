"""Runs events through a workspace without store and network."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from headrace.engine.calls.address import Rules
from headrace.engine.calls.client import Client
from headrace.engine.calls.http import Http, HttpAnswer
from headrace.engine.calls.inline import noted
from headrace.engine.errors import NodeError
from headrace.engine.files.json_file import json_type
from headrace.engine.files.source import Source
from headrace.engine.files.workspace import Workspace
from headrace.engine.identity.values.decide import CLAIMED, TRUSTED
from headrace.engine.identity.values.kinds import claim_key, kind_of
from headrace.engine.keeper import Keeper
from headrace.engine.limiter import Limiter
from headrace.engine.locks import Locks
from headrace.engine.metrics import Metrics
from headrace.engine.model import (
    Doc,
    EventError,
    EventInput,
    TrackRequest,
    from_iso,
    iso,
    make_key,
    new_profile,
    new_session,
)
from headrace.engine.parts import Parts
from headrace.engine.passage import Passage
from headrace.engine.request import Admission, Job
from headrace.engine.run import Run
from headrace.engine.schedule import TYPE, tick_event
from headrace.engine.settings import Settings
from headrace.engine.steps.admit import INTERNAL
from headrace.engine.store.memory import MemoryStore
from headrace.engine.store.protocol import Ref, Row, Store
from headrace.engine.testing.example import filled
from headrace.engine.timers.kinds import newest_timer
from headrace.engine.timers.resume import Resumption
from headrace.engine.track import commit_all
from headrace.engine.trigger import Schedule
from headrace.engine.workflow import Workflow

if TYPE_CHECKING:
    from headrace.engine.files.watch import LiveWorkspace

PROFILE, SESSION = "profile-1", "session-1"
"""Ids that are always the same, so that what depends on them (`random_split`) is so too."""

BEFORE = timedelta(days=30)
"""How long before the first event a profile and a session were made that say nothing of it."""


YEARS = range(1900, 9000)
"""Years in which a clock may stand: times before and after it can be reckoned."""


def read_clock(text: str) -> datetime:
    """Return the time in UTC that a text says, UTC too where it names no zone; raises ValueError."""
    time = datetime.fromisoformat(text)
    if time.year not in YEARS:
        raise ValueError(f"the year is not one from {YEARS[0]} to {YEARS[-1]}")
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)


def check_shape(at: str, usual: object, given: object) -> None:
    """Raise ValueError where a document has another type than the usual one has, with the place."""
    if isinstance(usual, dict):
        if not isinstance(given, dict):
            raise ValueError(f"{at}: must be an object, not {json_type(given)}.")
        for name in usual.keys() & given.keys():
            check_shape(f"{at}.{name}", usual[name], given[name])
        return
    if isinstance(usual, int):
        fits, wanted = isinstance(given, int | float) and not isinstance(given, bool), "a number"
    elif isinstance(usual, list):
        fits, wanted = isinstance(given, list), "a list"
    else:
        fits, wanted = isinstance(given, str) or given is usual is None, "a text"
    if not fits:
        raise ValueError(f"{at}: must be {wanted}, not {json_type(given)}.")


class Processed(NamedTuple):
    """What became of one event: the passages of it and of what it emitted, or why it was refused."""

    passages: list[Passage]
    errors: list[EventError]

    @property
    def runs(self) -> list[Run]:
        """All runs, in order."""
        return [run for passage in self.passages for run in passage.runs]


KINDS_OF_RUNS = ("run", "wake")


def is_pending(timer: Doc) -> bool:
    """Say whether a timer of a run is still to be fired; nothing else that waits has to do anything here."""
    return bool(timer["status"] == "pending") and timer["kind"] in KINDS_OF_RUNS


class _Still:
    """A workspace that does not follow its files."""

    def __init__(self, workspace: Workspace) -> None:
        self.current = workspace
        self.refused = ()


class _NoNetwork(Http):
    """Refuses every call."""

    async def send(self, call: Mapping[str, Any]) -> HttpAnswer:
        """Say how to do without."""
        note = noted(call)
        raise NodeError(f"{note['method']} {note['url']}: there is no network here; give the node a mock")


def dry_parts(
    workspace: Workspace, secrets: Callable[[str], str | None], settings: Settings, kept: object
) -> Parts:
    """Return the parts of an engine without network, whose workspace stands still.

    `kept` is a store as far as a request uses one: `read`, `commit`, `find` and `count`.
    """
    store, live = cast("Store", kept), cast("LiveWorkspace", _Still(workspace))
    locks = Locks(settings.waiters_per_profile)
    # Nothing asks for the client here: nodes get `_NoNetwork`, and nothing sends effects.
    client = Client(Rules(), secrets)
    return Parts(
        settings, store, live, secrets, _NoNetwork(), Metrics(), locks, Limiter(), Keeper(store), client
    )


class Dry:
    """One visitor's events on their way through a workspace, with a clock that stands still until it is moved.

    `profile` and `session` None: there is none, and events come as by /collect, or `profile_less`.
    """

    def __init__(
        self,
        workspace: Workspace,
        secrets: Callable[[str], str | None],
        at: datetime,
        settings: Settings | None = None,
    ) -> None:
        self.workspace = workspace
        self.now = at
        self.store = MemoryStore()
        self.profile: str | None = PROFILE
        self.session: str | None = SESSION
        self.tracing = False
        self._parts = dry_parts(workspace, secrets, settings or Settings(), self.store)
        self._sent = 0

    def begin(self, tenant: str, profile: Doc | None, *, is_new: bool) -> None:
        """Say who the visitor is; `is_new`: was made just now. None: events without a profile.

        Raises ValueError for a profile that cannot be one.
        """
        self.profile = None if profile is None else str(profile.get("id") or PROFILE)
        if profile is not None:
            self.keep_profile(tenant, {**profile, "id": profile.get("id") or self.profile}, is_new=is_new)

    def keep_profile(self, tenant: str, given: Doc, *, is_new: bool = False) -> None:
        """Store a profile: what is given of it, and the rest as usual. Raises ValueError for a wrong shape."""
        made = iso(self.now if is_new else self.now - BEFORE)
        base = new_profile(str(given.get("id", "")), tenant, made)
        check_shape("profile", base, given)
        doc = filled(base, given)
        self.store.docs[Ref("profile", make_key("profile", tenant, doc["id"]))] = doc
        for member in (TRUSTED, CLAIMED):
            self._keep_claims(doc, member)

    def _keep_claims(self, profile: Doc, member: str) -> None:
        """Let the identifying values of a profile be its own. Raises ValueError for a wrong shape."""
        check_shape(
            f"profile.{member}", {name: [] for name in profile.get(member, {})}, profile.get(member, {})
        )
        for name, values in profile.get(member, {}).items():
            kind = kind_of(self.workspace.identifiers.kinds, name)
            for value in values:
                text = kind.normalise(value)
                if text is None:
                    raise ValueError(f"profile.{member}.{name}: {value!r} identifies nobody.")
                key = claim_key(profile["tenant"], name, text, is_trusted=member == TRUSTED)
                self.store.docs[Ref("claim", key)] = {"profile": profile["id"]}

    def keep_session(self, source: Source, given: Doc) -> None:
        """Store a session. Raises ValueError for a wrong shape."""
        session = str(given.get("id") or SESSION)
        base = new_session(session, source.tenant, source.id, iso(self.now - BEFORE))
        check_shape("session", base, given)
        doc = filled(base, given)
        self.store.docs[Ref("session", make_key("session", source.tenant, session))] = doc

    def keep_past(self, source: Source, place: int, given: Doc) -> None:
        """Store an earlier event of the visitor; without a time it is `place` minutes older than the first."""
        event_id = str(given.get("id") or f"past-{place}")
        happened = iso(self.now - timedelta(minutes=place))
        base = {
            "id": event_id,
            "type": "past",
            "properties": {},
            "context": {},
            "source": source.id,
            "tenant": source.tenant,
            "session": None,
            "profile": self.profile,
            "time": {"happened": happened, "received": happened},
        }
        check_shape("past", base, given)
        self.store.add_event(Row(make_key("event", source.tenant, source.id, event_id), filled(base, given)))

    def stored(self, kind: str, tenant: str, name: str | None) -> Doc | None:
        """Return a profile or session as it is now."""
        return (
            None
            if name is None
            else self.store.docs.get(Ref(cast("Any", kind), make_key(kind, tenant, name)))
        )

    async def send(self, source: Source, event: EventInput) -> Processed:
        """Process one event. Raises InputError when its time cannot be read."""
        self._sent += 1
        event.id = event.id or f"event-{self._sent}"
        request = TrackRequest(
            source.id,
            [event],
            "collect" if self.session is None else "track",
            self.now,
            session_id=self.session,
            profile_id=self.profile,
            profile_less=self.profile is None,
        )
        processed = await self._process(source, request, self.workspace)
        # What waited for this event goes on with it.
        for fired in await self.fire(self.now):
            processed.passages.extend(fired.passages)
        return processed

    async def fire(self, until: datetime) -> list[Processed]:
        """Move the clock on and let runs that wait go on, each when its time comes; returns what became of each."""
        processed: list[Processed] = []
        while True:
            due = [timer for timer in self.store.timers if is_pending(timer) and timer["due"] <= iso(until)]
            if not due:
                return processed
            timer = min(due, key=lambda each: str(each["due"]))
            self.now = max(self.now, from_iso(timer["due"]))
            processed.append(Processed(await self._go_on(timer), []))

    async def _go_on(self, timer: Doc) -> list[Passage]:
        newest: Doc | None = timer
        if timer["kind"] == "wake":
            timer |= {"status": "fired"}
            newest = await newest_timer(self._parts, timer, self.now)
        if newest is None:
            return []
        resumption = Resumption(self._parts, newest, self.now)
        resumption.job.is_watched = True
        await resumption.run()
        newest |= resumption.outcome.content()
        return [passage for attempt in resumption.job.committed for passage in attempt.passages]

    async def tick(self, source: Source, workflow: Workflow, schedule: Schedule) -> list[Processed]:
        """Run a workflow by its schedule, at the time that the clock shows; returns what became of each event."""
        profiles: list[str | None] = [None]
        if schedule.segment is not None:
            profiles = self._in_segment(source.tenant, schedule.segment)
        workspace, processed = self.workspace.only(TYPE, workflow), []
        for profile in profiles:
            event = tick_event(workflow, self.now, f"{workflow.name}/{iso(self.now)}/{profile or ''}")
            request = TrackRequest(
                source.id, [event], INTERNAL, self.now, profile_id=profile, profile_less=profile is None
            )
            processed.append(await self._process(source, request, workspace))
        return processed

    def _in_segment(self, tenant: str, segment: str) -> list[str | None]:
        kept = [doc for ref, doc in self.store.docs.items() if ref.kind == "profile"]
        return [doc["id"] for doc in kept if doc["tenant"] == tenant and segment in doc["segments"]]

    @property
    def parts(self) -> Parts:
        """What its requests share."""
        return self._parts

    @property
    def zone(self) -> tzinfo:
        """The time zone of wall clocks for which no other is named."""
        return self._parts.zone

    async def _process(self, source: Source, request: TrackRequest, workspace: Workspace) -> Processed:
        admission = Admission(source, self.tracing, debugger=True, debugger_refused=False, not_kept="")
        job = Job(request, admission, workspace)
        await commit_all(self._parts, job)
        passages = [passage for attempt in job.committed for passage in attempt.passages]
        errors = [error for attempt in job.committed for error in attempt.errors]
        return Processed(passages, errors)
