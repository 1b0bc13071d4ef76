"""What every store promises, as one suite; a store's tests subclass it."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.engine.errors import InputError, StoreError
from headrace.engine.model import Doc, iso, make_key, new_id, new_profile, new_session
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import (
    LATE,
    Change,
    Claim,
    Committed,
    Conflict,
    DueKind,
    Leased,
    Outcome,
    OwnedKind,
    Query,
    Ref,
    Row,
    Store,
    Stored,
    Taken,
    Waiting,
    Write,
)

# Events are received now: only keys of the last weeks are known for certain.
NOW = datetime.now(UTC).replace(microsecond=0)
WORKER = Path(__file__).with_name("store_worker.py")


def nested(times: int) -> Doc:
    """Return a document of twice that depth."""
    return {"d": [nested(times - 1)]} if times else {}


HOSTILE: dict[str, Any] = {
    "big integer": 2**70,
    "big negative integer": -(2**63) - 1,
    "hundred digits": 10**100,
    "small and large floats": [5e-324, 1.7976931348623157e308, -0.0, 0.1],
    "nul": "a\0b",
    "control characters": "".join(map(chr, range(32))) + "\x7f",
    "long text": "ä" * (1 << 19),
    "deep": nested(30),
    "empty key": {"": {"": 1}},
    "awkward keys": {
        "a.b": 1,
        "$": 2,
        "$.x": 3,
        'q"q': 4,
        "s's": 5,
        "b\\s": 6,
        "n\0l": 7,
        "__proto__": {"x": 1},
    },
    "names of methods": {"items": 1, "keys": 2, "get": 3},
    "lone surrogate": ["\ud800", "x\udfffy", {"\udead": 1}],
    "pairs and marks": "😀\u202e\ufeff\uffff é\u0065\u0301",
    "wide": {f"key {n}": n for n in range(5000)},
    "looks like sql": "'); DROP TABLE events; --",
    "nothing": [None, [], {}, "", False],
}


def key_of(kind: str, name: str, tenant: str = "main") -> str:
    return make_key(kind, tenant, name)


def event_key(name: str, source: str = "shop", tenant: str = "main") -> str:
    return make_key("event", tenant, source, name)


def profile_write(name: str, stored: Stored | None = None, **members: Any) -> Write:
    doc = stored.doc if stored else new_profile(name, "main", iso(NOW))
    return Write(key_of("profile", name), doc | members, stored.version if stored else None)


def session_write(name: str, profile: str | None, stored: Stored | None = None, **members: Any) -> Write:
    doc = stored.doc if stored else new_session(name, "main", "shop", iso(NOW))
    doc = doc | {"profile": profile} | members
    return Write(key_of("session", name), doc, stored.version if stored else None)


def event_row(name: str, profile: str | None = None, at: datetime = NOW, **members: Any) -> Row:
    key = event_key(name, members.get("source", "shop"))
    doc = {
        "id": name,
        "key": key,
        "type": "page-view",
        "source": "shop",
        "tenant": "main",
        "profile": profile,
        "session": None,
        "content": f"hash of {name}",
        "properties": {},
        "time": {"received": iso(at), "happened": iso(at), "processed": iso(at)},
    }
    return Row(key, doc | members)


def effect_row(name: str, due: datetime, **members: Any) -> Row:
    doc = {"id": name, "status": "pending", "due": iso(due), "attempts": 0, "time": {"created": iso(due)}}
    return Row(key_of("effect", name), doc | members)


def change(*, change_id: str | None = None, tenant: str = "main", **parts: Any) -> Change:
    return Change(change_id or new_id(), tenant, **parts)


def has_committed(outcome: Outcome) -> bool:
    return isinstance(outcome, Committed)


async def one(store: Store, kind: Any, key: str) -> Stored | None:
    return (await store.read([Ref(kind, key)]))[0]


async def there(store: Store, kind: Any, key: str) -> Stored:
    found = await one(store, kind, key)
    assert found is not None
    return found


async def read_profile(store: Store, name: str) -> Stored:
    return await there(store, "profile", key_of("profile", name))


async def add_one(store: Store, name: str) -> None:
    """Count one more in a profile, again and again until nobody was faster."""
    while True:
        found = await read_profile(store, name)
        found.doc["stats"]["counters"]["n"] = found.doc["stats"]["counters"].get("n", 0) + 1
        if has_committed(await store.commit(change(profile=profile_write(name, found)))):
            return


async def eventually(check: Callable[[], Awaitable[Any]], expected: Any) -> None:
    """Wait until a question is answered as expected: answers may lag behind the writes."""
    for _ in range(60):
        if await check() == expected:
            return
        await asyncio.sleep(0.05)
    assert await check() == expected


class StoreContract:
    """Subclasses give the fixture `url`; `tmp_path` is the store's data folder."""

    @pytest.fixture
    async def store(self, url: str, tmp_path: Path) -> Any:
        store = open_store(url, data=tmp_path)
        yield store
        await store.close()

    # Reading and committing

    async def test_nothing_is_there_at_first(self, store: Store) -> None:
        refs = [Ref("profile", "0" * 32), Ref("session", "x"), Ref("seen", "y"), Ref("claim", "")]
        assert await store.read(refs) == [None, None, None, None]
        assert await store.read([]) == []
        assert await store.ready() == ""

    async def test_a_change_is_read_back_whole_and_in_order(self, store: Store) -> None:
        row = event_row("e1", "p1", session="s1")
        mark = Row(event_key("m1"), {"profile": "p1", "content": "c", "id": "m1", "received": iso(NOW)})
        made = change(
            profile=profile_write("p1", traits={"email": "a@b.c"}),
            session=session_write("s1", "p1"),
            claims=[Claim(key_of("claim", "v1"), "p1", {"kind": "visitor"})],
            events=[row],
            marks=[mark],
        )
        assert has_committed(await store.commit(made))
        refs = [
            Ref("seen", mark.key),
            Ref("profile", key_of("profile", "p1")),
            Ref("seen", row.key),
            Ref("session", key_of("session", "s1")),
            Ref("claim", key_of("claim", "v1")),
            Ref("seen", event_key("other")),
        ]
        seen_mark, profile, seen, session, claim, other = await store.read(refs)
        assert seen_mark
        assert profile
        assert seen
        assert session
        assert claim
        assert other is None
        assert seen_mark.doc == {"profile": "p1", "content": "c", "id": "m1"}
        assert seen.doc == {"profile": "p1", "content": "hash of e1", "id": "e1"}
        assert profile.doc == new_profile("p1", "main", iso(NOW)) | {"traits": {"email": "a@b.c"}}
        assert session.doc == new_session("s1", "main", "shop", iso(NOW)) | {"profile": "p1"}
        assert claim.doc["profile"] == "p1"
        assert claim.doc["kind"] == "visitor"

    async def test_many_keys_are_read_at_once(self, store: Store) -> None:
        rows = [event_row(f"e{n}", "p") for n in range(150)]
        await store.commit(change(events=rows))
        keys = [event_key(f"e{n}") for n in range(0, 300, 2)] + [event_key("e0")]
        found = await store.read([Ref("seen", key) for key in keys])
        assert [bool(stored) for stored in found] == [n < 75 for n in range(150)] + [True]
        first, last = found[0], found[-1]
        assert first
        assert last
        first.doc["id"] = "changed"
        assert last.doc["id"] == "e0"

    async def test_versions_move_with_each_write(self, store: Store) -> None:
        await store.commit(change(profile=profile_write("p"), session=session_write("s", "p")))
        first = await read_profile(store, "p")
        assert has_committed(await store.commit(change(profile=profile_write("p", first, traits={"a": 1}))))
        second = await read_profile(store, "p")
        assert second.version != first.version
        assert second.doc["traits"] == {"a": 1}
        assert await store.commit(change(profile=profile_write("p", first, traits={"b": 1}))) == Conflict()
        session = await there(store, "session", key_of("session", "s"))
        assert has_committed(await store.commit(change(session=session_write("s", "p", session, n=1))))
        assert await store.commit(change(session=session_write("s", "p", session, n=2))) == Conflict()

    async def test_an_unchanged_document_is_only_compared(self, store: Store) -> None:
        await store.commit(change(profile=profile_write("p")))
        found = await read_profile(store, "p")
        write = Write(key_of("profile", "p"), found.doc, found.version, changed=False)
        assert has_committed(await store.commit(change(profile=write, events=[event_row("e1", "p")])))
        again = await read_profile(store, "p")
        assert again.doc == found.doc
        assert has_committed(await store.commit(change(profile=profile_write("p", again, traits={"x": 1}))))
        assert await store.commit(change(profile=write, events=[event_row("e2", "p")])) == Conflict()
        assert await one(store, "seen", event_key("e2")) is None

    async def test_a_new_profile_that_exists_conflicts(self, store: Store) -> None:
        await store.commit(change(profile=profile_write("p")))
        assert await store.commit(change(profile=profile_write("p"))) == Conflict()

    async def test_a_profile_that_is_gone_conflicts_even_when_made_anew(self, store: Store) -> None:
        await store.commit(change(profile=profile_write("p")))
        old = await read_profile(store, "p")
        await store.erase("main", "p")
        assert await store.commit(change(profile=profile_write("p", old))) == Conflict()
        assert has_committed(await store.commit(change(profile=profile_write("p"))))
        assert await store.commit(change(profile=profile_write("p", old))) == Conflict()

    async def test_a_refused_change_writes_nothing(self, store: Store) -> None:
        await store.commit(change(profile=profile_write("p")))
        made = change(
            profile=profile_write("p"),
            session=session_write("s", "p"),
            claims=[Claim("c", "p")],
            events=[event_row("e", "p")],
            marks=[Row("m", {"profile": "p", "content": "", "id": "m", "received": iso(NOW)})],
            effects=[effect_row("f", NOW)],
        )
        assert await store.commit(made) == Conflict()
        refs = [
            Ref("session", key_of("session", "s")),
            Ref("claim", "c"),
            Ref("seen", event_key("e")),
            Ref("seen", "m"),
        ]
        assert await store.read(refs) == [None] * 4
        assert await store.claim_due("effect", 5, 10, NOW) == []

    # Committing twice

    async def test_a_change_counts_once(self, store: Store) -> None:
        made = change(
            profile=profile_write("p"),
            session=session_write("s", "p"),
            claims=[Claim("c", "p")],
            events=[event_row("e", "p")],
            failed=[Row("x", {"reasons": []})],
            effects=[effect_row("f", NOW)],
        )
        assert [await store.commit(made) for _ in range(3)] == [Committed()] * 3
        await eventually(lambda: store.count(Query("event")), 1)
        await eventually(lambda: store.count(Query("failed")), 1)
        assert len(await store.claim_due("effect", 5, 10, NOW)) == 1

    @pytest.mark.parametrize("kind", ["session", "event", "mark"])
    async def test_a_change_without_a_profile_counts_once(self, store: Store, kind: str) -> None:
        mark = Row(event_key("m"), {"profile": None, "content": "c", "id": "m", "received": iso(NOW)})
        parts: dict[str, dict[str, Any]] = {
            "session": {"session": session_write("s", None)},
            "event": {"events": [event_row("e")]},
            "mark": {"marks": [mark]},
        }
        made = change(**parts[kind], effects=[effect_row("f", NOW)])
        assert [await store.commit(made) for _ in range(2)] == [Committed()] * 2
        assert len(await store.claim_due("effect", 5, 10, NOW)) == 1

    async def test_the_same_change_at_the_same_time_counts_once(self, store: Store) -> None:
        made = change(profile=profile_write("p"), events=[event_row("e", "p")])
        assert set(await asyncio.gather(*(store.commit(made) for _ in range(20)))) == {Committed()}
        await eventually(lambda: store.count(Query("event")), 1)

    # Claims

    async def test_a_session_belongs_to_the_first(self, store: Store) -> None:
        await store.commit(change(profile=profile_write("p1"), session=session_write("s", "p1")))
        made = change(
            profile=profile_write("p2"), session=session_write("s", "p2"), events=[event_row("e", "p2")]
        )
        assert await store.commit(made) == Taken(key_of("session", "s"), "p1")
        refs = [Ref("profile", key_of("profile", "p2")), Ref("seen", event_key("e"))]
        assert await store.read(refs) == [None, None]

    async def test_a_session_without_a_profile_is_taken_too(self, store: Store) -> None:
        await store.commit(change(session=session_write("s", None)))
        assert await store.commit(change(session=session_write("s", "p"))) == Taken(
            key_of("session", "s"), None
        )

    async def test_a_claim_belongs_to_the_first(self, store: Store) -> None:
        key = key_of("claim", "visitor")
        await store.commit(change(claims=[Claim(key, "p1")]))
        assert has_committed(
            await store.commit(change(profile=profile_write("p1"), claims=[Claim(key, "p1")]))
        )
        made = change(profile=profile_write("p2"), claims=[Claim("free", "p2"), Claim(key, "p2")])
        assert await store.commit(made) == Taken(key, "p1")
        assert await one(store, "claim", "free") is None

    async def test_an_event_of_another_change_conflicts(self, store: Store) -> None:
        mark = Row(event_key("m"), {"profile": "p", "content": "c", "id": "m", "received": iso(NOW)})
        await store.commit(change(events=[event_row("e")], marks=[mark]))
        for name in ("e", "m"):
            assert await store.commit(change(events=[event_row("new"), event_row(name)])) == Conflict()
            row = Row(event_key(name), {"profile": "q", "content": "d", "id": name, "received": iso(NOW)})
            assert await store.commit(change(marks=[row])) == Conflict()
        assert await one(store, "seen", event_key("new")) is None

    async def test_a_hidden_session_is_read_but_not_found(self, store: Store) -> None:
        key = key_of("session", "s")
        hidden = Write(key, {"id": "s", "profile": "p", "hidden": True}, None)
        await store.commit(change(profile=profile_write("p"), session=hidden))
        stored = await there(store, "session", key)
        assert stored.doc == {"id": "s", "profile": "p", "hidden": True}
        assert await store.get("session", key) is None
        assert (await store.find(Query("session"))).items == []
        assert await store.commit(change(session=session_write("s", "q"))) == Taken(key, "p")
        await store.commit(
            change(session=Write(key, new_session("s", "main", "shop", iso(NOW)), stored.version))
        )
        await eventually(lambda: store.count(Query("session")), 1)

    async def test_a_hidden_profile_is_read_but_not_found(self, store: Store) -> None:
        key = key_of("profile", "a")
        for name in ("a", "b"):
            row = event_row(f"e {name}", name)
            await store.commit(change(profile=profile_write(name, segments=["vip"]), events=[row]))
        await eventually(lambda: store.count(Query("profile")), 2)
        stored = await read_profile(store, "a")
        alias = {"id": "a", "tenant": "main", "hidden": True, "merged_into": "b", "time": stored.doc["time"]}
        alias |= {"frozen": stored.doc}
        assert has_committed(await store.commit(change(profile=Write(key, alias, stored.version))))
        assert (await read_profile(store, "a")).doc == alias
        assert await store.get("profile", key) is None
        await eventually(lambda: store.count(Query("profile")), 1)
        for query in (Query("profile"), Query("profile", where={"segments": "vip"})):
            assert [doc["id"] for doc in (await store.find(query)).items] == ["b"]
        await eventually(lambda: store.count(Query("profile", profile="a")), 0)
        again = await read_profile(store, "a")
        whole = again.doc["frozen"]
        assert has_committed(await store.commit(change(profile=Write(key, whole, again.version))))
        await eventually(lambda: store.count(Query("profile", profile=("a", "b", "c"))), 2)
        assert await store.get("profile", key) == whole

    # At the same time

    async def test_first_contacts_make_one_profile(self, store: Store) -> None:
        async def contact(name: str) -> str:
            found = await one(store, "session", key_of("session", "s"))
            if found is None:
                made = change(profile=profile_write(name), session=session_write("s", name))
                outcome = await store.commit(made)
                if isinstance(outcome, Taken):
                    assert outcome.profile is not None
                    return outcome.profile
                assert has_committed(outcome)
                return name
            return str(found.doc["profile"])

        assert len(set(await asyncio.gather(*(contact(f"p{n}") for n in range(50))))) == 1
        await eventually(lambda: store.count(Query("profile")), 1)

    async def test_increments_of_two_processes_all_count(
        self, store: Store, url: str, tmp_path: Path
    ) -> None:
        await store.commit(change(profile=profile_write("p")))
        other = await asyncio.create_subprocess_exec(
            *(sys.executable, str(WORKER), "increment", url, str(tmp_path), "p", "100"),
            env=os.environ | {"PYTHONPATH": str(WORKER.parent.parent)},
        )
        await asyncio.gather(*(add_one(store, "p") for _ in range(100)))
        assert await other.wait() == 0
        assert (await read_profile(store, "p")).doc["stats"]["counters"] == {"n": 200}

    # Documents

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_a_hostile_document_comes_back_as_it_was(self, store: Store, name: str) -> None:
        value = HOSTILE[name]
        row = event_row("e", "p", properties={"value": value})
        made = change(
            profile=profile_write("p", traits={"value": value}),
            session=session_write("s", "p", properties={"value": value}),
            events=[row],
            failed=[Row("f", {"raw": value})],
        )
        assert has_committed(await store.commit(made))
        assert (await read_profile(store, "p")).doc["traits"] == {"value": value}
        session = await there(store, "session", key_of("session", "s"))
        assert session.doc["properties"] == {"value": value}
        assert await store.get("event", row.key) == row.doc
        assert await store.get("failed", "f") == {"raw": value}
        await eventually(lambda: store.count(Query("event", where={"properties.other": "x"})), 0)

    async def test_a_key_may_be_any_text(self, store: Store) -> None:
        keys = ["", "x", "0" * 32, "F" * 32, "é" * 32, "a b" * 10 + "cd", "'\"\0", "g" * 32]
        await store.commit(change(claims=[Claim(key, f"p{n}") for n, key in enumerate(keys)]))
        found = await store.read([Ref("claim", key) for key in keys])
        assert [stored and stored.doc["profile"] for stored in found] == [f"p{n}" for n in range(len(keys))]

    async def test_what_is_no_json_harms_nobody_else(self, store: Store) -> None:
        good = [store.commit(change(profile=profile_write(f"p{n}"))) for n in range(10)]
        bad = store.commit(change(profile=profile_write("bad", traits={"x": object()})))
        *fine, fault = await asyncio.gather(*good, bad, return_exceptions=True)
        assert fine == [Committed()] * 10
        assert isinstance(fault, StoreError)

    # Effects and timers

    @pytest.mark.parametrize("kind", ["effect", "timer"])
    async def test_due_documents_are_handed_out_once(self, store: Store, kind: DueKind) -> None:
        rows = [effect_row(f"f{n}", NOW - timedelta(seconds=n)) for n in range(5)]
        parts: dict[str, Any] = {f"{kind}s": rows}
        rows += [effect_row("later", NOW + timedelta(minutes=1)), effect_row("sent", NOW, status="sent")]
        await store.commit(change(**parts))
        first = await store.claim_due(kind, 3, 30, NOW)
        second = await store.claim_due(kind, 10, 30, NOW)
        assert [leased.doc["id"] for leased in (*first, *second)] == ["f4", "f3", "f2", "f1", "f0"]
        assert await store.claim_due(kind, 10, 30, NOW) == []
        assert await store.done(kind, first[0], first[0].doc | {"status": "sent"})
        assert not await store.done(kind, first[0], first[0].doc)
        got = await store.get(kind, first[0].key)
        assert got is not None
        assert got["status"] == "sent"
        # A lease that ended is lost as soon as another takes it, and not before.
        late = NOW + timedelta(seconds=31)
        again = (await store.claim_due(kind, 1, 30, late))[0]
        held = {leased.key: leased for leased in (*first[1:], *second)}
        assert not await store.done(kind, held.pop(again.key), again.doc | {"status": "sent"})
        kept = held.popitem()[1]
        assert await store.done(kind, kept, kept.doc | {"status": "dead"})
        retry = again.doc | {"attempts": 1, "due": iso(NOW + timedelta(hours=1))}
        assert await store.done(kind, again, retry)
        left = await store.claim_due(kind, 10, 30, NOW + timedelta(minutes=30))
        assert {leased.key for leased in left} == {*held, key_of("effect", "later")}
        later = await store.claim_due(kind, 9, 30, NOW + timedelta(hours=2))
        assert again.key in {leased.key for leased in later}
        assert kept.key not in {leased.key for leased in later}

    async def test_workers_never_hold_the_same(self, store: Store) -> None:
        await store.commit(change(effects=[effect_row(f"f{n}", NOW) for n in range(60)]))
        taken: list[str] = []

        async def work() -> None:
            while leased := await store.claim_due("effect", 7, 60, NOW):
                taken.extend(one.key for one in leased)
                results = await asyncio.gather(
                    *(store.done("effect", one, one.doc | {"status": "sent"}) for one in leased)
                )
                assert all(results)

        await asyncio.gather(work(), work())
        assert len(taken) == len(set(taken)) == 60

    async def test_the_newest_can_be_handed_out_first(self, store: Store) -> None:
        rows = [effect_row(f"f{n}", NOW - timedelta(seconds=n)) for n in range(5)]
        await store.commit(change(effects=rows))
        found = await store.claim_due("effect", 2, 30, NOW, newest=True)
        assert [one.doc["id"] for one in found] == ["f0", "f1"]
        found = await store.claim_due("effect", 9, 30, NOW)
        assert [one.doc["id"] for one in found] == ["f4", "f3", "f2"]

    @pytest.mark.parametrize("kind", ["effect", "timer"])
    async def test_several_are_done_at_once_each_for_itself(self, store: Store, kind: DueKind) -> None:
        parts: dict[str, Any] = {f"{kind}s": [effect_row(f"f{n}", NOW) for n in range(5)]}
        await store.commit(change(**parts))
        held = {leased.doc["id"]: leased for leased in await store.claim_due(kind, 5, 30, NOW)}
        assert await store.done(kind, held["f1"], held["f1"].doc | {"status": "dead"})
        later = {"status": "pending", "due": iso(NOW + timedelta(minutes=1))}
        ends = {"f0": {"status": "sent"}, "f1": {"status": "sent"}, "f2": later, "f3": {"status": "sent"}}
        done = [(held[name], held[name].doc | end) for name, end in ends.items()]
        done.append((Leased(key_of("effect", "none"), {}, "lease"), {"status": "sent"}))
        assert await store.done_many(kind, done) == [True, False, True, True, False]
        statuses = [(await store.get(kind, leased.key) or {})["status"] for leased in held.values()]
        assert sorted(statuses) == ["dead", "pending", "pending", "sent", "sent"]
        again = await store.claim_due(kind, 9, 30, NOW + timedelta(minutes=2))
        assert {leased.doc["id"] for leased in again} == {"f2", "f4"}
        assert await store.done_many(kind, []) == []

    async def test_a_document_is_amended_as_it_is_now(self, store: Store) -> None:
        await store.commit(change(effects=[effect_row("f", NOW, status="dead")]))
        key = key_of("effect", "f")
        again = await store.amend("effect", key, lambda doc: doc | {"status": "pending", "n": 1})
        assert again is not None
        assert await store.get("effect", key) == again
        (leased,) = await store.claim_due("effect", 9, 30, NOW)
        assert leased.doc["n"] == 1
        assert await store.amend("effect", key, lambda _: None) is None
        # Whoever held it has lost it.
        assert await store.amend("effect", key, lambda doc: doc | {"status": "dropped"})
        assert not await store.done("effect", leased, leased.doc | {"status": "sent"})
        assert await store.claim_due("effect", 9, 30, NOW + timedelta(hours=1)) == []
        assert await store.amend("effect", key_of("effect", "none"), lambda doc: doc) is None

    async def test_a_failed_event_is_amended_and_its_status_can_be_asked_for(self, store: Store) -> None:
        rows = [effect_row(f"x{n}", NOW - timedelta(days=40 * n), status="failed") for n in range(3)]
        await store.commit(change(failed=rows))
        # One of long ago is found by a search.
        await eventually(lambda: store.count(Query("failed")), 3)
        for key, _ in rows[1:]:
            amended = await store.amend("failed", key, lambda doc: doc | {"status": "resent", "n": 1})
            assert amended is not None
            assert await store.get("failed", key) == amended
        assert await store.amend("failed", rows[0].key, lambda _: None) is None
        assert await store.amend("failed", key_of("failed", "none"), lambda doc: doc) is None
        await eventually(lambda: store.count(Query("failed", status="resent")), 2)
        (left,) = (await store.find(Query("failed", status="failed"))).items
        assert left["id"] == "x0"

    async def test_what_waits_is_counted(self, store: Store) -> None:
        assert await store.waiting("effect") == Waiting(0, None)
        rows = [effect_row(f"f{n}", NOW + timedelta(hours=n)) for n in range(3)]
        sent = effect_row("sent", NOW - timedelta(hours=1), status="sent")
        await store.commit(change(effects=[*rows, sent]))
        await eventually(lambda: store.waiting("effect"), Waiting(3, iso(NOW)))
        assert await store.waiting("timer") == Waiting(0, None)

    # Questions

    async def test_pages_hold_everything_once_newest_first(self, store: Store) -> None:
        # Several share a time, so that only the cursor's second part tells them apart.
        rows = [event_row(f"e{n}", "p", NOW + timedelta(seconds=n // 4)) for n in range(25)]
        await store.commit(change(events=rows))
        await eventually(lambda: store.count(Query("event")), 25)
        seen: list[Doc] = []
        cursor: str | None = None
        for turn in count():
            page = await store.find(Query("event", limit=10, cursor=cursor))
            seen += page.items
            cursor = page.cursor
            if turn == 0:
                await store.commit(change(events=[event_row("newer", "p", NOW + timedelta(days=1))]))
            if cursor is None:
                break
        assert [doc["id"] for doc in seen if doc["id"] == "newer"] == []
        assert sorted(doc["id"] for doc in seen) == sorted(row.doc["id"] for row in rows)
        times = [doc["time"]["received"] for doc in seen]
        assert times == sorted(times, reverse=True)

    async def test_pages_hold_everything_once_while_a_worker_is_at_it(self, store: Store) -> None:
        rows = [effect_row(f"f{n:02}", NOW) for n in range(20)]
        await store.commit(change(effects=rows))
        await eventually(lambda: store.count(Query("effect")), 20)
        first = await store.find(Query("effect", limit=10))
        sent = await store.claim_due("effect", 20, 60, NOW)
        await store.done_many("effect", [(leased, leased.doc | {"status": "sent"}) for leased in sent])
        await eventually(lambda: store.count(Query("effect", status="sent")), 20)
        second = await store.find(Query("effect", limit=10, cursor=first.cursor))
        seen = [doc["id"] for doc in (*first.items, *second.items)]
        assert sorted(seen) == sorted(row.doc["id"] for row in rows)

    @pytest.mark.parametrize(
        "cursor",
        ["", "x", "!!!", "WzEsMl0", "WyJ4Iiw5OTk5OTk5OTk5OTk5OTk5OTk5OTld", "é", "\ud800", "A" * 9999, "\0"],
    )
    async def test_a_bad_cursor_is_the_askers_fault(self, store: Store, cursor: str) -> None:
        with pytest.raises(InputError) as raised:
            await store.find(Query("event", cursor=cursor))
        assert raised.value.status == 422

    async def test_every_filter_narrows(self, store: Store) -> None:
        rows = [
            event_row("e1", "p", type="a", source="shop", session="s1"),
            event_row("e2", "p", NOW + timedelta(hours=1), type="b", source="app", session="s1"),
            event_row("e3", "q", NOW + timedelta(hours=2), type="a", source="app"),
        ]
        await store.commit(change(events=rows))
        other = Row(event_key("e1", tenant="other"), rows[0].doc | {"tenant": "other"})
        await store.commit(change(tenant="other", events=[other]))
        await eventually(lambda: store.count(Query("event")), 3)
        await eventually(lambda: store.count(Query("event", tenant="other")), 1)
        hour = timedelta(hours=1)
        for query, expected in (
            (Query("event", type="a"), ["e3", "e1"]),
            (Query("event", source="app"), ["e3", "e2"]),
            (Query("event", profile="p"), ["e2", "e1"]),
            (Query("event", profile="p", type="b"), ["e2"]),
            (Query("event", session="s1"), ["e2", "e1"]),
            (Query("event", event="e3"), ["e3"]),
            (Query("event", event=rows[1].key), ["e2"]),
            (Query("event", since=NOW + hour), ["e3", "e2"]),
            (Query("event", until=NOW + hour), ["e1"]),
            (Query("event", profile="p", type="a", happened_since=NOW), ["e1"]),
            (Query("event", profile="p", happened_since=NOW + hour), ["e2"]),
            (Query("event", type="a", limit=1), ["e3"]),
            (Query("event", tenant="other"), ["e1"]),
            (Query("event", tenant="none"), []),
        ):
            assert [doc["id"] for doc in (await store.find(query)).items] == expected, query
            if query.limit == 50:
                assert await store.count(query) == len(expected), query
        assert await store.count(Query("event"), at_most=2) == 2

    async def test_profiles_and_sessions_are_found(self, store: Store) -> None:
        await store.commit(change(profile=profile_write("p"), session=session_write("s", "p")))
        await eventually(lambda: store.count(Query("session", profile="p", source="shop")), 1)
        await eventually(lambda: store.count(Query("profile", profile="p")), 1)
        for query in (
            Query("profile", profile="p"),
            Query("session", session="s"),
            Query("session", profile="p"),
        ):
            assert len((await store.find(query)).items) == 1
        assert await store.count(Query("profile", profile="q")) == 0
        got = await store.get("profile", key_of("profile", "p"))
        assert got is not None
        assert got["id"] == "p"

    @pytest.mark.parametrize(
        ("path", "value", "fits"),
        [
            ("traits.email", "a@b.c", True),
            ("traits.email", "A@b.c", False),
            ("traits.age", "42", True),
            ("traits.age", "42.0", True),
            ("traits.age", "4", False),
            ("traits.rate", "1.5", True),
            ("traits.vip", "true", True),
            ("traits.vip", "1", False),
            ("traits.none", "null", False),
            ("traits.none", "", False),
            ("traits.text_true", "true", True),
            ("traits.text_number", "7", True),
            ("segments", "vip", True),
            ("segments", "v", False),
            ("traits.numbers", "2", True),
            ("traits.nested.deep.er", "x", True),
            ("traits.email.more", "a@b.c", False),
            ("traits['a.b']", "dotted", True),
            ("traits.a.b", "dotted", False),
            ("traits.$", "dollar", True),
            ('traits.q"q', "quote", True),
            ("traits.s's", "single", True),
            ("traits.b\\s", "back", True),
            ("traits.é", "x", True),
            ("traits.x') OR 1=1 --", "x", False),
            ("traits.json", '{"a":1}', True),
            ("traits.missing", "'; DROP TABLE profiles; --", False),
        ],
    )
    async def test_where_compares_what_stands_at_a_path(
        self, store: Store, path: str, value: str, fits: bool
    ) -> None:
        traits = {
            "email": "a@b.c",
            "age": 42,
            "rate": 1.5,
            "vip": True,
            "none": None,
            "text_true": "true",
            "text_number": "7",
            "numbers": [1, 2, "x", {"a": 1}],
            "nested": {"deep": {"er": "x"}},
            "a.b": "dotted",
            "$": "dollar",
            'q"q': "quote",
            "s's": "single",
            "b\\s": "back",
            "é": "x",
            "json": '{"a":1}',
        }
        await store.commit(change(profile=profile_write("p", traits=traits, segments=["vip", "new"])))
        await eventually(lambda: store.count(Query("profile", where={path: value})), int(fits))

    @pytest.mark.parametrize("path", ["", ".", "a..b", ".a", "a.", "a[0]", "a['b", ".".join("x" * 100)])
    async def test_a_bad_path_is_the_askers_fault(self, store: Store, path: str) -> None:
        with pytest.raises(InputError) as raised:
            await store.count(Query("profile", where={path: "x"}))
        assert raised.value.status == 422

    async def test_a_question_that_a_kind_cannot_answer_is_refused(self, store: Store) -> None:
        with pytest.raises(InputError, match="status"):
            await store.find(Query("session", status="x"))
        with pytest.raises(InputError):
            await store.read([Ref("claim", "\ud800")])
        for query in (Query("event", type="\ud800"), Query("event", where={"a": "\ud800"})):
            with pytest.raises(InputError):
                await store.find(query)

    async def test_reports_count_events_and_people(self, store: Store) -> None:
        rows = [
            event_row("e1", "p", type="a"),
            event_row("e2", "p", type="a"),
            event_row("e3", "q", NOW + timedelta(days=1), type="b"),
            event_row("e4", None, NOW + timedelta(days=1), type="a"),
        ]
        await store.commit(change(events=rows))
        await eventually(lambda: store.count(Query("event")), 4)
        day = iso(NOW)[:10]
        assert await store.report(Query("event"), "type") == [
            {"bucket": "a", "events": 3, "profiles": 1},
            {"bucket": "b", "events": 1, "profiles": 1},
        ]
        days = await store.report(Query("event"), "day")
        assert [(doc["bucket"], doc["events"]) for doc in days] == [
            (day, 2),
            (iso(NOW + timedelta(days=1))[:10], 2),
        ]
        assert await store.report(Query("event", type="b"), "source") == [
            {"bucket": "shop", "events": 1, "profiles": 1}
        ]

    async def test_marks_are_no_events(self, store: Store) -> None:
        mark = Row(event_key("m"), {"profile": "p", "content": "c", "id": "m", "received": iso(NOW)})
        await store.commit(change(marks=[mark]))
        assert await store.get("event", mark.key) is None
        assert await store.count(Query("event")) == 0
        assert await store.report(Query("event"), "day") == []

    async def test_traces_are_kept_for_reading(self, store: Store) -> None:
        doc = {"id": "t", "tenant": "main", "event": "e", "time": {"created": iso(NOW)}, "nodes": {}}
        await store.keep_traces([Row("t", doc), Row("t", {"other": 1})])
        await eventually(lambda: store.count(Query("trace", event="e")), 1)
        assert await store.get("trace", "t") == doc
        await store.keep_traces([Row("bad", {"x": object()})])
        await store.keep_traces([])

    # Letting go

    async def test_erasing_leaves_nothing_of_a_profile(self, store: Store) -> None:
        for name, ids in (("p", ["p", "old"]), ("q", ["q"])):
            made = change(
                profile=profile_write(name, ids=ids),
                session=session_write(f"s {name}", name),
                claims=[Claim(f"c {name}", name)],
                events=[event_row(f"e {name}", name), event_row(f"o {name}", ids[-1])],
                effects=[effect_row(f"f {name}", NOW)],
                failed=[Row(f"x {name}", {"raw": "secret"})],
            )
            assert has_committed(await store.commit(made))
        await eventually(lambda: store.count(Query("event")), 4)
        gone = await store.erase("main", "p")
        assert (gone["profile"], gone["session"], gone["event"], gone["claim"]) == (1, 1, 2, 1)
        assert (gone["effect"], gone["failed"]) == (1, 1)
        refs = [
            Ref("profile", key_of("profile", "p")),
            Ref("session", key_of("session", "s p")),
            Ref("claim", "c p"),
            Ref("seen", event_key("e p")),
        ]
        assert await store.read(refs) == [None] * 4
        await eventually(lambda: store.count(Query("event")), 2)
        assert len(await store.claim_due("effect", 9, 9, NOW)) == 1
        assert await store.erase("other", "q") == dict.fromkeys(gone, 0)

    async def test_erasing_takes_what_only_an_event_tells_whose_it_is(self, store: Store) -> None:
        for name in ("p", "q"):
            mine, late = event_row(f"e {name}", session=f"s {name}"), event_row(f"l {name}")
            mark = Row(event_key(f"m {name}"), {"id": "m", "profile": None, "session": f"s {name}"})
            told = [
                effect_row(f"f {row.key}", NOW, event=row.key, profile=None) for row in (mine, late, mark)
            ]
            await store.commit(change(events=[mine, late], marks=[mark], effects=told, timers=told))
            # The same id of another source is another event.
            for key, id in ((mine.key, f"e {name}"), (late.key, f"l {name}"), ("other", f"e {name}")):
                trace = {"tenant": "main", "event": id, "key": key, "profile": None, "received": iso(NOW)}
                await store.keep_traces([Row(f"t {name} {key}", trace)])
            claims = [Claim(f"c {name}", name, {LATE: late.key})]
            made = change(
                profile=profile_write(name), session=session_write(f"s {name}", name), claims=claims
            )
            assert has_committed(await store.commit(made))
        # A profile's own document is never found by the event of another one.
        foreign = effect_row("foreign", NOW, event=event_key("e p"), profile="q")
        await store.commit(change(effects=[foreign]))
        await eventually(lambda: store.count(Query("trace")), 6)
        await eventually(lambda: store.count(Query("effect")), 7)
        counts = {"event": 2, "mark": 1, "effect": 3, "timer": 3, "trace": 2, "claim": 1, "session": 1}
        for kind, number in counts.items():
            kinds = cast("OwnedKind", kind)
            assert len([doc async for doc in store.owned(kinds, "main", ["p"])]) == number, kind
            assert [doc async for doc in store.owned(kinds, "other", ["p"])] == []
        assert await store.erase("main", "p") == {"profile": 1, "failed": 0, **counts}
        assert set((await store.erase("main", "p")).values()) == {0}
        gone = await store.erase("main", "q")
        assert gone == {"profile": 1, "failed": 0, **counts, "effect": 4}
        await eventually(lambda: store.count(Query("trace")), 2)

    async def test_a_merged_profile_grows_old_with_the_one_that_it_lives_on_in(self, store: Store) -> None:
        early, late = iso(NOW - timedelta(days=40)), iso(NOW - timedelta(days=5))
        merged: Doc = {"hidden": True, "merged_into": "a", "time": {"created": early, "updated": early}}
        times = {"created": early, "updated": late}
        for write in (profile_write("a", ids=["a", "b"], time=times), profile_write("b", **merged)):
            id = write.doc["id"]
            assert has_committed(await store.commit(change(profile=write, claims=[Claim(f"c {id}", id)])))
        apart = profile_write("c", ids=["c"], time={"created": early, "updated": iso(NOW)})
        await store.commit(change(profile=apart, claims=[Claim("c c", "c")]))
        await eventually(lambda: store.count(Query("profile")), 2)
        assert (await store.prune({"profile": 10}, NOW))["profile"] == 0
        assert await one(store, "claim", "c b") is not None
        assert (await store.prune({"profile": 4}, NOW))["profile"] == 2
        left = [await one(store, "profile", key_of("profile", name)) for name in "abc"]
        assert [found is not None for found in left] == [False, False, True]
        left = [await one(store, "claim", f"c {name}") for name in "abc"]
        assert [found is not None for found in left] == [False, False, True]

    async def test_owning_anew_keeps_who_it_was(self, store: Store) -> None:
        events = [event_row(f"e{n}", "loser", properties={"n": 2**80}) for n in range(3)]
        timer = effect_row("waits", NOW, profile="loser", held={"n": {}})
        await store.commit(change(session=session_write("s", "loser"), events=events, timers=[timer]))
        await store.commit(change(events=[event_row("own", "survivor")]))
        before = await there(store, "session", key_of("session", "s"))
        await eventually(lambda: store.count(Query("event", profile="loser")), 3)
        await eventually(lambda: store.count(Query("timer", profile="loser")), 1)
        assert await store.reown("main", "loser", "survivor") == 5
        assert await store.reown("main", "loser", "survivor") == 0
        await eventually(lambda: store.count(Query("event", profile="survivor")), 4)
        doc = await store.get("event", events[0].key)
        assert doc == events[0].doc | {"profile": "survivor", "profile_then": "loser"}
        (leased,) = await store.claim_due("timer", 2, 60, NOW)
        assert leased.doc == timer.doc | {"profile": "survivor", "profile_then": "loser"}
        assert await store.commit(change(session=session_write("s", "loser", before))) == Conflict()
        await store.reown("main", "survivor", "third")
        doc = await store.get("event", events[0].key)
        assert doc is not None
        assert (doc["profile"], doc["profile_then"]) == ("third", "loser")

    async def test_several_profiles_can_be_asked_for_at_once(self, store: Store) -> None:
        for name in ("a", "b", "c"):
            made = change(session=session_write(f"s {name}", name), events=[event_row(f"e {name}", name)])
            await store.commit(made)
        await eventually(lambda: store.count(Query("event", profile=("a", "b"))), 2)
        await eventually(lambda: store.count(Query("session", profile=("a", "c", "none"))), 2)
        assert await store.count(Query("event", profile=())) == 0
        (bucket,) = await store.report(Query("event", profile=("b", "c")), "source")
        assert bucket == {"bucket": "shop", "events": 2, "profiles": 2}

    async def test_what_was_owned_anew_is_given_back(self, store: Store) -> None:
        for name in ("a", "b", "c"):
            rows = [event_row(f"{name} {n}", name, properties={"n": 2**80}) for n in range(2)]
            waits = effect_row(f"waits {name}", NOW, profile=name)
            made = change(session=session_write(f"s {name}", name), events=rows, timers=[waits])
            assert has_committed(await store.commit(made))
        await eventually(lambda: store.count(Query("event")), 6)
        for loser, survivor in (("a", "b"), ("b", "c")):
            assert await store.reown("main", loser, survivor) > 0
            await eventually(lambda loser=loser: store.count(Query("event", profile=loser)), 0)  # type: ignore[misc]
        key = key_of("session", "s b")
        before = await there(store, "session", key)
        assert await store.give_back("main", ["c", "b"], ["b", "a"], "b") == 8
        assert await store.give_back("main", ["c", "b"], ["b", "a"], "b") == 0
        session = (await there(store, "session", key)).doc
        assert (session["profile"], "profile_then" in session) == ("b", False)
        assert await store.commit(change(session=session_write("s b", "c", before))) == Conflict()
        mine, others = await store.get("event", event_key("b 0")), await store.get("event", event_key("a 0"))
        assert mine == event_row("b 0", "b", properties={"n": 2**80}).doc
        assert others is not None
        assert (others["profile"], others["profile_then"]) == ("b", "a")
        await eventually(lambda: store.count(Query("event", profile="c")), 2)
        assert await store.give_back("main", ["b"], ["a"], "a") == 4
        assert (
            await store.get("event", event_key("a 0")) == event_row("a 0", "a", properties={"n": 2**80}).doc
        )
        await eventually(lambda: store.count(Query("timer", profile="a")), 1)
        await eventually(lambda: store.count(Query("session", profile="a")), 1)

    async def test_a_session_moves_by_a_change_of_its_old_profile(self, store: Store) -> None:
        await store.commit(change(profile=profile_write("old"), session=session_write("s", "old")))
        await store.commit(change(profile=profile_write("new")))
        key = key_of("session", "s")
        stale, old = await there(store, "session", key), await read_profile(store, "old")
        record = profile_write("old", old)
        record.changed = False
        moved = change(profile=record, session=session_write("s", "new", stale, n=1))
        assert has_committed(await store.commit(moved))
        assert has_committed(await store.commit(moved))
        late = profile_write("old", old, segments=["late"])
        lost = await store.commit(change(profile=late, session=session_write("s", "old", stale, n=1)))
        assert lost == Conflict()
        now = await there(store, "session", key)
        assert now.doc["profile"] == "new"
        owner = profile_write("new", await read_profile(store, "new"), segments=["next"])
        then = change(profile=owner, session=session_write("s", "new", now, n=2))
        assert has_committed(await store.commit(then))
        assert (await there(store, "session", key)).doc["n"] == 2
        await eventually(lambda: store.count(Query("session", profile="new")), 1)
        assert await store.count(Query("session", profile="old")) == 0

    async def test_a_session_moves_to_a_profile_made_with_it(self, store: Store) -> None:
        await store.commit(change(profile=profile_write("old"), session=session_write("s", "old")))
        key = key_of("session", "s")
        stored, old = await there(store, "session", key), await read_profile(store, "old")
        record = profile_write("old", old)
        record.changed = False
        await store.commit(change(profile=record, session=session_write("s", "new", stored, n=1)))
        now = await there(store, "session", key)
        made = change(profile=profile_write("new"), session=session_write("s", "new", now, n=2))
        assert has_committed(await store.commit(made))
        doc = (await there(store, "session", key)).doc
        assert (doc["profile"], doc["n"]) == ("new", 2)

    async def test_versions_of_workflows_are_kept_once(self, store: Store) -> None:
        key = key_of("workflow", "w")
        assert await one(store, "workflow", key) is None
        for text in ("first", "second"):
            await store.keep_workflow(Row(key, {"name": "w", "text": text, "created": iso(NOW)}))
        assert (await there(store, "workflow", key)).doc == {
            "name": "w",
            "text": "first",
            "created": iso(NOW),
        }

    async def test_old_documents_go_and_keys_stay_known(self, store: Store) -> None:
        old, now = NOW - timedelta(days=20), NOW
        done = effect_row("sent", old, status="sent")
        await store.commit(
            change(
                profile=profile_write("p", time={"created": iso(old), "updated": iso(now)}),
                events=[event_row("old", "p", old), event_row("new", "p", now)],
                effects=[effect_row("waits", old), done],
            )
        )
        await store.commit(
            change(profile=profile_write("q", time={"created": iso(old), "updated": iso(old)}))
        )
        days = {"event": 10, "profile": 10, "effect": 10}
        gone = await store.prune(days, now)
        assert (gone["event"], gone["profile"], gone["effect"]) == (1, 1, 1)
        await eventually(lambda: store.count(Query("event")), 1)
        seen = await there(store, "seen", event_key("old"))
        assert seen.doc == {"profile": "p", "content": "hash of old", "id": "old"}
        await store.prune(days, now + timedelta(days=9))
        assert await one(store, "seen", event_key("old")) is None
        assert await one(store, "seen", event_key("new")) is not None
        with pytest.raises(ValueError, match="nonsense"):
            await store.prune({"nonsense": 1}, now)

    async def test_a_timer_is_as_old_as_its_end(self, store: Store) -> None:
        made = {"kind": "run", "profile": "p", "created": iso(NOW - timedelta(days=90))}
        over = {"status": "fired", "due": iso(NOW)}
        rows = {
            "waits": made | {"status": "pending", "due": iso(NOW - timedelta(days=1))},
            "over for long": made | over | {"ended": iso(NOW - timedelta(days=11))},
            "over since today": made | over | {"ended": iso(NOW - timedelta(days=9))},
            "of before": made | over,
        }
        timers = [Row(key_of("timer", id), {"id": id} | doc) for id, doc in rows.items()]
        await store.commit(change(profile=profile_write("p"), timers=timers))
        await eventually(lambda: store.count(Query("timer")), 4)
        assert await store.prune({"timer": 10}, NOW) == {"timer": 2, "mark": 0}
        await eventually(lambda: store.count(Query("timer")), 2)
        # One that ends after it was stored is as old as what became of it.
        (leased,) = await store.claim_due("timer", 5, 60, NOW)
        assert await store.done("timer", leased, leased.doc | over | {"ended": iso(NOW)})
        assert await store.prune({"timer": 10}, NOW + timedelta(days=9)) == {"timer": 1, "mark": 0}
        assert await store.prune({"timer": 10}, NOW + timedelta(days=11)) == {"timer": 1, "mark": 0}

    # Closing

    async def test_closing_writes_what_waits(self, url: str, tmp_path: Path) -> None:
        store = open_store(url, data=tmp_path)
        waiting = [
            asyncio.ensure_future(store.commit(change(profile=profile_write(f"p{n}")))) for n in range(100)
        ]
        await asyncio.sleep(0)
        await store.close()
        assert await asyncio.gather(*waiting) == [Committed()] * 100
        await store.close()
        assert await store.ready() == "closed"
        with pytest.raises(StoreError, match="closed"):
            await store.commit(change(profile=profile_write("late")))
        with pytest.raises(StoreError, match="closed"):
            await one(store, "profile", "x")
        again = open_store(url, data=tmp_path)
        found = await again.read([Ref("profile", key_of("profile", f"p{n}")) for n in range(100)])
        assert all(found)
        assert again.describe()["kind"]
        await again.close()

    # Against a model

    @settings(
        max_examples=40,
        deadline=None,
        # Each store runs it by a class of its own.
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.differing_executors,
        ],
    )
    @given(
        steps=st.lists(
            st.lists(
                st.tuples(
                    st.integers(0, 2), st.integers(0, 2), st.integers(0, 3), st.booleans(), st.booleans()
                ),
                min_size=1,
                max_size=4,
            ),
            max_size=8,
        )
    )
    def test_commits_equal_a_simple_model(self, url: str, tmp_path: Path, steps: list[Any]) -> None:
        asyncio.run(_compare_with_model(url, tmp_path / new_id(), steps))


async def _compare_with_model(
    url: str, data: Path, steps: list[list[tuple[int, int, int, bool, bool]]]
) -> None:
    """Commit changes, some at a time, and predict each outcome with dictionaries."""
    store = open_store(url, data=data)
    try:
        await _commit_and_predict(store, new_id()[:8], steps)
    finally:
        await store.close()


async def _commit_and_predict(
    store: Store, run: str, steps: list[list[tuple[int, int, int, bool, bool]]]
) -> None:
    # Names of this run's own: a store beyond one file is the same for all runs.
    profiles: dict[str, tuple[str, int]] = {}
    sessions: dict[str, str] = {}
    events: dict[str, str] = {}
    number = count()
    done: list[Change] = []
    for batch in steps:
        waiting = []
        for who, visit, event, fresh, again in batch:
            if again and done:
                made = done[who % len(done)]
            else:
                profile, session = f"{run}-p{who}", f"{run}-s{visit}"
                read = None if fresh else await one(store, "profile", key_of("profile", profile))
                change_id = new_id()
                base = read.doc["by"] if read else None
                write = profile_write(profile, read, value=next(number), by=change_id, base=base)
                new = sessions.get(session) is None
                visit_write = session_write(session, profile) if new else None
                rows = [event_row(f"{run}-e{event}", profile)]
                made = change(change_id=change_id, profile=write, session=visit_write, events=rows)
                done.append(made)
            waiting.append((made, asyncio.ensure_future(store.commit(made))))
        for made, future in waiting:
            # Of a change that came before, and was built upon, a store may still know that it came.
            came = (Committed(),) if made.id in events.values() else ()
            assert await future in _predict(made, profiles, sessions, events) + came
    for name, (_, value) in profiles.items():
        assert (await read_profile(store, name)).doc["value"] == value


def _predict(
    made: Change, profiles: dict[str, tuple[str, int]], sessions: dict[str, str], events: dict[str, str]
) -> tuple[Outcome, ...]:
    """Return what may be the outcome; of two reasons why a change is lost a store may tell either."""
    assert made.profile is not None
    name = str(made.profile.doc["id"])
    last = profiles.get(name)
    if last and last[0] == made.id:
        return (Committed(),)
    if made.profile.doc["base"] != (last[0] if last else None):
        return (Conflict(),)
    is_known = (Conflict(),) if made.events[0].key in events else ()
    if made.session and made.session.doc["id"] in sessions:
        return Taken(made.session.key, sessions[made.session.doc["id"]]), *is_known
    if is_known:
        return is_known
    profiles[name] = (made.id, made.profile.doc["value"])
    if made.session:
        sessions[str(made.session.doc["id"])] = name
    events[made.events[0].key] = made.id
    return (Committed(),)
