"""Questions: get, find, count and report."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from headrace.engine.errors import InputError
from headrace.engine.model import Doc, iso, make_key, utc_now
from headrace.engine.store.elastic.cluster import Cluster
from headrace.engine.store.elastic.documents import HIDDEN, doc_id
from headrace.engine.store.elastic.facets import asked
from headrace.engine.store.elastic.gets import Get, Gets, Got
from headrace.engine.store.elastic.layout import INDEX_OF, MONTHLY, alias, months_known
from headrace.engine.store.elastic.reading import shown_doc
from headrace.engine.store.elastic.search import Body, Found, search
from headrace.engine.store.protocol import AskKind, Page, Query
from headrace.engine.store.question import (
    TIME,
    asked_fields,
    bad_text,
    page_size,
    read_cursor,
    split_path,
    write_cursor,
)

EXACT_PROFILES = 40_000
"""Distinct profiles that a report counts exactly in one bucket; beyond, within about one in a hundred."""

BUCKETS = 1000
_WRITTEN_OFTEN = frozenset(("profile", "session", "failed", "effect", "timer"))
"""Kinds whose documents of one moment are listed by key: the order of writing changes while somebody turns pages."""

_MOST_COUNTED = (1 << 31) - 1

_ROOTS: dict[AskKind, tuple[str, ...]] = {
    "profile": ("traits", "segments", "interests", "consents", "marks", "stats"),
    "session": ("properties",),
    "event": ("properties",),
}
"""Members whose values can be asked for by `where`."""


class Questions:
    """Answers questions. What was written less than the refresh interval ago may not be found yet; `get` finds it."""

    def __init__(self, cluster: Cluster, gets: Gets, dedup_days: int) -> None:
        self._cluster = cluster
        self._gets = gets
        self._dedup_days = dedup_days

    async def where(self, kind: AskKind, key: str) -> str | None:
        """Return the index of a document; a kind with one index may not have it, for others it is None then."""
        if INDEX_OF[kind] not in MONTHLY:
            return alias(self._cluster.place, INDEX_OF[kind])
        found = await self._of_a_month(kind, doc_id(key))
        return None if found is None else found[0]

    async def get(self, kind: AskKind, key: str) -> Doc | None:
        """Return one document by its key, as it is now. Raises InputError, StoreError."""
        place, id, index = self._cluster.place, doc_id(key), INDEX_OF[kind]
        if index not in MONTHLY:
            (got,) = await self._gets.read([Get(alias(place, index), id)])
            return None if got is None else shown_doc(got.source)
        found = await self._of_a_month(kind, id)
        return None if found is None else shown_doc(found[1].source)

    async def _of_a_month(self, kind: AskKind, id: str) -> tuple[str, Got] | None:
        """Return a document of a kind that is kept by the month, with its index, as it is now."""
        months = months_known(self._cluster.place, INDEX_OF[kind], utc_now(), self._dedup_days)
        for month, got in zip(months, await self._gets.read([Get(one, id) for one in months]), strict=True):
            if got is not None:
                return month, got
        # What came earlier can be seen by searches for long; what it is now, it may be since a moment only.
        hits = await self._search(kind, {"size": 1, "_source": False, "query": {"ids": {"values": [id]}}})
        for hit in hits.hits.hits:
            (got,) = await self._gets.read([Get(hit.where, id)])
            return None if got is None else (hit.where, got)
        return None

    async def find(self, query: Query) -> Page:
        """Return the newest documents that fit, a page at a time. Raises InputError for a bad cursor or question."""
        limit = page_size(query)
        by = [TIME[query.kind], "key"]
        if query.kind not in _WRITTEN_OFTEN:
            # Those of one moment in the order in which they were written; by key where that is two shards' business.
            by.insert(1, "_seq_no")
        body: Body = {
            "size": limit + 1,
            "query": conditions(query),
            "sort": [{name: "desc"} for name in by],
            "track_total_hits": False,
        }
        if query.cursor is not None:
            body["search_after"] = read_cursor(query.cursor, query.kind, *[int] * (len(by) - 1), str)
        hits = (await self._search(query.kind, body)).hits.hits
        items = [doc for hit in hits[:limit] if (doc := shown_doc(hit.source)) is not None]
        return Page(items, write_cursor(query.kind, *hits[limit - 1].sort) if len(hits) > limit else None)

    async def count(self, query: Query, at_most: int | None = None) -> int:
        """Return how many documents fit, counting no further than `at_most`."""
        asked_for = conditions(query)
        if at_most is not None and at_most <= 0:
            return 0
        most = None if at_most is None else min(at_most, _MOST_COUNTED)
        body: Body = {"size": 0, "query": asked_for, "track_total_hits": True if most is None else most}
        counted = (await self._search(query.kind, body)).hits.total.value
        return counted if most is None else min(counted, most)

    async def report(self, query: Query, by: Literal["type", "day", "source"]) -> list[Doc]:
        """Count events and distinct profiles: days (UTC) in order, types and sources by their number of events.

        Profiles are counted exactly up to `EXACT_PROFILES` a bucket.
        """
        buckets = await (self._days(query) if by == "day" else self._terms(query, by))
        made: list[Doc] = [
            {"bucket": bucket.name, "events": bucket.doc_count, "profiles": bucket.profiles.value}
            for bucket in buckets
        ]
        if by != "day":
            made.sort(key=lambda one: (-one["events"], one["bucket"] is not None, one["bucket"] or ""))
        return made

    async def _days(self, query: Query) -> "list[_Bucket]":
        days = {"field": "received", "calendar_interval": "day", "format": "yyyy-MM-dd", "min_doc_count": 1}
        return (await self._counted(query, {"by": {"date_histogram": days}}))["by"].buckets

    async def _terms(self, query: Query, by: str) -> "list[_Bucket]":
        """Return a bucket for every value, and one for events without any; when there are many, page by page."""
        few: Body = {"by": {"terms": {"field": by, "size": BUCKETS}}, "none": {"missing": {"field": by}}}
        first = await self._counted(query, few)
        if not first["by"].others:
            return first["by"].buckets + [first["none"]] * bool(first["none"].doc_count)
        buckets: list[_Bucket] = []
        pages: Body = {"size": BUCKETS, "sources": [{by: {"terms": {"field": by, "missing_bucket": True}}}]}
        while True:
            page = (await self._counted(query, {"by": {"composite": pages}}))["by"]
            buckets += page.buckets
            if len(page.buckets) < BUCKETS or page.after is None:
                return buckets
            pages["after"] = page.after

    async def _counted(self, query: Query, over: Body) -> "dict[str, _Bucket]":
        """Return what some aggregations counted, with the distinct profiles of each bucket."""
        profiles = {"cardinality": {"field": "profile", "precision_threshold": EXACT_PROFILES}}
        body: Body = {
            "size": 0,
            "query": conditions(query, "event"),
            "track_total_hits": False,
            "aggs": {name: one | {"aggs": {"profiles": profiles}} for name, one in over.items()},
        }
        found = (await self._search("event", body)).aggregations
        return {name: _decode_bucket(found[name]) if name in found else _Bucket() for name in over}

    async def _search(self, kind: AskKind, body: Body) -> Found:
        return await search(self._cluster, alias(self._cluster.place, INDEX_OF[kind]), body)


class _Value(msgspec.Struct):
    value: int = 0


class _Bucket(msgspec.Struct, rename={"others": "sum_other_doc_count", "after": "after_key"}):
    """One bucket, or what holds several."""

    key: Any = None
    doc_count: int = 0
    key_as_string: str | None = None
    profiles: _Value = msgspec.field(default_factory=_Value)
    buckets: "list[_Bucket]" = []
    others: int = 0
    after: dict[str, Any] | None = None

    @property
    def name(self) -> str | None:
        """The value that its events share; None when they have none."""
        if self.key_as_string is not None:
            return self.key_as_string
        found = next(iter(self.key.values())) if isinstance(self.key, dict) else self.key
        return None if found is None else str(found)


_decode_bucket = msgspec.json.Decoder(_Bucket).decode


def conditions(query: Query, kind: AskKind | None = None) -> Body:
    """Return a question as Elasticsearch asks it; `kind` is asked in place of the query's. Raises InputError."""
    kind = kind or query.kind
    clauses: list[Body] = [{"term": {"tenant": query.tenant}}]
    if kind == "event":
        # An event without a type is a mark.
        clauses.append({"exists": {"field": "type"}})
    elif kind == "session":
        # One that is only claimed is hidden too.
        clauses.append({"term": {"hidden": False}})
    elif kind == "profile":
        clauses.append({"bool": {"must_not": [{"term": {"facets": HIDDEN}}]}})
    clauses += [_field(query, name, value) for name, value in asked_fields(query)]
    bounds = {"gte": query.since, "lt": query.until}
    if limits := {sign: iso(time) for sign, time in bounds.items() if time is not None}:
        clauses.append({"range": {TIME[kind]: limits}})
    clauses += [_fits(kind, split_path(path), text) for path, text in query.where.items()]
    return {"bool": {"filter": clauses}}


def _field(query: Query, name: str, value: str | datetime | tuple[str, ...]) -> Body:
    if isinstance(value, datetime):
        return {"range": {"happened": {"gte": iso(value)}}}
    several = [value] if isinstance(value, str) else list(value)
    if name != query.kind:
        return {"terms": {name: several}}
    if name == "event":
        return {"bool": {"should": [{"term": {"key": value}}, {"term": {"id": value}}]}}
    try:
        return {"terms": {"key": [make_key(name, query.tenant, one) for one in several]}}
    except UnicodeEncodeError:
        raise bad_text() from None


def _fits(kind: AskKind, names: Sequence[str], text: str) -> Body:
    """Return the condition that the value at a path equals a text. Raises InputError where no value is known."""
    roots = _ROOTS.get(kind, ())
    try:
        "".join((*names, text)).encode()
    except UnicodeEncodeError:
        raise bad_text() from None
    if names[0] not in roots:
        known = f"by the members of: {', '.join(roots)}" if roots else "by its other filters only"
        msg = f"In this store a {kind} can be asked {known}; not by {names[0][:80]!r}."
        raise InputError(422, "bad_path", msg)
    return {"terms": {"facets": list(asked(names, text))}}
