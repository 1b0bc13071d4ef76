"""What was answered and is still to be written: who sees it, who waits for it, what a fault leaves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from headrace.engine.errors import BusyError
from headrace.engine.model import Doc
from headrace.engine.store.elastic import ElasticStore, backlog, commit, erasing, recent
from headrace.engine.store.elastic.cluster import AwayError, RefusedError
from headrace.engine.store.elastic.settle import Settler
from headrace.engine.store.elastic.sweep import Sweeper
from headrace.engine.store.protocol import Query, Ref, Row, Write
from tests.elastic.conftest import DEDUP_DAYS, Rig
from tests.store_contract import (
    NOW,
    change,
    effect_row,
    event_row,
    has_committed,
    key_of,
    one,
    profile_write,
    session_write,
    there,
)
from tests.stores import written

PIECES = 3
QUICK_SECONDS = 0.3


@pytest.fixture
async def other(rig: Rig) -> AsyncIterator[ElasticStore]:
    """Give another server's store on the same place."""
    store = ElasticStore(rig.cluster.place, dedup_days=DEDUP_DAYS, request_seconds=10)
    assert await store.ready() == ""
    yield store
    await store.close()


def fail(store: ElasticStore, error: Exception, which: Callable[[bytes], bool]) -> list[bytes]:
    """Let bulks of a store fail that a test picks; returns those that did."""
    ask = store._cluster.ask
    failed: list[bytes] = []

    async def asked(method: str, path: str, body: bytes = b"", **more: Any) -> bytes:
        if path.startswith("/_bulk") and which(body):
            failed.append(body)
            raise error
        return await ask(method, path, body, **more)

    store._cluster.ask = asked  # type: ignore[method-assign, assignment]
    return failed


def of_events(body: bytes) -> bool:
    """Say whether a bulk writes an event, and not only a record that holds one."""
    return any(line.startswith(b'{"create"') and b"-events-" in line for line in body.split(b"\n"))


def visit(name: str, *ids: str) -> Any:
    """Return the first visit of a profile, with events."""
    events = [event_row(id, name, content="c") for id in ids]
    return change(profile=profile_write(name), session=session_write(f"s {name}", name), events=events)


async def held(rig: Rig, name: str) -> list[Doc]:
    """Return what a profile's record carries."""
    found = await rig.cluster.ask_json("GET", f"/{rig.alias('profiles')}/_doc/{key_of('profile', name)}")
    parts: list[Doc] = found["_source"].get("pending", [])
    return parts


async def test_another_server_erases_what_is_still_to_be_written(rig: Rig, other: ElasticStore) -> None:
    for turn in range(3):
        first = visit("p", f"a{turn}", f"b{turn}")
        assert has_committed(await rig.store.commit(first))
        gone = await other.erase("main", "p")
        assert (gone["profile"], gone["session"], gone["event"]) == (1, 1, 2)
        await rig.refresh()
        assert await rig.questions.count(Query("event")) == 0
        assert await rig.questions.count(Query("session")) == 0


async def test_what_is_committed_while_a_profile_is_erased_goes_too(rig: Rig) -> None:
    assert has_committed(await rig.store.commit(visit("p", "e")))
    before = await there(rig.store, "profile", key_of("profile", "p"))
    late = change(profile=profile_write("p", before), events=[event_row("late", "p")])
    await asyncio.gather(rig.store.commit(late), rig.store.erase("main", "p"))
    await rig.refresh()
    for kind in ("profile", "session", "event"):
        assert await rig.questions.count(Query(kind)) == 0


