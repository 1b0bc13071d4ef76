"""Names, mappings and templates of the indices."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from headrace.engine.store.elastic.place import Place

VERSION = 1
"""Of the mappings. One more whenever what is said here changes; `store migrate` brings a cluster to it."""

MARGIN = timedelta(hours=1)
"""How far the clocks of several servers may differ."""

WHOLE = ("about", "profiles", "sessions", "claims", "effects", "timers")
"""Kinds that are kept in one index each; `about` holds facts about the store itself."""

MONTHLY = ("events", "failed", "traces")
"""Kinds that are kept by the month (UTC) in which they were received, so that old ones go with their index."""

INDEX_OF = {
    "profile": "profiles",
    "session": "sessions",
    "claim": "claims",
    "seen": "events",
    "event": "events",
    "failed": "failed",
    "effect": "effects",
    "timer": "timers",
    "trace": "traces",
    # Few and small: beside the facts about the store.
    "workflow": "about",
}

SESSION_VERSIONS = 1 << 20
"""A session's document has this plus its number as its version: above what claiming its id counts up to."""

Mapping = dict[str, Any]

_NAME: Mapping = {"type": "keyword", "ignore_above": 1024}
_FOUND: Mapping = _NAME | {"doc_values": False}
"""A name that documents are found by, and neither sorted nor counted by: it costs half."""
_DATE: Mapping = {
    "type": "date",
    "format": "strict_date_optional_time||epoch_millis",
    "ignore_malformed": True,
}
_KEPT: Mapping = {"type": "object", "enabled": False}
"""Kept as it was sent and never looked into: whatever stands in it, no document is refused for it."""
_SILENT: Mapping = {"type": "keyword", "index": False, "doc_values": False}

_COMMON: Mapping = {
    # The key that the engine knows it by; with it pages have an order that is the same at every asking.
    "key": {"type": "keyword"},
    "tenant": _FOUND,
    # Which change wrote it: says whether a write whose answer was lost has been done.
    "change": _SILENT,
    "facets": {"type": "keyword", "doc_values": False},
    "doc": _KEPT,
    # Stands for `doc` where JSON for Elasticsearch cannot say it, such as half of a surrogate pair.
    "text": _SILENT,
}
_RECORD: Mapping = {"pending": _KEPT, "pending_since": _DATE}
"""Of a commit record: the other documents of its last changes, and since when they wait."""

_OF: dict[str, Mapping] = {
    "about": {"version": {"type": "integer"}, "until": _DATE, "holder": _SILENT},
    "profiles": {"id": _FOUND, "ids": _FOUND, "created": _DATE, "updated": _DATE, "segments": _NAME}
    | _RECORD,
    "sessions": {
        "id": _FOUND,
        "profile": _NAME,
        "source": _NAME,
        "hidden": {"type": "boolean"},
        "created": _DATE,
        "updated": _DATE,
        "n": {"type": "long"},
    }
    | _RECORD,
    "claims": {"profile": _NAME},
    "events": {
        "id": _FOUND,
        "type": _NAME,
        "source": _NAME,
        "profile": _NAME,
        "session": _FOUND,
        "received": _DATE,
        "happened": _DATE | {"doc_values": False},
        "content": _SILENT,
    }
    | _RECORD,
}
_LISTED: Mapping = {
    **dict.fromkeys(("type", "source", "profile", "session", "event", "status"), _NAME),
    "created": _DATE,
}
_DUE: Mapping = {"next": _DATE, "lease": _SILENT}
_OF |= {"failed": _LISTED, "traces": _LISTED, "effects": _LISTED | _DUE}
_OF["timers"] = _LISTED | _DUE | {"ended": _DATE}


def mapping(kind: str) -> Mapping:
    """Return the mapping of a kind's indices. Members that it does not name are kept and not indexed."""
    return {"dynamic": False, "_meta": {"version": VERSION}, "properties": _COMMON | _OF[kind]}


def settings(place: Place) -> Mapping:
    """Return the settings of every index."""
    chosen: Mapping = {"number_of_shards": place.shards, "refresh_interval": place.refresh}
    if place.replicas is None:
        # One copy as soon as there is a second node to hold it.
        return {"index": chosen | {"auto_expand_replicas": "0-1"}}
    return {"index": chosen | {"number_of_replicas": place.replicas}}


def component(place: Place) -> tuple[str, Mapping]:
    """Return the name and body of the component template that all index templates share: the settings."""
    return f"{place.prefix}-settings", {"version": VERSION, "template": {"settings": settings(place)}}


def templates(place: Place) -> Iterator[tuple[str, Mapping]]:
    """Yield the name and body of each index template."""
    for kind in (*WHOLE, *MONTHLY):
        pattern = f"{place.prefix}-{kind}-*"
        body: Mapping = {
            "index_patterns": [pattern],
            "version": VERSION,
            # Above what a cluster brings along, and above others' templates for `*`.
            "priority": 500,
            "composed_of": [component(place)[0]],
            "template": {"mappings": mapping(kind), "aliases": {f"{place.prefix}-{kind}": {}}},
        }
        if kind in WHOLE:
            body["allow_auto_create"] = False
        yield f"{place.prefix}-{kind}", body
    # Without it a write would make what somebody deleted anew: under the alias' name, with a mapping that it guesses.
    yield (
        f"{place.prefix}-aliases",
        {
            "index_patterns": [alias(place, kind) for kind in WHOLE],
            "version": VERSION,
            "priority": 500,
            "allow_auto_create": False,
            "template": {"mappings": {"dynamic": False, "properties": {}}},
        },
    )


def alias(place: Place, kind: str) -> str:
    """Return the name by which a kind is searched, and a kind with one index is also written."""
    return f"{place.prefix}-{kind}"


def first_index(place: Place, kind: str) -> str:
    """Return the name of the index that a kind with one index begins with; a migration makes the next."""
    return f"{place.prefix}-{kind}-{VERSION:06}"


def month_index(place: Place, kind: str, received: str) -> str:
    """Return the index of what was received at a time, written as `model.iso` does."""
    return f"{place.prefix}-{kind}-{received[:4]}.{received[5:7]}"


def months_known(place: Place, kind: str, now: datetime, days: int) -> list[str]:
    """Return the indices that hold what was received within the last days, the newest first."""
    names: list[str] = []
    time = now + MARGIN
    oldest = now - timedelta(days=days) - MARGIN
    while True:
        names.append(month_index(place, kind, f"{time.year:04}-{time.month:02}"))
        if (time.year, time.month) == (oldest.year, oldest.month):
            return names
        time = time.replace(day=1) - timedelta(days=1)


def as_json(body: Mapping) -> bytes:
    """Return a request's body."""
    return json.dumps(body, separators=(",", ":")).encode()
