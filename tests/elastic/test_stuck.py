"""A document that the cluster refuses keeps nothing else from being written."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from headrace.engine.errors import StoreError
from headrace.engine.model import utc_now
from headrace.engine.store.copying import Copying
from headrace.engine.store.elastic import sweep
from headrace.engine.store.elastic.backlog import Backlog
from headrace.engine.store.elastic.layout import VERSION
from headrace.engine.store.elastic.moving import ElasticMoving
from headrace.engine.store.elastic.parts import part_of
from headrace.engine.store.elastic.settle import Settler
from headrace.engine.store.elastic.sweep import Sweeper
from headrace.engine.store.elastic.work import Work
from headrace.engine.store.protocol import Query
from headrace.engine.store.upkeep import open_moving
from tests.elastic.conftest import Rig
from tests.store_contract import NOW, change, effect_row, event_row, has_committed, profile_write

STUCK, OTHERS, BATCH = 7, 16, 5
LONG_AGO = utc_now() - timedelta(days=35)


@pytest.fixture
async def blocked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let a server die after its commits, the oldest with events of a month that takes none; return the index."""
    monkeypatch.setattr(sweep, "BATCH", BATCH)
    monkeypatch.setattr(Backlog, "add", lambda _self, _entry: None)
    month = f"{rig.cluster.place.prefix}-events-{LONG_AGO:%Y.%m}"
    await rig.cluster.ask("PUT", f"/{month}")
    await rig.cluster.ask("PUT", f"/{month}/_block/write")
    old = [(f"old{n}", event_row(f"old{n}", f"old{n}", at=LONG_AGO)) for n in range(STUCK)]
    new = [(f"new{n}", event_row(f"new{n}", f"new{n}")) for n in range(OTHERS)]
    for some in (old, new):
        commits = [
            change(profile=profile_write(name), events=[row], effects=[effect_row(name, NOW, profile=name)])
            for name, row in some
        ]
        assert all(map(has_committed, await asyncio.gather(*map(rig.store.commit, commits))))
    await rig.cluster.ask("POST", f"/{rig.cluster.place.prefix}-*/_refresh")
    return month


async def test_the_sweeper_goes_on_behind_what_is_refused(rig: Rig, blocked: str) -> None:
    sweeper = Sweeper(rig.cluster, rig.bulk, Settler(rig.bulk))
    assert (await sweeper.sweep(timedelta(0)), sweeper.stuck) == (OTHERS, STUCK)
    await rig.refresh()
    assert await rig.questions.count(Query("event")) == OTHERS
    assert await rig.questions.count(Query("effect")) == OTHERS + STUCK
    await rig.cluster.ask("PUT", f"/{blocked}/_settings", b'{"index.blocks.write":null}')
    assert (await sweeper.sweep(timedelta(0)), sweeper.stuck) == (STUCK, 0)
    await rig.refresh()
    assert await rig.questions.count(Query("event")) == OTHERS + STUCK
    assert await sweeper.sweep(timedelta(0)) == 0


async def test_a_copy_leaves_nothing_out_that_waits(rig: Rig, blocked: str, tmp_path: Path) -> None:
    place = rig.cluster.place
    url = f"elasticsearch://{place.hosts[0].partition('//')[2]}/{place.prefix}?refresh=-1"
    source = await open_moving(url, data=tmp_path, make=True)
    file = await open_moving(f"sqlite:{tmp_path / 'b.db'}", data=tmp_path, make=True)
    with pytest.raises(StoreError, match=f"At least {STUCK} records .* cluster_block_exception"):
        await Copying(source, file).begin()
    await rig.cluster.ask("PUT", f"/{blocked}/_settings", b'{"index.blocks.write":null}')
    job = Copying(source, file)
    await job.begin()
    async for _progress in job.run():
        pass
    mine, theirs, found = await job.compare(10)
    assert found.differences == []
    assert mine["event"] == theirs["event"] == OTHERS + STUCK
    await source.close()
    await file.close()


async def test_each_part_is_known_by_its_own_documents(rig: Rig, blocked: str) -> None:
    rows = [event_row("a", "p", at=LONG_AGO), event_row("b", "p"), event_row("c", "p")]
    planned = Work(change(profile=profile_write("p"), events=rows), rig.cluster.place).planned
    parts = [part_of("both", 1, [], None, planned[:2]), part_of("good", 1, [], None, planned[2:])]
    settler = Settler(rig.bulk)
    assert planned[0].where == blocked
    assert await settler.settle(parts) is False
    assert ("both" in settler.done, "good" in settler.done) == (False, True)
    assert "cluster_block_exception" in settler.trouble


async def test_records_that_take_no_writes_end_the_sweep(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of an index that is just migrated: their documents are written, and they are met again later."""
    monkeypatch.setattr(Backlog, "add", lambda _self, _entry: None)
    commits = [change(profile=profile_write(f"p{n}"), events=[event_row(f"e{n}", f"p{n}")]) for n in range(3)]
    assert all(map(has_committed, await asyncio.gather(*map(rig.store.commit, commits))))
    await rig.refresh()
    index = f"{rig.cluster.place.prefix}-profiles-{VERSION:06}"
    await rig.cluster.ask("PUT", f"/{index}/_block/write")
    sweeper = Sweeper(rig.cluster, rig.bulk, Settler(rig.bulk))
    assert (await asyncio.wait_for(sweeper.sweep(timedelta(0)), 60), sweeper.stuck) == (0, 3)
    assert sweeper.unwritten == 0
    # All that a copy reads is there: an index may be closed to writes before it is moved.
    moving = ElasticMoving(rig.cluster.place)
    await moving.settle()
    assert (await moving.tally())["event"] == 3
    await moving.close()
    await rig.refresh()
    assert await rig.questions.count(Query("event")) == 3
    await rig.cluster.ask("PUT", f"/{index}/_settings", b'{"index.blocks.write":null}')
    assert (await sweeper.sweep(timedelta(0)), sweeper.stuck) == (3, 0)