async def test_erasing_does_not_wait_for_a_server_that_died(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody writes its documents any more once the profile that holds them is gone."""
    monkeypatch.setattr(erasing, "ON_THE_WAY_MS", 500)
    fail(rig.store, AwayError("it is dead"), of_events)
    assert has_committed(await rig.store.commit(visit("p", "e")))
    began = monotonic()
    gone = await erasing.erase(rig.cluster, rig.bulk, rig.gets, "main", ["p"])
    assert monotonic() - began < 5
    assert gone["profile"] == 1


async def test_another_server_knows_each_of_events_without_a_visitor(rig: Rig, other: ElasticStore) -> None:
    rows = [event_row(f"e{n}", content="c") for n in range(5)]
    assert has_committed(await rig.store.commit(change(events=rows)))
    assert all(await other.read([Ref("seen", row.key) for row in rows]))


async def test_an_effect_can_be_changed_at_once(rig: Rig) -> None:
    row = effect_row("f", NOW)
    assert has_committed(await rig.store.commit(change(profile=profile_write("p"), effects=[row])))
    doc = await rig.store.amend("effect", row.key, lambda doc: doc | {"status": "dropped"})
    assert doc is not None
    assert doc["status"] == "dropped"


async def test_what_is_refused_harms_only_its_piece(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "PIECE_DOCUMENTS", PIECES)
    bad = fail(
        rig.store,
        RefusedError(413, "too_large", "too large"),
        lambda body: of_events(body) and b"poison" in body,
    )
    many = [
        change(
            profile=profile_write(f"p{turn}"),
            events=[event_row(f"e{turn}{n}", f"p{turn}") for n in range(PIECES)],
        )
        for turn in range(4)
    ]
    many[2].events[1] = event_row("poison", "p2")
    assert all(map(has_committed, await asyncio.gather(*(rig.store.commit(one) for one in many))))
    await rig.refresh()
    assert bad
    assert await rig.questions.count(Query("event")) == 3 * PIECES
    # Its record holds them all until all are written.
    (part,) = await held(rig, "p2")
    assert len(part["left"]) == PIECES
    sweeper = Sweeper(rig.cluster, rig.bulk, Settler(rig.bulk))
    assert await sweeper.sweep(timedelta(seconds=-1)) == 4
    await rig.refresh()
    assert await rig.questions.count(Query("event")) == 4 * PIECES


async def test_who_reads_what_cannot_be_written_is_told_in_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog.Backlog.flush, "__defaults__", (QUICK_SECONDS,))
    fail(rig.store, AwayError("the cluster is busy"), of_events)
    first = visit("p", "e")
    assert has_committed(await rig.store.commit(first))
    began = monotonic()
    # Its session stands in the profile; whether the event is there only the cluster could say.
    session = await there(rig.store, "session", key_of("session", "s p"))
    assert session.doc["profile"] == "p"
    with pytest.raises(BusyError, match="does not take an event"):
        await one(rig.store, "seen", first.events[0].key)
    assert monotonic() - began < 4


async def test_a_record_holds_no_more_than_some_changes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "COMMIT_SECONDS", QUICK_SECONDS)
    fail(rig.store, AwayError("the cluster is busy"), of_events)
    assert has_committed(await rig.store.commit(visit("p", "e")))

    async def again() -> None:
        for n in range(2 * commit.MOST_CARRIED):
            before = await there(rig.store, "profile", key_of("profile", "p"))
            late = change(profile=profile_write("p", before), events=[event_row(f"e{n}", "p")])
            assert has_committed(await rig.store.commit(late))

    with pytest.raises(BusyError, match="still holds"):
        await again()
    assert len(await held(rig, "p")) == commit.MOST_CARRIED + 1


async def test_with_too_much_on_the_way_nothing_is_begun(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "COMMIT_SECONDS", QUICK_SECONDS)
    monkeypatch.setattr(backlog, "MOST_DOCUMENTS", 1)
    fail(rig.store, AwayError("the cluster is busy"), of_events)
    assert has_committed(await rig.store.commit(visit("p", "e")))
    with pytest.raises(BusyError, match="2 documents wait"):
        await rig.store.commit(visit("q", "f"))
    assert await one(rig.store, "profile", key_of("profile", "q")) is None


async def test_closing_leaves_what_cannot_be_written_to_the_sweeper(
    rig: Rig, other: ElasticStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.engine.store.elastic.FLUSH_SECONDS", QUICK_SECONDS)
    fail(other, AwayError("the cluster is busy"), of_events)
    assert has_committed(await other.commit(visit("p", "e")))
    began = monotonic()
    await other.close()
    assert monotonic() - began < 4
    await rig.refresh()
    assert await Sweeper(rig.cluster, rig.bulk, Settler(rig.bulk)).sweep(timedelta(seconds=-1)) == 1
    await rig.refresh()
    assert [event["id"] for event in (await rig.questions.find(Query("event"))).items] == ["e"]


async def test_a_copy_is_believed_for_some_seconds_only(
    rig: Rig, other: ElasticStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration counts versions anew: one from before it must not be met after it."""
    profile, session = (Ref("profile", key_of("profile", "p")), Ref("session", key_of("session", "s p")))
    assert has_committed(await rig.store.commit(visit("p", "e")))
    await written(rig.store)
    before = await there(other, "profile", profile.key)
    assert has_committed(await other.commit(change(profile=profile_write("p", before, new=True))))
    asked = len(await rig.store.read([profile, session], recent=True))
    assert asked == 2
    (old,) = await rig.store.read([profile], recent=True)
    assert old is not None
    assert "new" not in old.doc
    monkeypatch.setattr(recent, "monotonic", lambda: monotonic() + recent.COPY_SECONDS)
    (new,) = await rig.store.read([profile], recent=True)
    assert new is not None
    assert new.doc["new"] is True


async def test_a_session_is_newest_on_every_server(rig: Rig, other: ElasticStore) -> None:
    """Its newest write stands in its profile before it stands in its index."""
    assert has_committed(await rig.store.commit(visit("p")))
    key = key_of("session", "s p")
    for n in range(5):
        profile, session = (
            await there(other, "profile", key_of("profile", "p")),
            await there(other, "session", key),
        )
        assert session.doc.get("turn") == (n - 1 if n else None)
        write = change(
            profile=profile_write("p", profile), session=session_write("s p", "p", session, turn=n)
        )
        assert has_committed(await rig.store.commit(write))


async def test_marks_are_known_at_once(rig: Rig) -> None:
    mark = Row(
        event_row("m").key, {"profile": "p", "content": "c", "id": "m", "received": "2026-11-21T00:00:00Z"}
    )
    assert has_committed(await rig.store.commit(change(profile=profile_write("p"), marks=[mark])))
    assert await one(rig.store, "seen", mark.key) is not None


async def test_a_change_that_writes_nothing_has_its_copy_checked(rig: Rig, other: ElasticStore) -> None:
    assert has_committed(await rig.store.commit(visit("p", "e")))
    await written(rig.store)
    ref = Ref("profile", key_of("profile", "p"))

    async def idle() -> bool:
        (copy,) = await rig.store.read([ref], recent=True)
        assert copy is not None
        return has_committed(
            await rig.store.commit(change(profile=Write(ref.key, copy.doc, copy.version, changed=False)))
        )

    assert await idle()
    newer = profile_write("p", await there(other, "profile", ref.key), new=True)
    assert has_committed(await other.commit(change(profile=newer)))
    assert not await idle()
    mine = profile_write("p", await there(rig.store, "profile", ref.key))
    assert has_committed(await rig.store.commit(change(profile=mine)))
    await other.erase("main", "p")
    assert not await idle()
    assert await one(rig.store, "profile", ref.key) is None
