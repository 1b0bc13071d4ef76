"""Stores for a replay: one keeps every write, one passes it on."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from headrace.engine.draft import PAST, WAITS
from headrace.engine.files.watched import NOTHING, Watched
from headrace.engine.model import Doc, from_iso, iso
from headrace.engine.replay.members import as_then
from headrace.engine.replay.scratch import Scratch
from headrace.engine.store.looking import Looking
from headrace.engine.store.protocol import (
    Change,
    Committed,
    Outcome,
    Page,
    Query,
    Ref,
    Row,
    Store,
    Stored,
    Version,
    Write,
)

MOMENT = timedelta(milliseconds=1)
MOST_OF_A_MOMENT = 500


class History:
    """Events of a profile as they were when one event was received: itself and what came later do not exist yet."""

    def __init__(self, look: Looking, event: Doc) -> None:
        self._look = look
        self._key: str = event["key"]
        self.received = from_iso(event["time"]["received"])
        self._moment: list[Doc] | None = None

    async def find(self, query: Query) -> Page:
        """Return earlier events, the newest first."""
        same = await self._same_moment(query)
        page = await self._look.find(replace(query, until=self.received))
        return Page([*same, *page.items][: query.limit], None)

    async def count(self, query: Query, at_most: int | None = None) -> int:
        """Count earlier events, no further than `at_most`."""
        found = len(await self._same_moment(query))
        found += await self._look.count(replace(query, until=self.received), at_most)
        return found if at_most is None else min(found, at_most)

    async def _same_moment(self, query: Query) -> list[Doc]:
        """Return what came in the same request before the event: one moment, told apart by its order."""
        if self._moment is None:
            asked = Query("event", tenant=query.tenant, profile=query.profile, limit=MOST_OF_A_MOMENT)
            page = await self._look.find(replace(asked, since=self.received, until=self.received + MOMENT))
            keys = [doc["key"] for doc in page.items]
            place = keys.index(self._key) if self._key in keys else len(keys)
            self._moment = page.items[place + 1 :]
        since = "" if query.happened_since is None else iso(query.happened_since)
        return [
            doc
            for doc in self._moment
            if query.type in (None, doc["type"])
            and doc["time"]["happened"] >= since
            and doc["profile"] in (query.owners or ())
        ]


class Overlay:
    """What a dry replay takes for the store: documents as the store, or an event before, left them; nothing is written.

    Events are looked up as they were at the event at hand. A profile is in the segments that ask for the past as the
    past was then, by the conditions that are `watched` now.
    """

    lags = False
    """What was there then is found."""

    def __init__(self, look: Looking, scratch: Scratch, watched: Watched = NOTHING) -> None:
        self._look = look
        self._scratch = scratch
        self._watched = watched
        self._version: Version = (1, 0)
        self._history: History | None = None
        self.effects: list[Row] = []
        self.timers: list[Row] = []

    def begin(self, event: Doc) -> None:
        """Begin the replay of an event; what the one before wanted to send is forgotten."""
        self._history = History(self._look, event)
        self.effects, self.timers = [], []

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:  # noqa: ARG002
        """Return documents, which the reader may change. No event was seen before."""
        found: dict[Ref, Doc | None] = {
            ref: None if ref.kind == "seen" else self._scratch.get(ref.kind, ref.key) for ref in refs
        }
        left = [ref for ref, doc in found.items() if doc is None and ref.kind != "seen"]
        stored = dict(zip(left, await self._look.read(left), strict=True)) if left else {}
        return [await self._stored(ref, found[ref], stored.get(ref)) for ref in refs]

    async def _stored(self, ref: Ref, kept: Doc | None, stored: Stored | None) -> Stored | None:
        found = stored if kept is None else Stored(kept, self._version)
        if found is None:
            return None
        # No run goes on here, so none hears that what it waits for came.
        found.doc.pop(WAITS, None)
        # What segments know of the past is found anew, as it was when the event came.
        found.doc.pop(PAST, None)
        if ref.kind == "profile" and self._history is not None:
            now = self._history.received
            return Stored(await as_then(found.doc, self._watched, self, now), found.version)
        return found

    async def commit(self, change: Change) -> Outcome:
        """Keep profile and session, and what would be sent."""
        writes: dict[str, Write | None] = {"profile": change.profile, "session": change.session}
        for kind, write in writes.items():
            if write is not None:
                self._scratch.put(kind, write.key, write.doc)
        self.effects += change.effects
        self.timers += change.timers
        return Committed()

    async def keep_traces(self, traces: Sequence[Row]) -> None:
        """Keep none."""

    async def keep_workflow(self, row: Row) -> None:
        """Keep none: no run that waits here ever goes on."""

    async def find(self, query: Query) -> Page:
        """Return events of a profile from before the event at hand, the newest first."""
        return Page([], None) if self._history is None else await self._history.find(query)

    async def count(self, query: Query, at_most: int | None = None) -> int:
        """Count events of a profile from before the event at hand, no further than `at_most`."""
        return 0 if self._history is None else await self._history.count(query, at_most)


class Through:
    """The store itself, for one event that is replayed for good.

    What is kept of that event is said to be a replay, so that no list or report counts it twice as what it was.
    """

    def __init__(self, store: Store, event: Doc, key: str, about: Doc) -> None:
        self.lags = store.lags
        self._store = store
        self._history = History(store, event)
        self._id: str = event["id"]
        self._key = key
        self._about = about

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:
        """Read as the store does."""
        return await self._store.read(refs, recent=recent)

    async def commit(self, change: Change) -> Outcome:
        """Commit, with the event as a replay."""
        change.events = [Row(row.key, self._said(row)) for row in change.events]
        return await self._store.commit(change)

    def _said(self, row: Row) -> Doc:
        if row.key == self._key:
            return row.doc | self._about
        if row.doc.get("emitted_by") == self._id:
            # It was caused by the replay, not by what was replayed.
            return row.doc | {"emitted_by": self._key}
        return row.doc

    async def keep_traces(self, traces: Sequence[Row]) -> None:
        """Keep traces as the store does."""
        await self._store.keep_traces(traces)

    async def keep_workflow(self, row: Row) -> None:
        """Keep a version as the store does."""
        await self._store.keep_workflow(row)

    async def find(self, query: Query) -> Page:
        """Return events from before the event that is replayed."""
        return await self._history.find(query)

    async def count(self, query: Query, at_most: int | None = None) -> int:
        """Count events from before the event that is replayed."""
        return await self._history.count(query, at_most)
