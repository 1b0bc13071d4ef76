"""A request at work: what came in, what became of it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from math import inf
from time import perf_counter
from typing import NamedTuple

import msgspec

from headrace.engine.draft import Draft
from headrace.engine.errors import BusyError, FieldError, InputError
from headrace.engine.files.source import Source
from headrace.engine.files.workspace import Workspace
from headrace.engine.identity.values.decide import Decision
from headrace.engine.identity.values.weigh import Ground
from headrace.engine.model import (
    Doc,
    EventError,
    EventInput,
    TrackRequest,
    content_hash,
    iso,
    make_key,
    new_event_id,
)
from headrace.engine.passage import Budget, Passage, Surroundings

OLDEST = timedelta(days=400)
NEWEST = timedelta(minutes=5)
"""How far a client's clock is believed; docs/events.md, Bodies."""


class Incoming(msgspec.Struct, eq=False):
    """One event of a request with its id, key and time; the same in every attempt.

    `content` is the hash of what the client sent, or "" when it gave no id and there is nothing to compare.
    """

    input: EventInput
    id: str
    key: str
    content: str
    happened: str


class Admission(NamedTuple):
    """What the step `admit` decided."""

    source: Source
    tracing: bool
    debugger: bool
    debugger_refused: bool
    not_kept: str


class Attempt(msgspec.Struct):
    """One try at a commit: its draft, and what to report of it if it is committed.

    `duplicate_of` is the profile of the first event that was sent before; `contents` are the hashes of the new ones.
    `written` says that the draft is durable; one of nothing but duplicates never is. `accepted` counts the events that
    were processed, what they emitted too. Of those of which there is nothing to tell, `went_well` names the workflows
    that ran; `passages` are the others.
    """

    draft: Draft
    around: Surroundings
    accepted: int = 0
    went_well: list[str] = []
    passages: list[Passage] = []
    errors: list[EventError] = []
    duplicates: list[str] = []
    duplicate_of: str | None = None
    contents: dict[str, str] = {}
    written: bool = False
    _budget: Budget | None = None

    def renew_budget(self) -> Budget:
        """Return the whole budget of an event; its turn goes on, since the events of a request share the loop."""
        budget = self._budget
        if budget is None:
            budget = self._budget = Budget()
        else:
            budget.renew()
        return budget

    @property
    def has_news(self) -> bool:
        """Say whether an event was processed, or kept among the failed ones."""
        return bool(self.accepted or self.draft.failed)


class Wants(msgspec.Struct):
    """What the next attempt must lock besides the request's own session and profile, and where it must end."""

    profile: str | None = None
    session: str | None = None
    end: int | None = None
    rounds: int = 0
    """How often the event asked for another lock so far."""


class Job:
    """A request on its way: the snapshot of the workspace it runs against, its events, its committed attempts.

    One that `makes_profiles` makes the profile that it names, or any, when there is none.
    """

    makes_profiles = True
    attempt: Callable[..., Awaitable[int | None]] | None = None
    """Makes an attempt in place of `track.attempt_part`, for a run that goes on."""
    is_reshaped = False
    """Its event was checked and reshaped before: it is replayed as it was kept."""

    may_detour = frozenset((Decision.MERGED, Decision.MOVED))
    """What may be done between its attempts for the identity of its profile."""

    def __init__(self, request: TrackRequest, admission: Admission, workspace: Workspace) -> None:
        self.request = request
        self.admission = admission
        self.source = admission.source
        self.tenant = admission.source.tenant
        self.workspace = workspace
        self.received = iso(request.received)
        # A copy, since the source outlives the request.
        self.source_doc = dict(admission.source.doc)
        self.saves_events = request.options.save_events
        self.is_watched = admission.debugger or admission.tracing
        self.incoming = incoming_events(request, self.tenant, self.received)
        self.faults: dict[str, str] = {}
        self.alike: Doc = {}
        self.attempts = 0
        # Whose claim an attempt lost to: the next goes on with that profile.
        self.adopt: str | None = None
        # Whom an identifying value named: events without a stored session go on with that profile.
        self.identified: str | None = None
        # What was done for the identity of each event, by its key: the name of the kind, or node, and the decision.
        self.detours: dict[str, list[tuple[str, Decision]]] = {}
        self.ends = inf
        self.committed: list[Attempt] = []

    @property
    def ground(self) -> Ground:
        """What identifying stands on in this request."""
        return Ground(
            self.workspace.identifiers.kinds,
            not self.source.is_public,
            bool(self.may_detour),
            self.may_detour,
        )

    @property
    def came_by(self) -> str | None:
        """The source that is noted in the profile, where a source of the tenant asks for consents; else None.

        Nobody came whom a schedule found.
        """
        is_found = not (self.makes_profiles or self.request.profile_less)
        return self.source.id if self.tenant in self.workspace.asking and not is_found else None

    def check_deadline(self) -> None:
        """Raise BusyError when the request's time is over."""
        if perf_counter() > self.ends:
            raise BusyError("the request took longer than its deadline")


def incoming_events(request: TrackRequest, tenant: str, received: str) -> list[Incoming]:
    """Give every event its id, key and time. Raises InputError when a time cannot be read."""
    skew = _skew(request)
    events: list[Incoming] = []
    for place, given in enumerate(request.events):
        client_id = given.id
        if client_id is None and request.idempotency_key is not None:
            client_id = f"{request.idempotency_key}/{place}"
        event_id = client_id or new_event_id()
        key = make_key("event", tenant, request.source_id, event_id)
        content = "" if client_id is None else content_hash((given.type, given.properties, given.time))
        happened = received if given.time is None else _happened(given.time, place, request.received, skew)
        events.append(Incoming(given, event_id, key, content, happened))
    return events


def _skew(request: TrackRequest) -> timedelta:
    if request.sent_at is None:
        return timedelta()
    return request.received - _time(request.sent_at, "/sentAt")


def _happened(text: str, place: int, received: datetime, skew: timedelta) -> str:
    # Reckoned as an age: a time of the year 9999 or 1, moved by a skew as large, would not be a date.
    age = received - _time(text, f"/events/{place}/time") - skew
    return iso(received - min(max(age, -NEWEST), OLDEST))


def _time(text: str, pointer: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        message = "should be an ISO 8601 time, such as 2026-01-15T12:00:00Z"
        raise InputError(422, "bad_fields", f"{pointer} {message}", [FieldError(pointer, message)]) from None
