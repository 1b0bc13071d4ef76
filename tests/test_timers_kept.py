"""Runs that wait outlive restarts, changes of the clock and of files, races, and many of them at once."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.errors import StoreError
from headrace.engine.held import VersionError
from headrace.engine.model import Doc, EventInput, iso
from headrace.engine.store.copying import Copying
from headrace.engine.store.protocol import Change, Leased, Outcome, Query
from headrace.engine.store.upkeep import open_moving
from headrace.engine.timers.kinds import fire_run, fire_wake
from headrace.engine.timers.worker import MOST_TRIES
from tests.conftest import OpenLab
from tests.makers import NOW, Lab, chain, count, make_engine, write_workspace
from tests.test_timers import HOUR, counters, fire, for_order, timers, waiting, worker

CHANGED: Doc = chain("x", ("wait", {"period": "5h"}), count("profile.stats.counters.changed"))


LEASE_SECONDS = 60.0


async def leased(lab: Lab, now: datetime) -> Leased:
    """Claim the only timer that is due."""
    await lab.settle()
    (found,) = await lab.store.claim_due("timer", 2, LEASE_SECONDS, now)
    return found


async def test_a_wait_goes_on_after_a_restart(open_lab: OpenLab) -> None:
    async with open_lab({"w": waiting(), "o": for_order()}, timers=False) as lab:
        await lab.track("x", "cart", received=NOW)
    async with open_lab({"w": waiting(), "o": for_order()}, timers=False) as lab:
        await lab.track(EventInput("order", {"total": 3}), received=NOW + HOUR / 2)
    async with open_lab({"w": waiting(), "o": for_order()}, timers=False) as lab:
        # The run that the event wakes is due at the same time.
        assert await fire(lab, NOW + HOUR) in (2, 3)
        profile = await lab.one("profile")
        assert (profile["stats"]["counters"], profile["traits"]) == ({"before": 1, "n": 1}, {"order": 3})


async def test_a_run_goes_on_in_the_version_that_it_began_in(open_lab: OpenLab) -> None:
    async with open_lab({"w": waiting()}, timers=False) as lab:
        await lab.track(EventInput("x", id="e1"), received=NOW)
    # After a restart, with another file: the old one comes from the store.
    async with open_lab({"w": CHANGED}, timers=False) as lab:
        await lab.track(EventInput("x", id="e2"), received=NOW)
        assert await fire(lab, NOW + HOUR) == 1
        assert await counters(lab) == {"before": 1, "n": 1}
        assert await fire(lab, NOW + 5 * HOUR) == 1
        assert await counters(lab) == {"before": 1, "n": 1, "changed": 1}
        versions = {doc["version"] for doc in await lab.all("timer")}
        assert len(versions) == 2


async def test_conditions_are_those_of_the_version_too(open_lab: OpenLab) -> None:
    async with open_lab({"w": for_order(when="event.properties.total > 5")}, timers=False) as lab:
        await lab.track("cart", received=NOW)
    async with open_lab({"w": for_order(when="event.properties.total < 5")}, timers=False) as lab:
        await lab.track(EventInput("order", {"total": 1}), received=NOW)
        assert await timers(lab) == [("run", "pending")]
        await lab.track(EventInput("order", {"total": 9}), received=NOW)
        assert await fire(lab, NOW) == 1
        assert (await lab.one("profile"))["traits"] == {"order": 9}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "the workflow w is gone"),
        ({"w": waiting() | {"enabled": False}}, "the workflow w is disabled"),
        ({"w": for_order() | {"enabled": False}}, "the workflow w is disabled"),
    ],
)
async def test_a_run_whose_workflow_is_gone_or_disabled_is_cancelled(
    open_lab: OpenLab, files: Any, reason: str
) -> None:
    async with open_lab({"w": waiting()}, timers=False) as lab:
        await lab.track(EventInput("x", id="e1"), received=NOW)
    async with open_lab(files, timers=False) as lab:
        assert await fire(lab, NOW + HOUR) == 1
        timer = await lab.one("timer")
        assert (timer["status"], timer["reason"]) == ("cancelled", reason)
        assert await counters(lab) == {"before": 1}
    # Nor does it when the file comes back.
    async with open_lab({"w": waiting()}, timers=False) as lab:
        assert await fire(lab, NOW + 9 * HOUR) == 0


async def test_what_waits_for_an_event_is_cancelled_with_its_entry(open_lab: OpenLab) -> None:
    async with open_lab({"w": for_order()}, timers=False) as lab:
        await lab.track("cart", received=NOW)
    async with open_lab({}, timers=False) as lab:
        assert await fire(lab, NOW + HOUR) == 1
        assert "waits" not in await lab.one("profile")
        assert (await lab.one("timer"))["status"] == "cancelled"


async def test_a_file_that_is_broken_now_cancels_nothing(open_lab: OpenLab) -> None:
    async with open_lab({"w": waiting()}, timers=False) as lab:
        await lab.track("x", received=NOW)
        live = lab.engine.parts.live
        (live.current.path / "workflows" / "w.json").write_text("{")
        await live.check()
        assert live.refused
        assert await fire(lab, NOW + HOUR) == 1
        assert await counters(lab) == {"before": 1, "n": 1}


async def test_a_version_that_does_not_load_any_more_is_tried_for_a_day(open_lab: OpenLab) -> None:
    async with open_lab({"w": waiting()}, timers=False) as lab:
        await lab.track("x", received=NOW)
    async with open_lab({"w": CHANGED}, timers=False) as lab:

        async def lost(name: str, version: str) -> Any:
            raise VersionError(f"{name} {version} is lost")

        lab.engine.parts.versions.find = lost  # type: ignore[method-assign]
        now = NOW + HOUR
        for tries in range(1, MOST_TRIES + 1):
            assert await fire(lab, now) == 1
            timer = await lab.one("timer")
            assert timer["tries"] == tries
            assert "is lost" in timer["error"]
            now += timedelta(hours=1)
        assert timer["status"] == "dead"
        assert await fire(lab, now) == 0
        assert await counters(lab) == {"before": 1}


async def test_a_store_that_is_away_for_a_moment(open_lab: OpenLab) -> None:
    async with open_lab({"w": waiting()}, timers=False) as lab:
        await lab.track("x", received=NOW)
        await lab.settle()
        commit = lab.store.commit

        async def away(_: Change) -> Outcome:
            raise StoreError("away")

        lab.store.commit = away  # type: ignore[assignment,method-assign]
        assert await fire(lab, NOW + HOUR) == 1
        timer = await lab.one("timer")
        assert (timer["status"], timer["due"]) == ("pending", iso(NOW + HOUR + timedelta(seconds=5)))
        lab.store.commit = commit  # type: ignore[method-assign]
        assert await fire(lab, NOW + HOUR + timedelta(seconds=5)) == 1
        assert await counters(lab) == {"before": 1, "n": 1}


async def test_a_clock_that_is_set_back_and_forward(open_lab: OpenLab) -> None:
    async with open_lab({"w": waiting()}, timers=False) as lab:
        await lab.track("x", received=NOW)
        # A worker took it and died; then the clock was set back, before the time at which it is due.
        await leased(lab, NOW + HOUR)
        assert await fire(lab, NOW + HOUR / 2) == 0
        assert await fire(lab, NOW + HOUR) == 0
        # By the clock the lease is over then. Forward by years: it is due, once.
        assert await fire(lab, NOW + HOUR + timedelta(seconds=LEASE_SECONDS)) == 1
        assert await fire(lab, NOW + timedelta(days=4000)) == 0
        assert await counters(lab) == {"before": 1, "n": 1}


async def test_who_lost_the_lease_changes_nothing_more(open_lab: OpenLab) -> None:
    async with open_lab({"w": waiting()}, timers=False) as lab:
        await lab.track("x", received=NOW)
        first = await leased(lab, NOW + HOUR)
        late = NOW + HOUR + timedelta(seconds=LEASE_SECONDS)
        second = await leased(lab, late)
        parts = lab.engine.parts
        # Both go on with the same run at the same moment.
        docs = await asyncio.gather(*(fire_run(parts, one, late) for one in (first, second)))
        assert await counters(lab) == {"before": 1, "n": 1}
        assert [doc["status"] for doc in docs] == ["fired", "fired"]
        assert [doc["runs"][0]["path"] for doc in docs] == ["n1.done n2.done"] * 2
        assert not await lab.store.done("timer", first, docs[0])
        assert await lab.store.done("timer", second, docs[1])


async def test_a_wake_that_comes_twice_or_late_wakes_once(open_lab: OpenLab) -> None:
    async with open_lab({"w": for_order(), "c": chain("order", count())}, timers=False) as lab:
        await lab.track("cart", received=NOW)
        await lab.track(EventInput("order", {"total": 7}), received=NOW + HOUR / 2)
        await lab.track(EventInput("order", {"total": 8}), received=NOW + HOUR / 2)
        # The first event has it.
        wake = await leased(lab, NOW + HOUR / 2)
        parts = lab.engine.parts
        # The worker slept: the time is over, and the event came all the same.
        assert await fire(lab, NOW + 2 * HOUR) in (1, 2)
        for _ in range(2):
            assert (await fire_wake(parts, wake, NOW + 2 * HOUR))["status"] == "fired"
        profile = await lab.one("profile")
        assert (profile["traits"], profile["stats"]["counters"]) == ({"order": 7}, {"n": 2})


async def test_two_branches_wait_each_for_itself(open_lab: OpenLab) -> None:
    def seen(name: str) -> Doc:
        config = {"field": "vars.seen", "value": name}
        return {"plugin": "append_value", "config": config, "then": {"done": ["both"]}}

    nodes: Doc = {
        "short": {"plugin": "wait", "config": {"period": "1h"}, "then": {"done": ["one"]}},
        "event": {
            "plugin": "wait_for_event",
            "config": {"event": ["order"], "timeout": "9h"},
            "then": {"received": ["two"]},
        },
        "one": seen("one"),
        "two": seen("two"),
        "both": {
            "plugin": "set_fields",
            "join": "all",
            "config": {"fields": {"profile.traits.seen": "{{ vars.seen }}"}},
        },
    }
    for first in ("time", "event"):
        async with open_lab({"w": {"on": {"event": ["x"]}, "nodes": nodes}}, timers=False, fresh=True) as lab:
            await lab.track("x", received=NOW)
            if first == "event":
                await lab.track("order", received=NOW + HOUR / 2)
                assert await fire(lab, NOW + HOUR / 2) == 1
                assert await fire(lab, NOW + HOUR) == 1
            else:
                assert await fire(lab, NOW + HOUR) == 1
                (entry,) = (await lab.one("profile"))["waits"]
                assert entry["number"] == 1
                await lab.track("order", received=NOW + 2 * HOUR)
                assert await fire(lab, NOW + 2 * HOUR) == 1
            profile = await lab.one("profile")
            assert sorted(profile["traits"]["seen"]) == ["one", "two"]
            assert "waits" not in profile
            assert await fire(lab, NOW + 99 * HOUR) == 0


async def test_many_due_at_once_are_fired_once_each_by_two_workers(
    open_lab: OpenLab, store_kind: str
) -> None:
    visitors, each = (1000, 10) if store_kind == "embedded" else (50, 10)
    async with open_lab({"w": chain("x", ("wait", {"period": "1h"}), count())}, timers=False) as lab:
        for _ in range(each):
            await asyncio.gather(
                *(lab.track("x", session_id=f"s{visitor}", received=NOW) for visitor in range(visitors))
            )
        await lab.place.finish()
        other = make_engine(lab.engine.settings.workspace, lab.engine.settings.data, store=lab.store)
        # Two processes: what one holds locked the other does not know.
        workers = [worker(engine, NOW + HOUR) for engine in (lab.engine, other)]
        fired = await asyncio.gather(*(one.fire_due() for one in workers))
        assert sum(fired) == visitors * each
        assert min(fired) > 0
        await lab.settle()
        assert [doc["stats"]["counters"] for doc in await lab.all("profile")] == [{"n": each}] * visitors
        assert await lab.store.waiting("timer") == (0, None)


async def test_a_copy_of_the_store_goes_on_with_what_waits(open_lab: OpenLab, tmp_path: Path) -> None:
    async with open_lab({"w": waiting(), "o": for_order()}, timers=False) as lab:
        await lab.track("x", "cart", received=NOW)
        await lab.settle()
        url, data = lab.place.url, lab.engine.settings.data
    source = await open_moving(url, data=data, make=False)
    target = await open_moving("sqlite:", data=tmp_path / "copy", make=True)
    job = Copying(source, target)
    await job.begin()
    async for _ in job.run():
        pass
    assert (await job.compare(100))[2].differences == []
    for moving in (source, target):
        await moving.close()
    engine = make_engine(write_workspace(tmp_path / "other", {"w": CHANGED, "o": CHANGED}), tmp_path / "copy")
    assert await worker(engine, NOW + HOUR).fire_due() == 2
    (profile,) = (await engine.store.find(Query("profile"))).items
    assert profile["stats"]["counters"] == {"before": 1, "n": 1, "late": 1}
    await engine.stop()
