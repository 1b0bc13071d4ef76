"""The contract of a store: State, Due and Ask.

`State` is the write path: it reads by id, in real time, and commits a `Change` whole or not at all. `Due` hands out
effects and timers to workers under a lease. `Ask` answers questions, which may lag behind the writes.
Every store passes the suite in tests/store_contract.py; `store.moving` is how everything is carried into another one.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from headrace.engine.model import Doc

Version = tuple[Any, ...]
"""The version of a stored document; only a store gives it a meaning."""

CLAIMED = "claimed"
"""Marks a session whose id was claimed by a change that did not come, or comes just now: it begins anew, and its
profile, if there is none yet, is made with the id that it names."""

LATE = "event"
"""The member of a claim that names the key of an event without a profile: a run of it that waited got the profile."""

StateKind = Literal["profile", "session", "seen", "claim", "workflow"]
DueKind = Literal["effect", "timer"]
AmendKind = Literal["effect", "timer", "failed"]
AskKind = Literal["profile", "session", "event", "failed", "effect", "timer", "trace"]
OwnedKind = Literal["event", "mark", "session", "claim", "failed", "effect", "timer", "trace"]

NoteCommit = Callable[[int, float], None]
"""Is told of a durable write: how many changes it took together, and how many seconds it lasted."""

OWNED: tuple[OwnedKind, ...] = (*("event", "mark", "session", "claim", "failed", "effect", "timer", "trace"),)
"""Every kind of what belongs to a profile, in the order in which it is erased and exported."""


def note_nothing(changes: int, seconds: float) -> None:
    """Let a durable write go by."""


class Ref(NamedTuple):
    """Names one document on the write path.

    `seen` asks whether an event's key was taken: an event or its mark, as `{"profile", "content", "id"}`.
    `profile` in `seen` and `claim` is the profile's id, or None. `workflow` is a version of a workflow's file.
    """

    kind: StateKind
    key: str


class Stored(NamedTuple):
    """A document as it was read, with the version to write it back against. The reader may change the document."""

    doc: Doc
    version: Version


@dataclass(slots=True)
class Write:
    """One document to write: its key, its whole new content, and the version that was read (None: it is new).

    With `changed` False the content is as it was read: the version is checked, and a store need not write it.
    """

    key: str
    doc: Doc
    version: Version | None
    changed: bool = True


@dataclass(slots=True)
class Claim:
    """Says that a visitor, an identifying value or an instance id (`key`) belongs to the profile with id `profile`."""

    key: str
    profile: str
    doc: Doc = field(default_factory=dict)
    instead: str | None = None
    """Whom it names now, a profile that has not got what it says: that one gives it up."""


class Row(NamedTuple):
    """A document to add under a key that may be there already, which is then left as it is."""

    key: str
    doc: Doc


@dataclass(slots=True)
class Change:
    """All that one commit writes, for one visitor; it is applied whole or not at all.

    `id` makes it harmless to commit it twice. A session is the claim of its id: a new one that is there already makes
    the commit `Taken`. `events`, `marks` (`{"profile", "content", "id", "received"}`), `failed`, `effects` and
    `timers` are added by key. An event's key that another change took, as event or mark, makes the commit a
    `Conflict`; keys of the others that are there are left alone.
    """

    id: str
    tenant: str
    profile: Write | None = None
    session: Write | None = None
    claims: list[Claim] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    marks: list[Row] = field(default_factory=list)
    failed: list[Row] = field(default_factory=list)
    effects: list[Row] = field(default_factory=list)
    timers: list[Row] = field(default_factory=list)
    seconds: float | None = None
    """How long a store that tries again may begin to; None: as long as it does by itself."""
    continues: bool = False
    """Whether earlier events of its request were committed before: questions give both in their order."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The change is durable."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A document was written by someone else since it was read, or an event's key was taken: read and run again."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A claim or a new session's id belongs to another profile already: run again with the winner's id."""

    key: str
    profile: str | None


@dataclass(frozen=True, slots=True)
class Frozen:
    """The session's profile is half merged into another one: finish that merge, then run again."""

    profile: str


Outcome = Committed | Conflict | Taken | Frozen


class Leased(NamedTuple):
    """A due effect or timer in the hands of one worker until its lease ends."""

    key: str
    doc: Doc
    lease: str


class Waiting(NamedTuple):
    """How many effects or timers are pending, and since when the oldest is there (`model.iso`), or None.

    Of timers it is when the first one is due: a timer may well be old.
    """

    number: int
    oldest: str | None


@dataclass(frozen=True, slots=True)
class Query:
    """A question about one kind of document, newest first.

    `since` (inclusive) and `until` (exclusive) bound the received time of events and failed events, the creation of
    others. `profile`, `session` are ids; of profiles several may be named. `where` asks for equality at dotted paths
    (`traits.email`, `segments` contains, `traits['my.key']`); a value that is a number or a boolean equals its JSON
    text. `event` is an event's key or client's id for events, and for others what their `event` says. Sessions and
    profiles whose document says `"hidden": true` are not found (but read by State). A kind answers only filters that
    mean something for it, else InputError. `cursor` is what the page before gave. `happened_since` bounds an event's
    `time.happened`.
    """

    kind: AskKind
    tenant: str = "main"
    type: str | None = None
    source: str | None = None
    profile: str | tuple[str, ...] | None = None
    session: str | None = None
    event: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    happened_since: datetime | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    cursor: str | None = None
    limit: int = 50

    @property
    def owners(self) -> tuple[str, ...] | None:
        """The profiles that are asked for; None for all."""
        return (self.profile,) if isinstance(self.profile, str) else self.profile


