"""Erasing and owning anew in a cluster, beyond what every store promises."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from headrace.engine.errors import InputError
from headrace.engine.model import iso, new_id
from headrace.engine.store.elastic import keeping
from headrace.engine.store.elastic.erasing import erase
from headrace.engine.store.elastic.keeping import reown
from headrace.engine.store.elastic.layout import SESSION_VERSIONS, month_index
from headrace.engine.store.elastic.parts import Planned, part_of, pending_members
from headrace.engine.store.elastic.reading import doc_of
from headrace.engine.store.protocol import Claim, Query, Ref, Row
from tests.elastic.conftest import Rig
from tests.store_contract import (
    HOSTILE,
    NOW,
    change,
    event_key,
    event_row,
    has_committed,
    key_of,
    profile_write,
    session_write,
)
from tests.stores import written


async def move(rig: Rig, loser: str, survivor: str) -> int:
    await written(rig.store)
    return await reown(rig.cluster, rig.bulk, rig.gets, "main", loser, survivor)


async def remove(rig: Rig, profile: str, tenant: str = "main") -> dict[str, int]:
    return await erase(rig.cluster, rig.bulk, rig.gets, tenant, [profile])


@pytest.mark.parametrize("name", ["big integer", "lone surrogate", "small and large floats", "awkward keys"])
async def test_what_moves_stays_as_it_was_to_the_byte(rig: Rig, name: str) -> None:
    row = event_row("e", "loser", properties={"value": HOSTILE[name], "\udead": 1})
    session = session_write("s", "loser", properties={"value": HOSTILE[name]})
    await rig.store.commit(change(events=[row]))
    await rig.store.commit(change(session=session))
    assert await move(rig, "loser", "survivor") == 2
    moved = {"profile": "survivor", "profile_then": "loser"}
    got = await rig.questions.get("event", row.key)
    assert got == row.doc | moved
    assert got["properties"] == row.doc["properties"]
    assert await rig.questions.get("session", session.key) == session.doc | moved
    await rig.refresh()
    assert await rig.questions.count(Query("event", profile="survivor", type="page-view")) == 1
    assert await rig.questions.count(Query("event", profile="loser")) == 0


async def test_a_moved_session_counts_one_write_more(rig: Rig) -> None:
    await rig.store.commit(change(session=session_write("s", "loser")))
    path = f"/{rig.alias('sessions')}/_doc/{key_of('session', 's')}"
    before = (await rig.cluster.ask_json("GET", path))["_source"]["n"]
    assert await move(rig, "loser", "survivor") == 1
    found = await rig.cluster.ask_json("GET", path)
    assert found["_version"] == SESSION_VERSIONS + before + 1
    assert found["_source"]["n"] == before + 1
    assert found["_source"]["profile"] == "survivor"


async def test_more_than_a_page_moves_and_marks_stay(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MOVED_AT_ONCE", 3)
    mark = Row(event_key("m"), {"profile": "loser", "content": "c", "id": "m", "received": iso(NOW)})
    events = [event_row(f"e{n}", "loser") for n in range(8)]
    await rig.store.commit(change(events=events, marks=[mark]))
    assert await move(rig, "loser", "survivor") == 8
    assert await move(rig, "loser", "survivor") == 0
    assert await move(rig, "survivor", "survivor") == 0
    (seen,) = await rig.store.read([Ref("seen", mark.key)])
    assert seen is not None
    assert seen.doc["profile"] == "loser"


async def test_what_waits_in_the_profiles_is_written_before_it_moves(rig: Rig) -> None:
    """A session in `pending` is newer than the one that is there, and must not be lost."""
    await rig.store.commit(change(session=session_write("s", "loser")))
    key, where = key_of("session", "s"), rig.alias("sessions")
    stored = await rig.source(where, key)
    assert stored is not None
    members = msgspec.json.decode(stored)
    n = members["n"] + 1
    members |= {"n": n, "doc": members["doc"] | {"properties": {"newer": True}}}
    newer = Planned("session", where, key, n, msgspec.json.encode(members))
    pending = pending_members([part_of(new_id(), 0, [], (key, n), [newer])])
    record = msgspec.json.decode(b'{"key":"p"' + pending + b"}")
    await rig.put(rig.alias("profiles"), key_of("profile", "survivor"), **record)
    assert await move(rig, "loser", "survivor") == 1
    doc = doc_of(await rig.source(where, key) or b"")
    assert doc is not None
    assert (doc["properties"], doc["profile"]) == ({"newer": True}, "survivor")


async def test_a_session_is_made_anew_right_after_it_was_erased(rig: Rig) -> None:
    """The cluster remembers the version of what was deleted for a minute."""
    for turn in range(3):
        profile = profile_write(f"p{turn}")
        session = session_write("s", f"p{turn}", properties={"turn": turn})
        assert has_committed(await rig.store.commit(change(profile=profile, session=session)))
        for again in range(3):
            (stored,) = await rig.store.read([Ref("session", session.key)])
            assert stored is not None
            write = session_write("s", f"p{turn}", stored, again=again)
            assert has_committed(await rig.store.commit(change(session=write)))
        got = await rig.store.get("session", session.key)
        assert got == session.doc | {"again": 2}
        assert (await remove(rig, f"p{turn}"))["session"] == 1


async def test_a_claimed_session_can_still_be_written(rig: Rig) -> None:
    key, where = key_of("session", "s"), rig.alias("sessions")
    await rig.put(where, key, key=key, tenant="main", change="c", profile="loser", hidden=True, n=0)
    await move(rig, "loser", "survivor")
    source = await rig.source(where, key)
    assert source is not None
    assert msgspec.json.decode(source)["profile"] == "survivor"
    assert doc_of(source) is None
    found = await rig.cluster.ask_json("GET", f"/{where}/_doc/{key}")
    assert found["_version"] < SESSION_VERSIONS


async def test_erasing_counts_each_kind_and_leaves_others(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "BATCH", 2)
    doc: dict[str, Any] = {"id": "t", "tenant": "main", "profile": "p", "time": {"created": iso(NOW)}}
    mark = Row(event_key("m"), {"profile": "old", "content": "c", "id": "m", "received": iso(NOW)})
    await rig.store.commit(change(profile=profile_write("old", ids=["old"], merged_into="p")))
    await rig.store.commit(
        change(
            profile=profile_write("p", ids=["p", "old", "never kept"]),
            session=session_write("s", "p"),
            claims=[Claim(f"c{n}", "p") for n in range(5)],
            events=[event_row(f"e{n}", "p", NOW - timedelta(days=40 * n)) for n in range(3)],
            marks=[mark],
            timers=[Row("t", doc)],
        )
    )
    await rig.store.keep_traces([Row("t", doc)])
    await rig.store.commit(change(tenant="other", events=[event_row("other", "p", tenant="other")]))
    assert await remove(rig, "p") == {
        "profile": 2,
        "event": 3,
        "mark": 1,
        "session": 1,
        "claim": 5,
        "failed": 0,
        "effect": 0,
        "timer": 1,
        "trace": 1,
    }
    await rig.refresh()
    assert await rig.questions.count(Query("event", tenant="other", profile="p")) == 1
    assert set((await remove(rig, "p")).values()) == {0}
    assert (await remove(rig, "p", "other"))["event"] == 1


async def test_half_a_character_is_the_askers_fault(rig: Rig) -> None:
    for job in (remove(rig, "\ud800"), move(rig, "\ud800", "x"), remove(rig, "p", "\ud800")):
        with pytest.raises(InputError) as raised:
            await job
        assert raised.value.code == "bad_text"


async def test_an_event_that_holds_its_own_effects_moves_with_them(rig: Rig) -> None:
    where = month_index(rig.cluster.place, "events", iso(NOW))
    row = event_row("e", "loser")
    members: dict[str, Any] = {"key": row.key, "tenant": "main", "type": "t", "profile": "loser"}
    pending = [{"id": "c", "at": 1, "left": [["create", "w", "i", 0, {"x": 2**80}]]}]
    await rig.put(where, row.key, **members, doc=row.doc, pending=pending, pending_since=1)
    assert await move(rig, "loser", "survivor") == 1
    source = await rig.source(where, row.key)
    assert source is not None
    assert b'"pending_since":1' in source
    assert str(2**80).encode() in source
