"""Indices that somebody deletes under a running server: told, and never made by a guess."""

import asyncio
from pathlib import Path

import pytest

from headrace.engine.errors import StoreError
from headrace.engine.store.elastic import ElasticStore
from headrace.engine.store.elastic.layout import WHOLE, first_index
from headrace.engine.store.elastic.setup import Setup
from headrace.engine.store.protocol import Query
from tests.elastic.conftest import DEDUP_DAYS, Rig
from tests.elastic.page import run, shell_blocks
from tests.store_contract import change, event_row, has_committed, profile_write, session_write

PATIENCE_SECONDS = 15


@pytest.fixture
async def used(rig: Rig) -> Rig:
    """Give a store with some documents in it."""
    assert await commit(rig.store, "a")
    await rig.refresh()
    return rig


async def commit(store: ElasticStore, name: str) -> bool:
    first = change(
        profile=profile_write(name, segments=["vip"]),
        session=session_write(f"s {name}", name),
        events=[event_row(name, name)],
    )
    try:
        return has_committed(await store.commit(first))
    except StoreError:
        return False


async def until_ready(store: ElasticStore, code: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await store.ready() != code:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)


async def indices(rig: Rig) -> set[str]:
    return set(await rig.cluster.ask_json("GET", f"/{rig.cluster.place.prefix}-*"))


async def test_one_index_that_goes_is_told_until_somebody_decides(used: Rig, tmp_path: Path) -> None:
    place = used.cluster.place
    profiles = first_index(place, "profiles")
    before = await indices(used)
    await used.cluster.ask("DELETE", f"/{profiles}")
    assert not await commit(used.store, "b")
    assert await indices(used) == before - {profiles}
    await until_ready(used.store, "store-refused")
    assert used.alias("profiles") in used.store._setup.text
    other = ElasticStore(place, dedup_days=DEDUP_DAYS, request_seconds=10)
    assert await other.ready() == "store-refused"
    (block,) = shell_blocks("When an index is gone")
    await asyncio.to_thread(
        run, block, tmp_path, place.hosts[0], place.prefix, **{"headrace-profiles-000001": profiles}
    )
    for store in (used.store, other):
        await until_ready(store, "")
    assert await commit(used.store, "b")
    assert await commit(other, "c")
    await other.close()
    await used.refresh()
    assert await used.questions.count(Query("profile")) == 2
    assert await used.questions.count(Query("event")) == 3


async def test_when_all_go_the_store_begins_anew(used: Rig) -> None:
    before = await indices(used)
    await used.cluster.ask("DELETE", f"/{','.join(before)}")
    assert not await commit(used.store, "a")
    wholes = {first_index(used.cluster.place, kind) for kind in WHOLE}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await Setup(used.cluster).found_version() is None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
    assert await indices(used) >= wholes
    assert await used.store.ready() == ""
    assert await commit(used.store, "b")
    await used.refresh()
    assert await indices(used) == before
    assert {one["id"] for one in (await used.questions.find(Query("profile"))).items} == {"b"}


async def test_no_write_makes_an_index_by_a_guess(used: Rig) -> None:
    before = await indices(used)
    # Without the one that tells the version the server would begin anew.
    kinds = [kind for kind in WHOLE if kind != "about"]
    gone = {first_index(used.cluster.place, kind) for kind in kinds}
    await used.cluster.ask("DELETE", f"/{','.join(gone)}")
    for where in (*map(used.alias, kinds), *gone):
        with pytest.raises(AssertionError, match="index_not_found"):
            await used.put(where, "x", key="x")
    assert await indices(used) == before - gone
    assert await Setup(used.cluster).gone() == list(map(used.alias, kinds))


async def test_an_index_in_the_place_of_an_alias_is_told(used: Rig) -> None:
    """As an older program left it: its write made the index."""
    place = used.cluster.place
    name, gone = used.alias("effects"), first_index(place, "effects")
    await used.cluster.ask("DELETE", f"/{gone}")
    await used.cluster.ask("PUT", f"/{name}")
    other = ElasticStore(place, dedup_days=DEDUP_DAYS, request_seconds=10)
    assert await other.ready() == "store-refused"
    await used.cluster.ask("DELETE", f"/{name}")
    await used.cluster.ask("PUT", f"/{gone}")
    await until_ready(other, "")
    await other.close()


async def test_a_month_that_goes_comes_again_as_it_was(used: Rig) -> None:
    before = await indices(used)
    (month,) = (name for name in before if name.startswith(used.alias("events")))
    mapped = await used.cluster.ask_json("GET", f"/{month}/_mapping")
    await used.cluster.ask("DELETE", f"/{month}")
    assert await commit(used.store, "b")
    await used.refresh()
    assert await used.cluster.ask_json("GET", f"/{month}/_mapping") == mapped
    assert await used.questions.count(Query("event")) == 1
    assert await used.store.ready() == ""