class Page(NamedTuple):
    """A part of an answer; `cursor` is None at the end."""

    items: list[Doc]
    cursor: str | None


class State(Protocol):
    """The write path."""

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:
        """Return each document by its id, as it is now, or None. Raises StoreError.

        With `recent` a profile or session may be as this process wrote it last, somewhat older than what another
        process wrote since: for a reader whose commit will have the version checked. A store need not know `recent`.
        """
        ...

    async def commit(self, change: Change) -> Outcome:
        """Write a change durably, whole or not at all. Raises StoreError when the store cannot take it."""
        ...

    async def keep_workflow(self, row: Row) -> None:
        """Keep a version of a workflow's file durably, unless it is kept already. Raises StoreError."""
        ...

    async def keep_traces(self, traces: Sequence[Row]) -> None:
        """Keep traces, best effort, after their commit."""
        ...


class Due(Protocol):
    """Effects and timers whose time has come."""

    async def claim_due(
        self, kind: DueKind, n: int, lease_seconds: float, now: datetime, *, newest: bool = False
    ) -> list[Leased]:
        """Hand out up to `n` pending documents with `due` <= now that nobody holds, oldest first, or newest first.

        A document is pending while its `status` is "pending" or absent; without `due` it is due from its creation.
        """
        ...

    async def done(self, kind: DueKind, leased: Leased, doc: Doc) -> bool:
        """Write what became of it and give the lease back; False when the lease was lost in between."""
        ...

    async def done_many(self, kind: DueKind, done: Sequence[tuple[Leased, Doc]]) -> list[bool]:
        """Do `done` for several documents, each for itself, with few writes."""
        ...

    async def amend(self, kind: AmendKind, key: str, change: Callable[[Doc], Doc | None]) -> Doc | None:
        """Change one document as it is now and return it; None when it is not there, or `change` returns None.

        Of a failed event its `status` and what is not asked for may change. Whoever holds a lease on it loses it.
        `change` may be called again, or in another thread.
        """
        ...

    async def waiting(self, kind: DueKind) -> Waiting:
        """Count what is pending, no further than 100,000; the answer may lag behind the writes."""
        ...


OLDEST: Mapping[DueKind, str] = {"effect": "created", "timer": "next"}
"""The time by which `Due.waiting` finds the oldest of a kind."""

MOST_COUNTED = 100_000
"""How far `Due.waiting` counts."""


class Ask(Protocol):
    """Questions; the answers of one that `lags` may not know yet what was committed a moment ago."""

    lags: bool

    async def get(self, kind: AskKind, key: str) -> Doc | None:
        """Return one document by its key."""
        ...

    async def find(self, query: Query) -> Page:
        """Return the newest documents that fit, a page at a time. Raises InputError on a bad cursor."""
        ...

    async def count(self, query: Query, at_most: int | None = None) -> int:
        """Return how many documents fit, counting no further than `at_most`."""
        ...

    async def catch_up(self, tenant: str, profiles: Sequence[str]) -> None:
        """Let questions find all events that were committed for some profiles until now. Raises StoreError."""
        ...

    async def report(self, query: Query, by: Literal["type", "day", "source"]) -> list[Doc]:
        """Count events and distinct profiles by type, day (UTC) or source: `{"bucket", "events", "profiles"}`."""
        ...

    async def erase(self, tenant: str, profile: str | Sequence[str]) -> dict[str, int]:
        """Delete a profile, or several, by all ids, and all that belongs to them; returns how many of each kind went.

        Nothing of it is left in the file, or found in an index. A second time nothing is left to do.
        """
        ...

    def owned(self, kind: OwnedKind, tenant: str, profiles: Sequence[str]) -> AsyncIterator[Doc]:
        """Yield what belongs to some profiles, as `erase` deletes it: with what came before its session had a profile,
        or its run got one, and all that is known only by such an event.

        A mark is `{"key", "id", "received"}`, a claim has its `key` and `profile`.
        """
        ...

    async def reown(self, tenant: str, loser: str, survivor: str) -> int:
        """Give the events, sessions and timers of one profile to another, keeping `profile_then`; returns how many."""
        ...

    async def give_back(self, tenant: str, owners: Sequence[str], then: Sequence[str], profile: str) -> int:
        """Give back what `reown` took: the events, sessions and timers that are of one of `owners` now, and whose
        `profile_then` is one of `then`, become the profile's; returns how many. A second time nothing is left to do.
        """
        ...


class Store(State, Due, Ask, Protocol):
    """A whole store: what `open_store` gives."""

    async def prune(self, kind_days: Mapping[str, int], now: datetime) -> dict[str, int]:
        """Delete what is older than the days of its kind; returns how many of each kind went.

        Profiles and sessions age from their last update, timers from their `ended`, effects only once they are done.
        The keys of events stay known as marks until their `dedup_days` are over. Raises ValueError for an unknown kind.
        """
        ...

    async def ready(self) -> str:
        """Return "" when the store can take writes, else a short code that says why not."""
        ...

    async def close(self) -> None:
        """Flush what is queued and close."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return facts for /readyz and logs: kind, place, sizes."""
        ...
