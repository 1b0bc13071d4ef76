"""Two servers write one session, with and without its profile: none overwrites the other."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Store, Stored
from tests.store_contract import (
    change,
    event_row,
    has_committed,
    key_of,
    one,
    profile_write,
    session_write,
    there,
)


@pytest.fixture(params=["sqlite", "elasticsearch"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Store, Store]]:
    url = "sqlite:" if request.param == "sqlite" else request.getfixturevalue("elastic_url")
    both = open_store(url, data=tmp_path), open_store(url, data=tmp_path)
    yield both
    for store in both:
        await store.close()


async def session(store: Store) -> Stored:
    return await there(store, "session", key_of("session", "s"))


async def test_with_its_profile_after_without(stores: tuple[Store, Store]) -> None:
    a, b = stores
    begins = change(
        profile=profile_write("p"), session=session_write("s", "p"), events=[event_row("e0", "p")]
    )
    assert has_committed(await a.commit(begins))
    profile, old = await there(a, "profile", key_of("profile", "p")), await session(a)
    alone = session_write("s", "p", await session(b), properties={"b": 1})
    assert has_committed(await b.commit(change(session=alone, events=[event_row("e1")])))
    late = change(
        profile=profile_write("p", profile),
        session=session_write("s", "p", old, properties={"a": 1}),
        events=[event_row("e2", "p")],
    )
    assert not has_committed(await a.commit(late))
    assert (await session(a)).doc["properties"] == {"b": 1}
    assert await one(a, "seen", late.events[0].key) is None


async def test_without_its_profile_after_with(stores: tuple[Store, Store]) -> None:
    a, b = stores
    begins = change(profile=profile_write("p"), session=session_write("s", "p"))
    assert has_committed(await a.commit(begins))
    profile, old = await there(a, "profile", key_of("profile", "p")), await session(b)
    writes = session_write("s", "p", await session(a), properties={"a": 1})
    assert has_committed(await a.commit(change(profile=profile_write("p", profile), session=writes)))
    late = change(session=session_write("s", "p", old, properties={"b": 1}), events=[event_row("e1")])
    assert not has_committed(await b.commit(late))
    assert (await session(b)).doc["properties"] == {"a": 1}
    assert await one(b, "seen", late.events[0].key) is None


async def test_only_one_gives_a_profile(stores: tuple[Store, Store]) -> None:
    a, b = stores
    assert has_committed(await a.commit(change(session=session_write("s", None), events=[event_row("e0")])))
    mine, theirs = await session(a), await session(b)
    first = change(
        profile=profile_write("p1"),
        session=session_write("s", "p1", mine),
        events=[event_row("e1", "p1")],
    )
    second = change(
        profile=profile_write("p2"),
        session=session_write("s", "p2", theirs),
        events=[event_row("e2", "p2")],
    )
    assert has_committed(await a.commit(first))
    assert not has_committed(await b.commit(second))
    assert (await session(b)).doc["profile"] == "p1"
    assert await one(b, "profile", key_of("profile", "p2")) is None


async def test_a_profile_for_a_session_that_was_written_since(stores: tuple[Store, Store]) -> None:
    a, b = stores
    assert has_committed(await a.commit(change(session=session_write("s", None), events=[event_row("e0")])))
    old = await session(a)
    alone = session_write("s", None, await session(b), properties={"b": 1})
    assert has_committed(await b.commit(change(session=alone, events=[event_row("e1")])))
    late = change(profile=profile_write("p"), session=session_write("s", "p", old))
    assert not has_committed(await a.commit(late))
    assert (await session(a)).doc["properties"] == {"b": 1}
    assert (await session(a)).doc["profile"] is None
    assert await one(a, "profile", key_of("profile", "p")) is None


async def merge_step(store: Store, name: str, **members: str | bool) -> None:
    """Write a profile as a step of a merge does."""
    stored = await there(store, "profile", key_of("profile", name))
    assert has_committed(await store.commit(change(profile=profile_write(name, stored, **members))))


async def test_while_its_profile_is_being_merged(stores: tuple[Store, Store]) -> None:
    a, b = stores
    begins = change(profile=profile_write("p"), session=session_write("s", "p"))
    assert has_committed(await a.commit(begins))
    assert has_committed(await a.commit(change(profile=profile_write("lives"))))
    await merge_step(a, "p", merging_into="lives")
    old = await session(a)
    alone = session_write("s", "p", await session(b), properties={"b": 1})
    first = await b.commit(change(session=alone, events=[event_row("e1")]))
    await merge_step(a, "p", merged_into="lives", hidden=True)
    lives = profile_write("lives", await there(a, "profile", key_of("profile", "lives")))
    late = change(profile=lives, session=session_write("s", "lives", old, properties={"a": 1}))
    second = await a.commit(late)
    assert has_committed(first) != has_committed(second), (first, second)
    assert (await session(a)).doc["properties"] == ({"b": 1} if has_committed(first) else {"a": 1})
    assert (await one(a, "seen", event_row("e1").key) is not None) == has_committed(first)


async def test_read_before_its_profile_was_merged(stores: tuple[Store, Store]) -> None:
    a, b = stores
    begins = change(profile=profile_write("p"), session=session_write("s", "p"))
    assert has_committed(await a.commit(begins))
    assert has_committed(await a.commit(change(profile=profile_write("lives"))))
    old = await session(a)
    alone = session_write("s", "p", await session(b), properties={"b": 1})
    assert has_committed(await b.commit(change(session=alone, events=[event_row("e1")])))
    await merge_step(b, "p", merged_into="lives", hidden=True)
    lives = await there(a, "profile", key_of("profile", "lives"))
    writes = session_write("s", "lives", old, properties={"a": 1})
    assert not has_committed(await a.commit(change(profile=profile_write("lives", lives), session=writes)))
    again = session_write("s", "lives", await session(a), properties={"b": 1, "a": 1})
    assert has_committed(await a.commit(change(profile=profile_write("lives", lives), session=again)))
    assert (await session(b)).doc["properties"] == {"b": 1, "a": 1}


async def test_moved_to_a_profile_that_nobody_made_yet(stores: tuple[Store, Store]) -> None:
    a, b = stores
    begins = change(profile=profile_write("p"), session=session_write("s", "p"))
    assert has_committed(await a.commit(begins))
    record = profile_write("p", await there(a, "profile", key_of("profile", "p")))
    record.changed = False
    moved = change(profile=record, session=session_write("s", "q", await session(a)))
    assert has_committed(await a.commit(moved))
    old = await session(a)
    alone = session_write("s", "q", await session(b), properties={"b": 1})
    assert has_committed(await b.commit(change(session=alone, events=[event_row("e1")])))
    late = change(profile=profile_write("q"), session=session_write("s", "q", old, properties={"a": 1}))
    assert not has_committed(await a.commit(late))
    assert (await session(a)).doc["properties"] == {"b": 1}
