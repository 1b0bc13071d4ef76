"""Which events are replayed: found, and put in order."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from headrace.engine.model import Doc, make_key
from headrace.engine.replay.scratch import Scratch
from headrace.engine.steps.failed import RESENT
from headrace.engine.store.looking import Looking
from headrace.engine.store.protocol import Query

PAGE = 200

REFUSED = "refused"
"""The member of a replayed event that holds why it was refused then; it is not part of the event."""


@dataclass
class Gathered:
    """How many events were found, and how many left out: internal ones, which come again with what caused them, and
    replays.
    """

    events: int = 0
    internal: int = 0
    is_cut: bool = False
    """There are more than the limit; the oldest were left out."""


async def gather(
    look: Looking,
    query: Query,
    scratch: Scratch,
    limit: int,
    code: str = "",
    said: Callable[[int], None] = print,
) -> Gathered:
    """Put the newest events that fit into `scratch`; `said` hears how many there are so far.

    Failed events are asked for with a query of that kind, and narrowed by their `code` unless it is ""; those that
    were sent again are left out.
    """
    found, cursor = Gathered(), query.cursor
    while True:
        page = await look.find(replace(query, cursor=cursor, limit=PAGE))
        for doc in page.items:
            if query.kind == "failed":
                if (code and doc["code"] != code) or doc.get("status") == RESENT:
                    continue
                doc = event_of(doc)  # noqa: PLW2901 - what is replayed is the event
            elif "emitted_by" in doc or "replay_of" in doc:
                found.internal += 1
                continue
            if found.events == limit:
                found.is_cut = True
                return found
            scratch.push([doc])
            found.events += 1
        said(found.events)
        cursor = page.cursor
        if cursor is None:
            return found


def event_of(failed: Doc) -> Doc:
    """Return a failed event as the event that it would have been."""
    raw = failed["raw"]
    tenant, source, id = failed["tenant"], failed["source"], failed["event"]
    time: Doc = {"happened": failed["received"], "received": failed["received"], "processed": None}
    if raw.get("time") is not None:
        time["claimed"] = raw["time"]
    nobody = failed["session"] is None and failed["profile"] is None
    version = {"version": raw["version"]} if raw.get("version") is not None else {}
    return version | {
        "id": id,
        "key": make_key("event", tenant, source, id),
        "type": raw["type"],
        "properties": raw["properties"],
        "context": raw["context"],
        "session": failed["session"],
        "profile": failed["profile"],
        "profile_by": None if nobody else "session",
        "source": source,
        "tenant": tenant,
        "door": failed["door"],
        "time": time,
        "device": {},
        "page": {},
        "utm": {},
        "runs": [],
        "errors": [],
        REFUSED: {"code": failed["code"], "reasons": failed["reasons"], "key": failed["id"]},
    }


async def find_event(
    look: Any, tenant: str, id: str, sources: Iterable[str], source: str | None = None
) -> list[Doc]:
    """Return the stored events that an id may mean: a key, or the id that a client gave it, for each source.

    `sources` are those that are known; an event of another one is looked for, too, which may take longer.
    """
    keys = [id] + [make_key("event", tenant, each, id) for each in ([source] if source else sources)]
    found: dict[str, Doc] = {}
    for key in keys:
        doc = await look.get("event", key)
        if doc is not None and doc["tenant"] == tenant and source in (None, doc["source"]):
            found[doc["key"]] = doc
    if not found:
        query = Query("event", tenant=tenant, event=id, source=source)
        found = {doc["key"]: doc for doc in (await look.find(query)).items}
    return list(found.values())


async def find_failed(look: Any, tenant: str, id: str, source: str | None = None) -> list[Doc]:
    """Return the failed events of an id, the newest first."""
    query = Query("failed", tenant=tenant, event=id, source=source)
    return list((await look.find(query)).items)
