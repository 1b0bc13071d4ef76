"""All that belongs to some profiles: found."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from headrace.engine.model import Doc, make_key
from headrace.engine.store.elastic.cluster import Cluster
from headrace.engine.store.elastic.keeping import EVENT, indices_of
from headrace.engine.store.elastic.place import Place
from headrace.engine.store.elastic.reading import doc_of
from headrace.engine.store.elastic.search import Body, Hit, refresh, scan
from headrace.engine.store.protocol import LATE, OWNED, OwnedKind

T = TypeVar("T")

TERMS = 1_000
"""Values that one question names at most."""

LINKED: tuple[OwnedKind, ...] = ("effect", "timer", "trace")
"""What may be known only by its event."""

OWNED_INDICES = tuple(kind for kind in OWNED if kind != "mark")
"""The kinds that have indices; marks stand beside the events."""

_PROFILE: Body = {"exists": {"field": "profile"}}


class _Source(msgspec.Struct):
    """What is read of a source, and the `_id` that it has."""

    id: str | None = None
    key: str = ""
    event: str | None = None
    source: str | None = None
    session: str | None = None
    profile: str | None = None
    received: str | None = None
    at: str = ""


_decode = msgspec.json.Decoder(_Source).decode


class Query(NamedTuple):
    """Some documents of a kind."""

    kind: OwnedKind
    body: Body


class Belonging:
    """The questions that find all that belongs to some profiles."""

    def __init__(self, cluster: Cluster, tenant: str, profiles: Sequence[str]) -> None:
        self._cluster = cluster
        self._name = tenant
        self._profiles = frozenset(profiles)
        self._tenant: Body = {"term": {"tenant": tenant}}
        self._mine: list[Body] = [self._tenant, {"terms": {"profile": list(profiles)}}]
        self._sessions: frozenset[str] = frozenset()
        self._late: frozenset[str] = frozenset()
        self._failed: list[str] = []

    async def look(self) -> None:
        """Look for what has no profile and is theirs all the same: of their sessions, of runs, or refused at first."""
        await refresh(self._cluster, indices_of(self._cluster.place, *OWNED_INDICES))
        mine: Body = {"bool": {"filter": self._mine}}
        self._sessions = frozenset([one.id or "" async for one in self._scan("session", mine)])
        late = {key async for key in self._found_late()}
        for keys in _some(late):
            # What is of a session is found by that.
            of_sessions = self._scan("event", self._nobodys("key", keys))
            late -= {one.key async for one in of_sessions if one.session in self._sessions}
        self._late = frozenset(late)
        self._failed = [id async for id in self._found_failed()]

    async def _scan(self, kind: OwnedKind, body: Body) -> AsyncIterator[_Source]:
        """Yield what is read of documents; these are not kept, for they may be large."""
        async for hit in scan(self._cluster, where(self._cluster.place, kind), body):
            one = _decode(hit.source)
            one.at = hit.id
            yield one

    def _nobodys(self, name: str = "", values: Sequence[str] = (), kind: OwnedKind | None = None) -> Body:
        """Return what finds documents without a profile that have one of some values; events or marks alone."""
        which: list[Body] = [self._tenant, *([{"terms": {name: values}}] if name else [])]
        which += [EVENT] if kind == "event" else []
        return {"bool": {"filter": which, "must_not": [_PROFILE, *([EVENT] if kind == "mark" else [])]}}

    async def _found_late(self) -> AsyncIterator[str]:
        """Yield the keys of events that got a profile, or one of their sessions, by a run that waited."""
        claims = where(self._cluster.place, "claim")
        async for hit in scan(self._cluster, claims, {"bool": {"filter": self._mine}}):
            event = (doc_of(hit.source) or {}).get(LATE)
            if isinstance(event, str):
                yield event
        for sessions in _some(self._sessions):
            # The mark of such a run has the session, under the key of its timer.
            marks = self._scan("mark", self._nobodys("session", sessions, "mark"))
            async for some in _chunks(marks):
                timers = self._nobodys("key", [one.key for one in some])
                async for one in self._scan("timer", timers):
                    if one.event is not None:
                        yield one.event

    async def _found_failed(self) -> AsyncIterator[str]:
        """Yield the ids of failed events that had no profile yet: of a session, or accepted since."""
        async for some in _chunks(self._scan("failed", self._nobodys())):
            asked: dict[str, list[str]] = {}
            for one in some:
                if one.session in self._sessions:
                    yield one.at
                elif one.source is not None and one.event is not None:
                    key = make_key("event", self._name, one.source, one.event)
                    asked.setdefault(key, []).append(one.at)
            body: Body = {"bool": {"filter": [self._tenant, {"terms": {"key": list(asked)}}]}}
            async for one in self._scan("event", body):
                if self._has(one):
                    for id in asked.pop(one.key, ()):
                        yield id

    def _has(self, event: _Source) -> bool:
        if event.profile is not None:
            return event.profile in self._profiles
        return event.session in self._sessions or event.key in self._late

    def queries(self) -> Iterator[Query]:
        """Yield the questions for each kind, but for what `linked` finds."""
        for kind in OWNED:
            if kind in ("event", "mark"):
                which = {"filter": [EVENT]} if kind == "event" else {"must_not": [EVENT]}
                yield Query(kind, {"bool": which | {"filter": [*self._mine, *which.get("filter", [])]}})
                yield from (Query(kind, body) for body in self._unowned(kind))
            else:
                yield Query(kind, {"bool": {"filter": self._mine}})
        for ids in _some(self._failed):
            yield Query("failed", {"ids": {"values": ids}})

    def _unowned(self, kind: OwnedKind) -> Iterator[Body]:
        """Yield what finds events and marks that have no profile and are theirs all the same."""
        for sessions in _some(self._sessions):
            yield self._nobodys("session", sessions, kind)
        for keys in _some(self._late):
            yield self._nobodys("key", keys, kind)

    async def linked(self, kinds: Iterable[OwnedKind] = LINKED) -> AsyncIterator[Query]:
        """Yield the questions for what is theirs by its event alone. They find nothing once the event is gone."""
        for sessions in _some(self._sessions):
            async for some in _chunks(self._scan("event", self._nobodys("session", sessions))):
                async for query in self._of(kinds, [one.key for one in some], some):
                    yield query
        for keys in _some(self._late):
            # An event that is not kept has left nothing but this, maybe.
            kept = [one async for one in self._scan("event", self._nobodys("key", keys))]
            async for query in self._of(kinds, keys, kept):
                yield query

    async def _of(
        self, kinds: Iterable[OwnedKind], keys: list[str], events: Sequence[_Source]
    ) -> AsyncIterator[Query]:
        for kind in kinds:
            if kind == "trace":
                traces = self._traces(frozenset(keys), sorted({one.id for one in events if one.id}))
                async for ids in _chunks(traces):
                    yield Query(kind, {"ids": {"values": ids}})
            else:
                yield Query(kind, self._nobodys("event", keys))

    async def _traces(self, keys: frozenset[str], events: list[str]) -> AsyncIterator[str]:
        """Yield the ids of the traces of events: a trace names the id that the client gave, as others may give, too."""
        if events:
            traces = where(self._cluster.place, "trace")
            async for hit in scan(self._cluster, traces, self._nobodys("event", events)):
                if (doc_of(hit.source) or {}).get("key") in keys:
                    yield hit.id


def _some(values: Iterable[str]) -> Iterator[list[str]]:
    some = sorted(values)
    for first in range(0, len(some), TERMS):
        yield some[first : first + TERMS]


async def _chunks(found: AsyncIterator[T]) -> AsyncIterator[list[T]]:
    some: list[T] = []
    async for one in found:
        some.append(one)
        if len(some) == TERMS:
            yield some
            some = []
    if some:
        yield some


def where(place: Place, kind: OwnedKind) -> str:
    """Return the indices of a kind, in a request's path."""
    return indices_of(place, "event" if kind == "mark" else kind)


async def owned(
    cluster: Cluster, kind: OwnedKind, tenant: str, profiles: Sequence[str]
) -> AsyncIterator[Doc]:
    """Yield what belongs to some profiles. Raises StoreError."""
    theirs = Belonging(cluster, tenant, profiles)
    if kind in ("session", "claim"):
        await refresh(cluster, where(cluster.place, kind))
    else:
        await theirs.look()
    for query in theirs.queries():
        if query.kind == kind:
            async for doc in _docs(cluster, query):
                yield doc
    if kind in LINKED:
        async for query in theirs.linked([kind]):
            async for doc in _docs(cluster, query):
                yield doc


async def _docs(cluster: Cluster, query: Query) -> AsyncIterator[Doc]:
    async for hit in scan(cluster, where(cluster.place, query.kind), query.body):
        doc = _doc(query.kind, hit)
        if doc is not None:
            yield doc


def _doc(kind: OwnedKind, hit: Hit) -> Doc | None:
    doc = doc_of(hit.source)
    if kind == "mark":
        one = _decode(hit.source)
        return {"key": one.key, "id": one.id, "received": one.received}
    if kind == "claim":
        one = _decode(hit.source)
        return {"key": one.key, **(doc or {}), "profile": one.profile}
    return doc
