"""What the embedded store remembers of its last writes, and when it must not."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.errors import StoreError
from headrace.engine.model import Caller, EventInput
from headrace.engine.store.open import FILE_NAME, open_store
from headrace.engine.store.protocol import Committed, Conflict, Query, Ref, Stored, Taken
from headrace.engine.store.sqlite import SqliteStore, apply, recent
from headrace.engine.store.sqlite.recent import Recent
from headrace.engine.store.sqlite.rows import Prepared, pack_key, prepare
from tests.conftest import OpenLab
from tests.makers import chain, count, sources
from tests.store_contract import (
    NOW,
    add_one,
    change,
    event_row,
    has_committed,
    key_of,
    profile_write,
    read_profile,
    session_write,
)

PROFILE = Ref("profile", key_of("profile", "p"))
SESSION = Ref("session", key_of("session", "s"))


@pytest.fixture
def store_kind() -> str:
    return "embedded"


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[[], SqliteStore]]:
    """Open stores on one file and close them after the test."""
    stores: list[SqliteStore] = []

    def opening() -> SqliteStore:
        store = open_store("sqlite:", data=tmp_path)
        assert isinstance(store, SqliteStore)
        stores.append(store)
        return store

    yield opening
    for store in stores:
        await store.close()


@pytest.fixture
def store(opened: Callable[[], SqliteStore], monkeypatch: pytest.MonkeyPatch) -> SqliteStore:
    """Return a store whose memory is trusted however slow the machine is."""
    monkeypatch.setattr(recent, "TRUSTED_SECONDS", 60.0)
    return opened()


async def recall(store: SqliteStore, ref: Ref = PROFILE) -> Stored | None:
    return (await store.read([ref], recent=True))[0]


async def recalled(store: SqliteStore, ref: Ref = PROFILE) -> Stored:
    found = await recall(store, ref)
    assert found is not None
    return found


async def begin(store: SqliteStore) -> None:
    """Write a profile and its session."""
    both = change(profile=profile_write("p"), session=session_write("s", "p"))
    assert has_committed(await store.commit(both))


def meddle(folder: Path) -> None:
    """Write the profile as another process does."""
    with sqlite3.connect(folder / FILE_NAME) as connection:
        connection.execute(
            "UPDATE profiles SET version = version + 1, change = x'00',"
            ' doc = replace(CAST(doc AS TEXT), \'"traits":{}\', \'"traits":{"by":"other"}\')'
        )
    connection.close()


async def test_what_was_written_is_remembered_as_it_is_stored(store: SqliteStore) -> None:
    assert await recall(store) is None
    await begin(store)
    for ref in (PROFILE, SESSION):
        assert await recall(store, ref) == (await store.read([ref]))[0]
    one, other = await recalled(store), await recalled(store)
    one.doc["traits"]["x"] = 1
    assert other.doc["traits"] == {}
    assert has_committed(await store.commit(change(profile=profile_write("p", one))))
    assert await recall(store) == await read_profile(store, "p")
    assert (await recalled(store)).doc["traits"] == {"x": 1}


async def test_what_is_not_remembered_is_read_in_its_place(store: SqliteStore) -> None:
    row = event_row("e", "p")
    await begin(store)
    await store.commit(change(events=[row], profile=profile_write("q")))
    store._recent.forget()
    await add_one(store, "p")
    refs = [
        Ref("seen", row.key),
        SESSION,
        PROFILE,
        Ref("profile", key_of("profile", "none")),
        Ref("seen", "none"),
    ]
    assert await store.read(refs, recent=True) == await store.read(refs)


async def test_a_write_from_a_stale_copy_conflicts_and_the_next_read_is_new(
    store: SqliteStore, tmp_path: Path
) -> None:
    await begin(store)
    meddle(tmp_path)
    stale = await recalled(store)
    assert stale.doc["traits"] == {}
    assert (await read_profile(store, "p")).doc["traits"] == {"by": "other"}
    assert isinstance(await store.commit(change(profile=profile_write("p", stale))), Conflict)
    assert (await recalled(store)).doc["traits"] == {"by": "other"}
    # What was only checked is checked as well.
    write = replace(profile_write("p", stale), changed=False)
    assert isinstance(await store.commit(change(profile=write)), Conflict)


async def test_nothing_is_remembered_for_a_while_after_somebody_else_wrote(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(store)
    meddle(tmp_path)
    await store.commit(change(profile=profile_write("q")))
    assert len(store._recent) == 0
    await add_one(store, "p")
    assert len(store._recent) == 0
    assert (await recalled(store)).doc["traits"] == {"by": "other"}
    monkeypatch.setattr(recent, "QUIET_SECONDS", 0.0)
    meddle(tmp_path)
    await add_one(store, "p")
    await add_one(store, "p")
    assert len(store._recent) == 1
    assert await recall(store) == await read_profile(store, "p")


async def test_a_copy_is_trusted_for_a_moment_only(opened: Callable[[], SqliteStore], tmp_path: Path) -> None:
    store = opened()
    await begin(store)
    meddle(tmp_path)
    await asyncio.sleep(recent.TRUSTED_SECONDS)
    assert (await recalled(store)).doc["traits"] == {"by": "other"}


@pytest.mark.parametrize("job", ["erase", "reown", "prune"])
async def test_what_is_deleted_or_moved_is_not_remembered(store: SqliteStore, job: str) -> None:
    await begin(store)
    assert await recall(store) is not None
    match job:
        case "erase":
            await store.erase("main", "p")
            assert await recall(store) is None
        case "reown":
            await store.reown("main", "p", "q")
            assert (await recalled(store, SESSION)).doc["profile"] == "q"
        case "prune":
            await store.prune({"profile": 1, "session": 1}, NOW + timedelta(days=3))
            assert await recall(store) is None
    for ref in (PROFILE, SESSION):
        assert await recall(store, ref) == (await store.read([ref]))[0]


async def test_a_write_that_was_under_way_while_it_was_erased_brings_nothing_back(store: SqliteStore) -> None:
    await begin(store)
    copy = await recalled(store)
    first, gone, second = await asyncio.gather(
        store.commit(change(profile=profile_write("p", copy, traits={"a": 1}))),
        store.erase("main", "p"),
        store.commit(change(profile=profile_write("p", copy, traits={"a": 2}))),
    )
    assert has_committed(first)
    assert gone["profile"] == 1
    assert isinstance(second, Conflict)
    assert await recall(store) is None
    assert (await store.read([PROFILE])) == [None]


async def test_what_is_written_beside_leaves_what_is_remembered(store: SqliteStore) -> None:
    await begin(store)
    await store.keep_traces([event_row("t")])
    assert await store.claim_due("effect", 1, 10, NOW) == []
    assert len(store._recent) == 2


@pytest.mark.parametrize("how", ["conflict", "taken", "fault"])
async def test_what_was_not_written_is_forgotten(store: SqliteStore, how: str) -> None:
    await begin(store)
    profile, session = await recalled(store), await recalled(store, SESSION)
    if how == "conflict":
        old = profile._replace(version=(1, 0))
        sent = change(profile=profile_write("p", old), session=session_write("s", "p", session))
        assert isinstance(await store.commit(sent), Conflict)
    elif how == "taken":
        sent = change(profile=profile_write("p", profile), session=session_write("s", "p"))
        assert await store.commit(sent) == Taken(SESSION.key, "p")
    else:
        sent = change(
            profile=profile_write("p", profile),
            session=session_write("s", "p", session),
            events=[event_row("e", type=7 << 70)],
        )
        with pytest.raises(StoreError):
            await store.commit(sent)
    assert len(store._recent) == 0
    assert await recall(store) == profile
    assert await recall(store, SESSION) == session


async def test_a_change_that_was_written_before_is_known_again(store: SqliteStore) -> None:
    await begin(store)
    again = change(profile=profile_write("p", await recalled(store)), events=[event_row("e", "p")])
    assert has_committed(await store.commit(again))
    assert has_committed(await store.commit(again))
    assert await recall(store) == await read_profile(store, "p")
    store._writer._known.forget()
    assert has_committed(await store.commit(again))
    assert await recall(store) == await read_profile(store, "p")
    assert await store.count(Query("event")) == 1


def wrote(name: str, size: int = 0) -> Prepared:
    made = prepare(change(profile=profile_write(name, traits={"x": "x" * size})))
    made.taken = True
    return made


@pytest.mark.parametrize("most", ["MOST_DOCS", "MOST_BYTES"])
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, most: str) -> None:
    size = len((wrote("a", 100).profile or [b""])[-1])
    monkeypatch.setattr(recent, most, 3 if most == "MOST_DOCS" else 3 * size)
    kept = Recent()
    for name in "abcabcdea":
        kept.settle(wrote(name, 100), Committed())
        kept.checked()
        assert kept.get("profile", pack_key(key_of("profile", name))) is not None
        assert len(kept) <= 3
        assert kept.bytes == size * len(kept)
    # The oldest goes first.
    assert kept.get("profile", pack_key(key_of("profile", "c"))) is None
    assert len(kept) == 3


def test_what_is_larger_than_all_room_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "MOST_BYTES", 1000)
    kept = Recent()
    kept.settle(wrote("a"), Committed())
    kept.settle(wrote("b", 1000), Committed())
    assert kept.bytes == len(kept) == 0


async def test_versions_that_are_remembered_are_bounded(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "MOST_REMEMBERED", 5)
    for _ in range(2):
        for number in range(20):
            name = f"p{number}"
            if await recall(store, Ref("profile", key_of("profile", name))) is None:
                await store.commit(change(profile=profile_write(name)))
            await add_one(store, name)
            assert len(store._writer._known.profiles) <= 6


async def test_a_key_that_is_not_free_stops_only_its_own_change(store: SqliteStore) -> None:
    await begin(store)
    await store.commit(change(events=[event_row("taken", "p")]))
    copy = await recalled(store)
    sent = [
        change(profile=profile_write("p", copy), events=[event_row("new", "p")]),
        change(profile=profile_write("q"), events=[event_row("taken", "q")]),
        change(profile=profile_write("p"), events=[event_row("second", "p")]),
        change(session=session_write("s", "q")),
        change(events=[event_row("twice"), event_row("twice")]),
        change(events=[event_row("twice", "other")]),
    ]
    found = await asyncio.gather(*map(store.commit, sent))
    assert found == [Committed(), Conflict(), Conflict(), Taken(SESSION.key, "p"), Committed(), Conflict()]
    assert await store.count(Query("event")) == 3
    assert await store.read([Ref("profile", key_of("profile", "q"))]) == [None]


async def test_two_who_write_one_file_lose_no_update(opened: Callable[[], SqliteStore]) -> None:
    stores = [opened(), opened()]
    await stores[0].commit(change(profile=profile_write("p")))

    async def add(store: SqliteStore) -> None:
        while True:
            found = await recalled(store)
            found.doc["stats"]["views"] += 1
            if has_committed(await store.commit(change(profile=profile_write("p", found)))):
                return

    for _ in range(30):
        await add(stores[0])
        await add(stores[1])
    await asyncio.gather(*(add(store) for store in stores for _ in range(20)))
    assert (await read_profile(stores[0], "p")).doc["stats"]["views"] == 100


SHOP = sources(shop={"keys": ["hush"]})


async def test_an_event_sent_again_is_answered_from_the_file(
    open_lab: OpenLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "TRUSTED_SECONDS", 60.0)
    more: dict[str, Any] = {"profile": True, "caller": Caller(secret="hush")}
    async with open_lab({"sources.json": SHOP, "count": chain("x", count())}) as lab:
        first = await lab.track(EventInput("x", id="e1"), **more)
        assert first.profile is not None
        meddle(tmp_path / "data")
        before = await lab.rows()
        again = await lab.track(EventInput("x", id="e1"), **more)
        assert again.profile is not None
        assert again.profile["traits"] == {"by": "other"}
        assert await lab.rows() == before
        # One that is new is worked on with what is there, after a conflict.
        await lab.track(EventInput("x", id="e2"), **more)
        assert lab.engine.metrics.conflicts == 1
        assert (await lab.one("profile"))["traits"] == {"by": "other"}
        assert await lab.counter() == 2
