"""What every store promises about being copied, as a suite; subclasses say from where to where."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.errors import StoreRefused
from headrace.engine.model import iso, make_key, new_session
from headrace.engine.store.copying import Copying, Found
from headrace.engine.store.moving import MOVED, Kept, MovedKind, Moving
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Change, Claim, Query, Ref, Row, Store, Write
from headrace.engine.store.upkeep import open_moving
from tests.store_contract import (
    HOSTILE,
    NOW,
    change,
    effect_row,
    event_key,
    event_row,
    eventually,
    has_committed,
    key_of,
    profile_write,
    read_profile,
    session_write,
    there,
)


def row(kind: str, name: str, **members: Any) -> Row:
    doc = {
        "id": name,
        "event": f"e-{name}",
        "type": "page-view",
        "source": "shop",
        "time": {"created": iso(NOW)},
    }
    return Row(key_of(kind, name), doc | members)


def a_change(name: str, value: Any) -> Change:
    """A change with one document of every kind but traces."""
    profile = f"p-{name}"
    return change(
        profile=profile_write(profile, traits={"hostile": value}, segments=["vip"]),
        session=session_write(f"s-{name}", profile, properties={"hostile": value}),
        claims=[Claim(key_of("claim", name), profile, {"kind": "visitor"})],
        events=[event_row(f"e-{name}", profile, session=f"s-{name}", properties={"hostile": value})],
        marks=[
            Row(
                event_key(f"m-{name}"),
                {"profile": profile, "content": "c", "id": f"m-{name}", "received": iso(NOW)},
            )
        ],
        failed=[row("failed", name, raw=value)],
        effects=[effect_row(name, NOW, event=f"e-{name}", request={"body": value})],
        timers=[row("timer", name, due=iso(NOW), results=value)],
    )


async def fill(store: Store, values: dict[str, Any]) -> None:
    """Commit a change for every value, and keep a trace of it."""
    for name, value in values.items():
        await store.commit(a_change(name, value))
        await store.keep_workflow(
            Row(make_key("workflow", name), {"name": name, "created": iso(NOW), "text": json_text(value)})
        )
    await store.keep_traces([row("trace", name, nodes=value) for name, value in values.items()])


def json_text(value: Any) -> str:
    """Return a file's text."""
    return json.dumps(value)


def hostile() -> dict[str, Any]:
    """Hostile values under plain names, and one whose documents say nothing of their own times."""
    return {f"h{n}": value for n, value in enumerate(HOSTILE.values())}


async def everything(moving: Moving, n: int = 7) -> dict[MovedKind, dict[str, Kept]]:
    """Return all that a store keeps, a few documents at a time."""
    await moving.settle()
    found: dict[MovedKind, dict[str, Kept]] = {}
    for kind in MOVED:
        found[kind] = {}
        after: str | None = None
        while True:
            batch = await moving.dump(kind, after, n)
            found[kind] |= {one.key: one for one in batch.rows}
            after = batch.after
            if after is None:
                break
    return found


@asynccontextmanager
async def opened(url: str, data: Path) -> AsyncIterator[Store]:
    store = open_store(url, data=data)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def moving(url: str, data: Path) -> AsyncIterator[Moving]:
    one = await open_moving(url, data=data, make=True)
    try:
        yield one
    finally:
        await one.close()


async def kept(url: str, data: Path) -> dict[MovedKind, dict[str, Kept]]:
    async with moving(url, data) as one:
        return await everything(one)


async def copied(
    source: Moving, target: Moving, *, into_existing: bool = False, sample: int = 1000
) -> tuple[int, Found]:
    """Copy and compare; returns how many documents were written."""
    job = Copying(source, target, into_existing=into_existing)
    await job.begin()
    written = {at.kind: at.written async for at in job.run()}
    _, _, found = await job.compare(sample)
    return sum(written.values()), found


async def ended_at(kind: MovedKind, source: Moving, target: Moving) -> None:
    """Begin a copy that is ended when it comes to a kind, all before that being copied."""
    job = Copying(source, target)
    await job.begin()
    run = job.run()
    async for at in run:
        if at.kind == kind:
            break
    await run.aclose()  # type: ignore[attr-defined]


