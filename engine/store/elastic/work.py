"""A change made ready for the cluster: every document rendered once."""

import asyncio
from collections.abc import Iterator
from math import inf
from time import monotonic, time_ns
from typing import Literal, NamedTuple

from headrace.engine.errors import BusyError
from headrace.engine.model import iso_now
from headrace.engine.store.elastic.documents import (
    claim_source,
    created_at,
    doc_id,
    event_source,
    listed_source,
    mark_source,
    profile_source,
    session_claim,
    session_source,
)
from headrace.engine.store.elastic.layout import alias, month_index
from headrace.engine.store.elastic.parts import Part, Planned, part_of
from headrace.engine.store.elastic.place import Place
from headrace.engine.store.encoding import encode_doc, text_or_none, time_in
from headrace.engine.store.protocol import Change, Claim, Row, Version

_STEP = 8
"""Between a session's numbers: writes that only move or link it, or empty its `pending`, each count one up."""

FEW = 20
"""Events that are rendered in one go."""

TURN_SECONDS = 0.004

RecordKind = Literal["profile", "session", "event"]


class Base(NamedTuple):
    """The version of a document that was read: what a store's `Version` holds here.

    `n` is a session's number (0: its id is claimed and nothing else of it written), `parts` are a record's. `owner` is
    the profile that a session names; it may not be made yet when the session is only claimed or `linked`.
    """

    seq_no: int
    term: int
    n: int
    parts: tuple[Part, ...]
    owner: str | None = None
    linked: bool = False


def base_of(version: Version | None) -> Base | None:
    """Return a version as what it is."""
    return None if version is None else Base(*version)


class Record(NamedTuple):
    """The document whose write is the commit; `source` lacks its closing brace, for `pending` to be added."""

    kind: RecordKind
    where: str
    id: str
    base: Base | None
    source: bytes
    doc: bytes = b""
    """The JSON of a profile alone."""


class Claiming(NamedTuple):
    """A claim to make before the record is written; `base` is there when it is one that was never used."""

    key: str
    where: str
    id: str
    base: Base | None
    profile: str | None
    source: bytes
    instead: str | None = None
    """The profile that may give it up."""


