"""Retention in a cluster, beyond what every store promises."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from headrace.engine.model import iso
from headrace.engine.store.elastic.ageing import months, prune
from headrace.engine.store.elastic.documents import doc_id
from headrace.engine.store.elastic.layout import month_index
from headrace.engine.store.protocol import Claim, Query, Row
from tests.elastic.conftest import Rig
from tests.store_contract import (
    change,
    effect_row,
    event_key,
    event_row,
    key_of,
    profile_write,
    session_write,
)

MIDDLE = datetime(2026, 3, 20, 12, tzinfo=UTC)
YEAR = [datetime(2026, month, 10, tzinfo=UTC) for month in (1, 2, 3)]


async def cut(rig: Rig, days: dict[str, int], now: datetime = MIDDLE, dedup_days: int = 28) -> dict[str, int]:
    return await prune(rig.cluster, rig.bulk, days, now, dedup_days)


async def names(rig: Rig, kind: Any) -> list[str]:
    return [month.name[-7:] for month in await months(rig.cluster, kind)]


async def test_months_go_whole(rig: Rig) -> None:
    rows = [event_row(f"e{n}", "p", time) for n, time in enumerate(YEAR)]
    marks = [
        Row(event_key(f"m{n}"), {"profile": "p", "content": "c", "id": f"m{n}", "received": iso(time)})
        for n, time in enumerate(YEAR)
    ]
    failed = [Row(f"f{n}", {"time": {"created": iso(time)}}) for n, time in enumerate(YEAR)]
    for row, mark in zip(rows, marks, strict=True):
        await rig.store.commit(change(events=[row]))
        await rig.store.commit(change(marks=[mark]))
    await rig.store.commit(change(failed=failed))
    assert await names(rig, "event") == ["2026.01", "2026.02", "2026.03"]
    # January is older than both; of February only the events are too old, and its keys are still to be known.
    assert await cut(rig, {"event": 30, "failed": 30}, dedup_days=45) == {"event": 2, "mark": 1, "failed": 2}
    assert await names(rig, "event") == ["2026.02", "2026.03"]
    assert await names(rig, "failed") == ["2026.02", "2026.03"]
    source = await rig.source(month_index(rig.cluster.place, "events", iso(YEAR[1])), rows[1].key)
    assert source is not None
    members = msgspec.json.decode(source)
    assert set(members) == {*("key", "tenant", "change", "id", "profile", "received", "content")}
    assert members["content"] == "hash of e1"
    assert [doc["id"] for doc in (await rig.questions.find(Query("event"))).items] == ["e2"]
    assert await cut(rig, {"event": 30}, dedup_days=28) == {"event": 0, "mark": 2}
    assert await cut(rig, {"failed": 30}, MIDDLE + timedelta(days=60)) == {"failed": 1, "mark": 1}
    assert await names(rig, "failed") == []


async def test_what_still_holds_other_documents_stays(rig: Rig) -> None:
    old = iso(YEAR[0])
    waits: dict[str, Any] = {"pending": [{"id": "c", "at": 1}], "pending_since": 1}
    fields: dict[str, Any] = {"tenant": "main", "doc": {}, "created": old, "updated": old, "received": old}
    where = month_index(rig.cluster.place, "events", old)
    await rig.put(where, "e", key="e", type="t", **fields, **waits)
    for kind in ("profiles", "sessions"):
        await rig.put(rig.alias(kind), "x", key="x", **fields, **waits)
        await rig.put(rig.alias(kind), "y", key="y", **fields)
    days = {"event": 1, "profile": 1, "session": 1}
    assert await cut(rig, days) == {"event": 0, "profile": 1, "session": 1, "mark": 0}
    assert await rig.source(where, "e") is not None
    for kind in ("profiles", "sessions"):
        assert await rig.source(rig.alias(kind), "x") is not None
    await rig.put(where, "e", key="e", type="t", **fields)
    assert (await cut(rig, days))["event"] == 1
    assert await months(rig.cluster, "event") == []


async def test_an_old_profile_goes_with_its_claims(rig: Rig) -> None:
    time = {"created": iso(YEAR[0]), "updated": iso(YEAR[0])}
    for name, times in (("old", time), ("lively", time | {"updated": iso(MIDDLE)})):
        write = profile_write(name, time=times)
        session = session_write(f"s {name}", name, time=times)
        await rig.store.commit(change(profile=write, claims=[Claim(f"c {name}", name)]))
        await rig.store.commit(change(session=session))
    assert await cut(rig, {"profile": 30, "session": 30}) == {"profile": 1, "session": 1, "mark": 0}
    assert await rig.questions.get("profile", key_of("profile", "old")) is None
    assert await rig.questions.get("profile", key_of("profile", "lively")) is not None
    claims = [await rig.source(rig.alias("claims"), doc_id(f"c {name}")) for name in ("old", "lively")]
    assert [bool(source) for source in claims] == [False, True]


async def test_what_a_worker_has_still_to_do_does_not_grow_old(rig: Rig) -> None:
    rows = [effect_row("waits", YEAR[0]), effect_row("sent", YEAR[0], status="sent")]
    rows.append(Row("held", rows[0].doc | {"id": "held"}))
    await rig.store.commit(change(effects=rows, timers=[Row("t", {"time": {"created": iso(YEAR[0])}})]))
    rig.leases.wrote("effect")
    await rig.leases.claim_due("effect", 1, 1, MIDDLE)
    assert await cut(rig, {"effect": 1, "timer": 1}) == {"effect": 1, "timer": 0, "mark": 0}
    assert await rig.questions.get("effect", key_of("effect", "sent")) is None


async def test_nothing_to_keep_for_an_unknown_kind(rig: Rig) -> None:
    with pytest.raises(ValueError, match=r"No retention for 'claims'\. There are: profile, session, event"):
        await cut(rig, {"claims": 1})
    assert await cut(rig, {}) == {"mark": 0}
