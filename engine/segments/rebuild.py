"""Asks the conditions of segments of all profiles, from what is stored."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from headrace.engine.draft import PAST
from headrace.engine.errors import InputError
from headrace.engine.files.watched import Computed
from headrace.engine.files.workspace import Workspace
from headrace.engine.identity.follow import is_merged
from headrace.engine.language.past import Aggregate
from headrace.engine.model import Doc, doc_key, from_iso, iso, make_key, new_id, utc_now
from headrace.engine.segments.asked import Asked
from headrace.engine.segments.known import keep_known
from headrace.engine.segments.past import add_event, fresh
from headrace.engine.steps.segments import LAG, counts, placed
from headrace.engine.store.protocol import Change, Committed, Query, Ref, Row, Store, Stored, Write

PAGE = 200
"""Profiles that are worked on at once."""

EVENTS = 1000
"""Events that are read at once."""

TRIES = 20
"""How often a profile is tried that others write at the same time."""

ROUNDS = 6
"""How often profiles that events come for just now are waited for."""

KIND = "rebuild"
"""The kind of the document, among the timers, that says how far a rebuild is."""


@dataclass
class Progress:
    """How far a rebuild is: profiles done, of how many, how many of them changed, and what went wrong.

    `busy` are those that were written too often, or for which events came all the time.
    """

    total: int = 0
    done: int = 0
    changed: int = 0
    busy: int = 0
    errors: list[str] = field(default_factory=list)


class Rebuild:
    """A rebuild of some segments of a tenant. It goes on where the last one of the same conditions was ended.

    Servers may run: a profile is written only as it was read, else it is read again. No internal events are made. Who
    has not given the consents that are asked for enters and leaves nothing.
    """

    def __init__(
        self,
        store: Store,
        workspace: Workspace,
        tenant: str,
        segments: Sequence[Computed],
        clock: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._watched = workspace.watched
        self._asked = Asked(workspace.sources, tenant)
        self._tenant = tenant
        self._segments = segments
        self._past = tuple({each.key: each for one in segments for each in one.past}.values())
        self._clock = clock
        self._sleep = sleep
        self._key = make_key(KIND, tenant, *sorted(f"{one.name} {one.mark}" for one in segments))
        self._cursor: str | None = None
        self._later: list[str] = []
        self.progress = Progress()
        self.resumed = False

    async def begin(self) -> None:
        """Find out how much there is to do, and what was done. Raises StoreError."""
        self.progress.total = await self._store.count(Query("profile", self._tenant))
        kept = await self._store.get("timer", self._key)
        if kept is not None and kept.get("cursor"):
            self._cursor, self.resumed = kept["cursor"], True
            self.progress.done, self._later = kept["done"], list(kept["later"])
        elif kept is None:
            await self._store.commit(Change(new_id(), self._tenant, timers=[Row(self._key, self._note())]))

    async def run(self) -> AsyncIterator[Progress]:
        """Work, and yield how far it is after each part. Raises StoreError, BusyError."""
        while True:
            ids, self._cursor = await self._page()
            self._later += await self._work(ids)
            self.progress.done += len(ids)
            await self._keep()
            yield self.progress
            if self._cursor is None:
                break
        for _ in range(ROUNDS):
            if not self._later:
                break
            await self._sleep(LAG.total_seconds() / 2)
            later, self._later = self._later, []
            for first in range(0, len(later), PAGE):
                self._later += await self._work(later[first : first + PAGE])
            yield self.progress
        self.progress.busy += len(self._later)
        # Whose turn never came is found again by the next rebuild; no id of anybody stays here.
        self._later = []
        await self._keep()
        if not (self.progress.busy or self.progress.errors):
            await keep_known(self._store, self._tenant, self._segments)

    async def _page(self) -> tuple[list[str], str | None]:
        query = Query("profile", self._tenant, cursor=self._cursor, limit=PAGE)
        try:
            page = await self._store.find(query)
        except InputError:
            # The place is one of another store, which was copied into this one.
            page = await self._store.find(Query("profile", self._tenant, limit=PAGE))
        return [str(doc["id"]) for doc in page.items], page.cursor

    async def _keep(self) -> None:
        note = self._note()
        await self._store.amend("timer", self._key, lambda doc: doc | note)

    def _note(self) -> Doc:
        now = iso(self._clock())
        return {
            "id": self._key,
            "kind": KIND,
            "tenant": self._tenant,
            "event": None,
            "workflow": None,
            "version": None,
            "node": None,
            "profile": None,
            "status": "fired",
            "created": now,
            "due": now,
            "segments": [segment.name for segment in self._segments],
            "cursor": self._cursor,
            "done": self.progress.done,
            "later": self._later,
        }

    async def _work(self, ids: list[str]) -> list[str]:
        """Rebuild profiles; returns those for which events came a moment ago, which may not all be found yet."""
        later: list[str] = []
        for _ in range(TRIES):
            if not ids:
                return later
            refs = [Ref("profile", doc_key("profile", self._tenant, one)) for one in ids]
            stored = {one: doc for one, doc in zip(ids, await self._store.read(refs), strict=True) if doc}
            now = self._clock()
            found: dict[str, Stored] = {}
            for one, kept in stored.items():
                if is_merged(kept.doc):
                    # What is known of it is with another.
                    continue
                if self._past and now - from_iso(kept.doc["time"]["updated"]) < LAG:
                    later.append(one)
                else:
                    found[one] = kept
            pasts = await self._pasts(found, now)
            writing = (self._write(kept, pasts.get(one, {}), now) for one, kept in found.items())
            written = await asyncio.gather(*writing)
            ids = [one for one, done in zip(found, written, strict=True) if not done]
        self.progress.busy += len(ids)
        return later

    async def _pasts(self, found: dict[str, Stored], now: datetime) -> dict[str, Doc]:
        """Return what stored events tell of profiles, by their ids."""
        if not self._past or not found:
            return {}
        owner = {other: one for one, kept in found.items() for other in {one, *kept.doc["ids"]}}
        pasts: dict[str, Doc] = {one: fresh(self._past) for one in found}
        # What is committed from here on changes the version by which a profile was read.
        await self._store.catch_up(self._tenant, tuple(owner))
        query = self._events(tuple(owner), now)
        while True:
            page = await self._store.find(query)
            for event in page.items:
                if event["profile"] in owner and counts(event):
                    aggregates, _ = self._watched.of_type(event["type"])
                    add_event(pasts[owner[event["profile"]]], aggregates, event, now.timestamp())
            if page.cursor is None:
                return pasts
            query = replace(query, cursor=page.cursor)
            await asyncio.sleep(0)

    def _events(self, profiles: tuple[str, ...], now: datetime) -> Query:
        """Return the question for the events of some profiles, as narrow as it can be."""
        patterns = {each.pattern for each in self._past}
        (only,) = patterns if len(patterns) == 1 else (None,)
        seconds = _longest(self._past)
        since = None if seconds is None else datetime.fromtimestamp(now.timestamp() - seconds, now.tzinfo)
        return Query(
            "event",
            self._tenant,
            type=None if only is None or "*" in only else only,
            profile=profiles,
            happened_since=since,
            limit=EVENTS,
        )

    async def _write(self, kept: Stored, past: Doc, now: datetime) -> bool:
        """Write a profile if it is not as it should be; False when somebody else wrote it meanwhile."""
        doc = self._rebuilt(kept.doc, past, now)
        if doc is None:
            return True
        write = Write(doc_key("profile", self._tenant, doc["id"]), doc, kept.version)
        outcome = await self._store.commit(Change(new_id(), self._tenant, profile=write))
        if not isinstance(outcome, Committed):
            return False
        self.progress.changed += 1
        return True

    def _rebuilt(self, before: Doc, past: Doc, now: datetime) -> Doc | None:
        """Return a profile as it should be, or None when it is."""
        known = {
            key: value for key, value in before.get(PAST, {}).items() if key in self._watched.keys
        } | past
        asked = self._segments if self._asked.has_agreed(before, iso(now)) else ()
        segments = placed(
            before, asked, known, now, lambda name, error: self._tell(f"{name}: {before['id']}: {error}")
        )
        if segments == before["segments"] and known == before.get(PAST, {}):
            return None
        after: dict[str, Any] = {**before, "segments": segments, PAST: known}
        if not known:
            del after[PAST]
        return after

    def _tell(self, error: str) -> None:
        if len(self.progress.errors) < 10:
            self.progress.errors.append(error)


def _longest(past: Sequence[Aggregate]) -> float | None:
    """Return how far back any window goes, with a day to spare for its first bucket; None for all time."""
    longest = 0.0
    for each in past:
        if each.seconds is None:
            return None
        longest = max(longest, each.seconds)
    return longest + 2 * 86_400