class Work:
    """A change with its documents rendered. Raises StoreError for one that is no JSON.

    `ends` is when no more attempts to write it begin, by `monotonic`.
    """

    def __init__(self, change: Change, place: Place, ends: float = inf) -> None:
        self._begin(change, place, ends)
        self._end(list(self._planned()))

    @classmethod
    async def in_turns(cls, change: Change, place: Place, ends: float) -> "Work":
        """Return the same; the loop is given back while many documents are rendered."""
        if len(change.events) < FEW:
            return cls(change, place, ends)
        work = cls.__new__(cls)
        work._begin(change, place, ends)
        planned: list[Planned] = []
        turn_ends = monotonic() + TURN_SECONDS
        for one in work._planned():
            planned.append(one)
            if monotonic() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = monotonic() + TURN_SECONDS
        work._end(planned)
        return work

    def _begin(self, change: Change, place: Place, ends: float) -> None:
        self.change = change
        self._ends = ends
        self._place = place
        self.now = iso_now()
        self.now_ms = time_ns() // 1_000_000
        self.session_base = base_of(change.session.version) if change.session else None
        self.session_number = self._session_number()
        self.keys = [row.key for row in (*change.events, *change.marks) if row.doc.get("content")]

    def _end(self, planned: list[Planned]) -> None:
        self.record = self._record(planned)
        self.base_parts = self.record.base.parts if self.record and self.record.base else ()
        """The parts that the record had when it was read."""
        self.planned = planned
        self.claims = list(self._claims())

    @property
    def patience(self) -> float:
        """How long attempts may still begin, in seconds; 0 when that is over."""
        return max(0.0, self._ends - monotonic())

    def check_time(self) -> None:
        """Raise BusyError when no more may be tried."""
        if not self.patience:
            raise BusyError("Elasticsearch takes too long to write.")

    def _session_number(self) -> tuple[str, int] | None:
        """Return the key of the session that is written, and the number of this write.

        Numbers grow with the clock, so that a session which is made anew after it was erased is above what the
        cluster still remembers of the one before, and a write is above one that only moved the session since.
        """
        write = self.change.session
        if write is None or not (write.changed or write.version is None):
            return None
        return write.key, max((self.session_base.n if self.session_base else 0) + _STEP, self.now_ms)

    @property
    def is_linking(self) -> bool:
        """Say whether a session that had no profile gets one: then its own version must decide, once."""
        write, base = self.change.session, self.session_base
        if self.change.profile is None or write is None or base is None or base.n == 0:
            return False
        return base.owner is None and text_or_none(write.doc.get("profile")) is not None

    @property
    def session_place(self) -> tuple[str, str]:
        """Return where the session is: its index and `_id`."""
        assert self.change.session is not None  # noqa: S101 - who asks has looked
        return alias(self._place, "sessions"), doc_id(self.change.session.key)

    @property
    def is_leaving(self) -> bool:
        """Say whether the profile becomes another one's, or its session does."""
        profile, session = self.change.profile, self.change.session
        if profile is None:
            return False
        moves = session is not None and session.doc.get("profile") != profile.doc.get("id")
        return moves or "merged_into" in profile.doc

    @property
    def is_unguarded(self) -> bool:
        """Say whether the record does not show who wrote the session since it was read.

        It is a new profile, or another one than the session was of then: that one was merged since, as a rule.
        """
        profile, base = self.change.profile, self.session_base
        if profile is None or self.session_number is None or base is None or base.n == 0:
            return False
        return base.owner is not None and (profile.version is None or base.owner != profile.doc.get("id"))

    def is_older(self, written: tuple[str, int]) -> bool:
        """Say whether a write of a session, in a part, is a later one of the change's session than what was read."""
        if self.change.session is None or written[0] != self.change.session.key:
            return False
        return written[1] > (self.session_base.n if self.session_base else 0)

    @property
    def is_idle(self) -> bool:
        """Say whether there is nothing to write at all: the profile is as it was, and nothing is with it."""
        write = self.change.profile
        unchanged = write is not None and not write.changed and write.version is not None
        return unchanged and not self.planned and not self.claims

    def turns(self) -> list[str]:
        """Return the keys of all documents of which there must be one writer at a time in this process."""
        change = self.change
        keys = list(self.keys)
        keys += [write.key for write in (change.profile, change.session) if write is not None]
        return keys + [claim.key for claim in self.claims]

    def part(self) -> Part:
        """Return this change's part of its record."""
        return part_of(self.change.id, self.now_ms, self.keys, self.session_number, self.planned)

    def _planned(self) -> Iterator[Planned]:
        """Render what is written after the record."""
        change, place = self.change, self._place
        if change.session is not None and (number := self.session_number):
            (key, n), doc = number, change.session.doc
            data = encode_doc(doc)
            source = session_source(change.session, change.tenant, change.id, n, self.now, data) + b"}"
            owner = text_or_none(doc.get("profile"))
            yield Planned("session", alias(place, "sessions"), doc_id(key), n, source, data, owner)
        # Marks first: a change that is a mark's must lose to any other that makes the same one.
        for row in change.marks:
            yield self._event(row, mark_source(row, change.tenant, change.id, self.now))
        for row in change.events:
            yield self._event(row, event_source(row, change.tenant, change.id, self.now))
        owner = self._owner()
        for row in change.failed:
            where = month_index(place, "failed", created_at(row.doc, self.now))
            yield self._listed(row, "failed", where, owner)
        for kind in ("effects", "timers"):
            for row in getattr(change, kind):
                yield self._listed(row, kind, alias(place, kind), owner)

    def _event(self, row: Row, source: bytes) -> Planned:
        where = month_index(self._place, "events", time_in(row.doc, "received", self.now))
        return Planned("create", where, doc_id(row.key), 0, source + b"}")

    def _listed(self, row: Row, kind: str, where: str, owner: str | None) -> Planned:
        source = listed_source(row, kind, self.change.tenant, owner, self.now)
        return Planned("create", where, doc_id(row.key), 0, source)

    def _record(self, planned: list[Planned]) -> Record | None:
        """Choose the commit record and take it out of what is written after it."""
        change, place = self.change, self._place
        if change.profile is not None:
            write = change.profile
            data = encode_doc(write.doc)
            source = profile_source(write, change.tenant, change.id, self.now, data)
            where, base = alias(place, "profiles"), base_of(write.version)
            return Record("profile", where, doc_id(write.key), base, source, data)
        if not planned:
            return None
        first = planned[0]
        if first.kind == "session":
            del planned[0]
            return Record("session", first.where, first.id, self.session_base, first.source[:-1])
        if change.events or change.marks:
            del planned[0]
            return Record("event", first.where, first.id, None, first.source[:-1])
        return None

    def _claims(self) -> Iterator[Claiming]:
        """Render the claims that are made first."""
        change, place = self.change, self._place
        session, profile = change.session, change.profile
        if (
            profile is not None
            and session is not None
            and (self.session_base is None or self.session_base.n == 0)
        ):
            source = session_claim(session, change.tenant, change.id)
            owner = text_or_none(session.doc.get("profile"))
            yield Claiming(
                session.key, alias(place, "sessions"), doc_id(session.key), self.session_base, owner, source
            )
        if profile is not None and profile.version is None and session is None:
            # Nothing else keeps two new profiles from counting one event that was sent twice at the same moment.
            owner = str(profile.doc.get("id"))
            for key in self.keys:
                source = claim_source(Claim(key, owner), change.tenant, change.id, self.now)
                yield Claiming(key, alias(place, "claims"), doc_id(key), None, owner, source)
        for claim in change.claims:
            source = claim_source(claim, change.tenant, change.id)
            where, id = alias(place, "claims"), doc_id(claim.key)
            yield Claiming(claim.key, where, id, None, claim.profile, source, claim.instead)

    def _owner(self) -> str | None:
        """Return the id of the profile that the change is about, if any."""
        change = self.change
        if change.profile is not None:
            return text_or_none(change.profile.doc.get("id"))
        if change.session is not None:
            return text_or_none(change.session.doc.get("profile"))
        return text_or_none(change.events[0].doc.get("profile")) if change.events else None