class MovingContract:
    """Subclasses give the fixtures `url` and `other_url`; `tmp_path` is the stores' data folder."""

    @pytest.fixture
    async def source(self, url: str, tmp_path: Path) -> AsyncIterator[Moving]:
        async with opened(url, tmp_path) as store:
            await fill(store, hostile() | {f"n{n}": {"n": n} for n in range(20)})
        async with moving(url, tmp_path) as source:
            yield source

    @pytest.fixture
    async def target(self, other_url: str, tmp_path: Path) -> AsyncIterator[Moving]:
        async with moving(other_url, tmp_path) as target:
            yield target

    async def test_hostile_documents_are_equal_to_the_byte(self, source: Moving, target: Moving) -> None:
        written, found = await copied(source, target)
        assert found.differences == []
        assert found.compared > 100
        mine, theirs = await everything(source), await everything(target)
        assert {kind: len(rows) for kind, rows in mine.items()} == dict.fromkeys(MOVED, 36)
        assert mine == theirs
        assert written == 36 * len(MOVED)

    async def test_a_second_copy_writes_nothing(self, source: Moving, target: Moving) -> None:
        await copied(source, target)
        before = await everything(target)
        assert await copied(source, target) == (0, Found([], [], 36 * len(MOVED)))
        assert await everything(target) == before

    @pytest.mark.parametrize("is_late", [False, True])
    async def test_a_merged_profile_is_not_found_in_the_copy(
        self, url: str, source: Moving, target: Moving, other_url: str, tmp_path: Path, is_late: bool
    ) -> None:
        if is_late:
            await copied(source, target)
        async with opened(url, tmp_path) as store:
            merged = await read_profile(store, "p-n2")
            alias = {name: merged.doc[name] for name in ("id", "tenant", "time")}
            alias |= {"hidden": True, "merged_into": "p-n1", "frozen": merged.doc}
            write = Write(key_of("profile", "p-n2"), alias, merged.version)
            assert has_committed(await store.commit(change(profile=write)))
        _, found = await copied(source, target)
        assert found.differences == []
        async with opened(other_url, tmp_path) as store:
            assert (await read_profile(store, "p-n2")).doc == alias
            await eventually(lambda: store.count(Query("profile")), 35)

    async def test_what_was_copied_can_be_worked_with(
        self, source: Moving, target: Moving, other_url: str, tmp_path: Path
    ) -> None:
        await copied(source, target)
        async with opened(other_url, tmp_path) as store:
            profile = await read_profile(store, "p-n1")
            session = await there(store, "session", key_of("session", "s-n1"))
            for n in range(2):
                made = change(
                    profile=profile_write("p-n1", profile, traits={"n": n}),
                    session=session_write("s-n1", "p-n1", session, properties={"n": n}),
                    events=[event_row(f"new-{n}", "p-n1")],
                )
                assert has_committed(await store.commit(made))
                profile = await read_profile(store, "p-n1")
                session = await there(store, "session", key_of("session", "s-n1"))
                assert profile.doc["traits"] == {"n": n}
                assert session.doc["properties"] == {"n": n}
            assert not has_committed(await store.commit(change(events=[event_row("e-n2", "p-n1")])))
            (claim, mark) = await store.read(
                [Ref("claim", key_of("claim", "n1")), Ref("seen", event_key("m-n1"))]
            )
            assert claim is not None
            assert claim.doc == {"kind": "visitor", "profile": "p-n1"}
            assert mark is not None
            assert mark.doc == {"profile": "p-n1", "content": "c", "id": "m-n1"}
            due = await store.claim_due("effect", 100, 30, NOW + timedelta(hours=1))
            assert len(due) == 36

    async def test_what_changed_since_is_copied_again(
        self, source: Moving, target: Moving, url: str, tmp_path: Path
    ) -> None:
        await copied(source, target)
        async with opened(url, tmp_path) as store:
            profile = await read_profile(store, "p-n1")
            session = await there(store, "session", key_of("session", "s-n1"))
            made = change(
                profile=profile_write("p-n1", profile, traits={"new": 1}),
                session=session_write("s-n1", "p-n1", session, properties={"new": 1}),
                events=[event_row("new", "p-n1")],
            )
            assert has_committed(await store.commit(made))
            (leased,) = await store.claim_due("effect", 1, 30, NOW + timedelta(hours=1))
            assert await store.done("effect", leased, leased.doc | {"status": "sent"})
            await store.reown("main", "p-n3", "p-n4")
        written, found = await copied(source, target)
        assert found.differences == []
        # Profile, session and event; the effect; the session, event and timer that have another profile now.
        assert written == 7
        assert await everything(source) == await everything(target)

    async def test_a_store_with_other_data_is_refused(
        self, source: Moving, target: Moving, other_url: str, tmp_path: Path
    ) -> None:
        async with opened(other_url, tmp_path) as store:
            await store.commit(a_change("n1", "mine"))
            await store.commit(a_change("other", "mine"))
        with pytest.raises(StoreRefused, match="has data that is not from"):
            await copied(source, target)
        written, found = await copied(source, target, into_existing=True)
        assert written == 36 * len(MOVED) - 8
        # What was there before stays, and differs from the one of the same key.
        assert len(found.differences) > 1
        assert all(key_of("profile", "p-n1") in one for one in found.differences if one.startswith("profile"))
        mine = (await everything(target))["profile"][key_of("profile", "p-n1")]
        assert mine.doc is not None
        assert b'"hostile":"mine"' in mine.doc

    async def test_a_store_that_a_server_uses_is_not_written_over(
        self, source: Moving, target: Moving, other_url: str, tmp_path: Path
    ) -> None:
        await copied(source, target)
        async with opened(other_url, tmp_path) as store:
            profile = await read_profile(store, "p-n1")
            made = change(
                profile=profile_write("p-n1", profile, traits={"new": 1}), events=[event_row("new", "p-n1")]
            )
            await store.commit(made)
        with pytest.raises(StoreRefused, match="was written to after it was copied"):
            await copied(source, target)

    async def test_a_profile_that_a_server_wrote_stays(
        self, source: Moving, target: Moving, other_url: str, tmp_path: Path
    ) -> None:
        await copied(source, target)
        async with opened(other_url, tmp_path) as store:
            profile = await read_profile(store, "p-n1")
            # The number of documents does not tell.
            await store.commit(change(profile=profile_write("p-n1", profile, traits={"new": 1})))
        written, found = await copied(source, target)
        assert written == 0
        assert found.differences == [
            f"profile {key_of('profile', 'p-n1')} differs in {target.shown()}: traits."
        ]

    async def test_a_copy_that_was_ended_goes_on(self, source: Moving, target: Moving) -> None:
        job = Copying(source, target)
        await job.begin()
        async for at in job.run():
            if at.kind == "event":
                break
        again = Copying(source, target)
        await again.begin()
        assert again.resumed
        written = {at.kind: at.written async for at in again.run()}
        assert written == dict.fromkeys(MOVED, 36)
        assert await everything(source) == await everything(target)

    async def test_what_changed_after_a_copy_was_ended_is_copied(
        self, source: Moving, target: Moving, url: str, tmp_path: Path
    ) -> None:
        await ended_at("event", source, target)
        async with opened(url, tmp_path) as store:
            profile = await read_profile(store, "p-n7")
            session = await there(store, "session", key_of("session", "s-n7"))
            made = change(
                profile=profile_write("p-n7", profile, stats={"counters": {"orders": 2}}),
                session=session_write("s-n7", "p-n7", session, properties={"new": 1}),
                claims=[Claim(key_of("claim", "n7"), "p-n7", {"kind": "visitor", "new": 1})],
                events=[event_row("new", "p-n7")],
            )
            assert has_committed(await store.commit(made))
            await store.commit(a_change("late", 1))
        _, found = await copied(source, target)
        assert found.differences == []
        assert await everything(source) == await everything(target)
        assert (await copied(source, target))[0] == 0

    async def test_a_source_that_is_written_meanwhile(
        self, source: Moving, target: Moving, url: str, tmp_path: Path
    ) -> None:
        job = Copying(source, target)
        await job.begin()
        async with opened(url, tmp_path) as store:
            await store.commit(a_change("late", 1))
            async for _ in job.run():
                pass
        _, _, found = await job.compare(10)
        assert "A server seems to write" in found.differences[0]
        assert "+1 profile, +1 session, +1 claim" in found.differences[0]
        assert (await copied(source, target))[1].differences == []

    async def test_missing_and_surplus_documents_are_named(
        self, source: Moving, target: Moving, url: str, other_url: str, tmp_path: Path
    ) -> None:
        await copied(source, target)
        async with opened(other_url, tmp_path) as store:
            await store.erase("main", "p-n1")
            await store.erase("main", "p-n2")
        async with opened(url, tmp_path) as store:
            await store.erase("main", "p-n2")
        _, _, found = await Copying(source, target).compare(0)
        keys = {"profile": key_of("profile", "p-n1"), "event": event_key("e-n1"), "mark": event_key("m-n1")}
        assert {f"{kind} {key} is not in {target.shown()}." for kind, key in keys.items()} < set(
            found.differences
        )
        async with opened(url, tmp_path) as store:
            await store.erase("main", "p-n1")
            await store.erase("main", "p-n3")
        _, _, found = await Copying(source, target).compare(0)
        assert [one for one in found.differences if "profile more" in one]

    async def test_every_tenant_keeps_its_own(
        self, url: str, other_url: str, tmp_path: Path, target: Moving
    ) -> None:
        key = make_key("session", "blue", "s")
        async with opened(url, tmp_path) as store:
            write = Write(key, new_session("s", "blue", "shop", iso(NOW)) | {"hidden": True}, None)
            await store.commit(change(tenant="blue", session=write))
        async with moving(url, tmp_path) as source:
            assert await copied(source, target) == (1, Found([], [], 1))
        async with opened(other_url, tmp_path) as store:
            assert (await there(store, "session", key)).doc == write.doc
            assert (await store.find(Query("session", tenant="blue"))).items == []

    async def test_an_empty_store_gives_an_empty_store(
        self, url: str, target: Moving, tmp_path: Path
    ) -> None:
        async with moving(url, tmp_path) as source:
            assert await copied(source, target) == (0, Found([], [], 0))
            with pytest.raises(StoreRefused, match="cannot be copied to itself"):
                await copied(source, source)
