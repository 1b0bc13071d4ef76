"""Two servers on one store have one tick; what a killed one began the other ends."""

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from headrace.engine.catalog import find_plugins
from headrace.engine.files.workspace import load_workspace
from headrace.engine.model import Doc, new_id, utc_now
from headrace.engine.schedule import mark_of, tick_row
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Change, Store
from tests.live.conftest import Starts
from tests.live.server import track_body, write_workspace
from tests.makers import chain, count
from tests.stores import EmbeddedPlace, Place

PROFILES = 40
ENDS_SECONDS = 30.0


@pytest.fixture
def hourly(tmp_path: Path) -> Path:
    """Write a workspace whose schedule had its last tick a few minutes ago."""
    minute = (utc_now() - timedelta(minutes=2)).minute
    workflow = chain("x", count()) | {"on": {"schedule": {"cron": f"{minute} * * * *", "segment": "vip"}}}
    join = chain("join", ("add_segment", {"segment": "vip"}))
    path = write_workspace(tmp_path / "hourly", hourly=workflow, join=join)
    (path / "segments.json").write_text('{"segments": {"vip": {}}}')
    return path


@pytest.fixture
async def store(place: Place, tmp_path: Path) -> AsyncIterator[Store]:
    """Look into the servers' store, and write there what they find."""
    data = place.data if isinstance(place, EmbeddedPlace) else tmp_path / "data"
    opened = open_store(place.url, data=data)
    yield opened
    await opened.close()


async def let_tick(store: Store, hourly: Path) -> str:
    """Let the last tick be one that nobody has run yet; returns its key."""
    workflow = load_workspace(hourly, find_plugins(), lambda _: None).workflow("hourly")
    assert workflow is not None
    schedule = workflow.file.on.schedule
    assert schedule is not None
    tick = schedule.cron.newest(utc_now(), UTC)
    row = tick_row(workflow, mark_of(schedule, ZoneInfo("UTC")), "main", tick)
    await store.commit(Change(new_id(), "main", timers=[row]))
    return row.key


async def ended(store: Store, key: str) -> Doc:
    """Wait until a tick is over, and return its timer."""
    async with asyncio.timeout(ENDS_SECONDS):
        while True:
            timer = await store.get("timer", key)
            if timer is not None and timer["status"] != "pending":
                return timer
            await asyncio.sleep(0.1)


def counts(place: Place) -> list[float]:
    return [profile["stats"]["counters"].get("n", 0) for profile in place.docs("profiles")]


async def test_two_servers_run_a_tick_once(start: Starts, hourly: Path, place: Place, store: Store) -> None:
    first, second = start(hourly), start(hourly)
    for number in range(PROFILES):
        assert first.post(track_body("join", session=f"s{number}"))[0] == 200
    place.show()
    timer = await ended(store, await let_tick(store, hourly))
    assert (timer["status"], timer["done"]) == ("fired", PROFILES)
    await place.finish()
    assert counts(place) == [1] * PROFILES
    assert [server.stop() for server in (first, second)] == [0, 0]
    ticks = [timer for timer in place.docs("timers") if timer["tick"] == timer["due"]]
    # The one that was run, and the one to come, which both have seen.
    assert len(ticks) == 2


async def test_what_a_killed_server_began_another_ends(
    start: Starts, hourly: Path, place: Place, store: Store
) -> None:
    first = start(hourly, HEADRACE_CRASH_AT="schedule.some:2")
    for number in range(PROFILES):
        assert first.post(track_body("join", session=f"s{number}"))[0] == 200
    place.show()
    key = await let_tick(store, hourly)
    assert await asyncio.to_thread(first.wait_until_ended) == -signal.SIGKILL
    await place.finish()
    assert 0 < sum(counts(place)) < PROFILES
    second = start(hourly)
    # As if the lease of the dead one had ended.
    await store.amend("timer", key, lambda doc: doc)
    timer = await ended(store, key)
    assert (timer["status"], timer["done"]) == ("fired", PROFILES)
    await place.finish()
    assert counts(place) == [1] * PROFILES
    assert second.stop() == 0
