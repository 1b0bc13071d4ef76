"""Segments beside the events: rebuilt from what is stored, swept by time, and explained."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.engine.draft import PAST
from headrace.engine.identity.merge import merge
from headrace.engine.model import Doc, EventInput, doc_key, iso
from headrace.engine.segments.explain import explain
from headrace.engine.segments.known import due
from headrace.engine.segments.past import value_of
from headrace.engine.segments.rebuild import KIND as REBUILD
from headrace.engine.segments.rebuild import Progress, Rebuild
from headrace.engine.segments.sweep import KIND, Sweeper, fire_sweep
from headrace.engine.steps.segments import LAG
from headrace.engine.store.protocol import Change, Query, Ref, Store, Write
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.makers import Lab, chain, count

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
MANY = {
    "buyer": "events('order', within='30d').count >= 3",
    "big": "events('order').sum('properties.total') > 500",
    "lately": "events('order', within='20h').count > 0",
    "wide": "events('*', within='7d').distinct('properties.sku') >= 4",
    "loyal": "events('order', within='90d').first < ago('20d') and events('order').last > ago('10d')",
    "lapsed": "events('order').count > 0 and events('order', within='14d').count == 0",
    "mixed": "profile.stats.views > 3 and not ('buyer' in profile.segments)",
}


def declared(**conditions: str) -> Doc:
    return {
        "segments.json": {"segments": {"vip": {}} | {name: {"when": one} for name, one in conditions.items()}}
    }


async def rebuild(
    lab: Lab, now: datetime, names: Sequence[str] | None = None, store: Store | None = None
) -> Progress:
    workspace = lab.engine.workspace
    await lab.settle()
    job = Rebuild(store or lab.store, workspace, "main", workspace.watched.lasting(names), lambda: now)
    await job.begin()
    async for _ in job.run():
        pass
    await lab.settle()
    return job.progress


async def sweep(lab: Lab, now: datetime, workers: int = 1) -> None:
    """Do the sweep that is due at a time."""
    parts = lab.engine.parts
    await Sweeper(parts, lambda: now - timedelta(hours=1)).look()
    await lab.settle()
    fired = [TimerWorker(parts, {KIND: fire_sweep}, lambda: now) for _ in range(workers)]
    await asyncio.gather(*(worker.fire_due() for worker in fired))
    await lab.settle()


async def members(lab: Lab, name: str) -> int:
    return sum(name in profile["segments"] for profile in await lab.all("profile"))


def told(profiles: list[Doc], lab: Lab, now: datetime) -> dict[str, Any]:
    past = lab.engine.workspace.watched.past
    return {
        doc["id"]: (
            sorted(doc["segments"]),
            [(each.text, value_of(doc[PAST], each, now.timestamp())) for each in past],
        )
        for doc in profiles
    }


async def test_live_is_rebuilt(open_lab: OpenLab) -> None:
    dice = random.Random(7)
    requests, batch, people = 400, 50, 60
    async with open_lab(declared(**MANY), timers=False) as lab:
        now = START
        for _ in range(requests):
            now += timedelta(minutes=dice.expovariate(requests / (80 * 24 * 60)))
            events = [
                EventInput(
                    dice.choice(("order", "order", "page-view", "login")),
                    {"total": dice.choice((1, 2.5, 0.1, 40, "x", None)), "sku": f"s{dice.randrange(9)}"},
                    time=iso(now - timedelta(minutes=dice.choice((0, 0, 1, 90, 4_000, 60_000)))),
                )
                for _ in range(batch)
            ]
            await lab.track(*events, received=now, session_id=f"s{dice.randrange(people)}")
        await sweep(lab, now := now + timedelta(hours=5))
        before = told(await lab.all("profile"), lab, now)
        done = await rebuild(lab, now + LAG)
        after = told(await lab.all("profile"), lab, now)
        assert done.done == len(before)
        assert after == before
        assert {name for profile in after.values() for name in profile[0]} == set(MANY)


async def test_a_new_segment_is_due_until_it_is_rebuilt(open_lab: OpenLab) -> None:
    async with open_lab(timers=False) as lab:
        for number in range(3):
            for at in range(number + 1):
                await lab.track("order", session_id=f"s{number}", received=START + timedelta(minutes=at))
    files = declared(fresh="events('order', within='30d').count >= 2") | {
        "in": chain("segment-entered", count())
    }
    async with open_lab(files, timers=False) as lab:
        await lab.settle()
        lasting = lab.engine.workspace.watched.lasting()
        assert await due(lab.store, "main", lasting) == ["fresh"]
        done = await rebuild(lab, START + timedelta(hours=1))
        assert (done.done, done.changed, done.busy, done.errors) == (3, 3, 0, [])
        assert await members(lab, "fresh") == 2
        assert await due(lab.store, "main", lasting) == []
        # Nobody is greeted who has been there for long.
        assert {event["type"] for event in await lab.all("event")} == {"order"}
        again = await rebuild(lab, START + timedelta(hours=2))
        assert (again.done, again.changed) == (3, 0)
        await lab.track("order", session_id="s0", received=START + timedelta(hours=3))
        assert await members(lab, "fresh") == 3


async def test_where_nobody_is_no_rebuild_is_due(open_lab: OpenLab) -> None:
    async with open_lab(declared(**MANY), timers=False) as lab:
        assert await due(lab.store, "main", lab.engine.workspace.watched.lasting()) == []


async def test_only_the_segments_that_are_named_are_rebuilt(open_lab: OpenLab) -> None:
    async with open_lab(timers=False) as lab:
        await lab.track("order", received=START)
    both = declared(one="events('order').count == 1", other="events('order', within='30d').count == 1")
    async with open_lab(both, timers=False) as lab:
        await rebuild(lab, START + timedelta(hours=1), ["one"])
        assert (await lab.one("profile"))["segments"] == ["one"]
        await rebuild(lab, START + timedelta(hours=1), ["other"])
        assert (await lab.one("profile"))["segments"] == ["one", "other"]


class Racing:
    """A store in which somebody else writes the profile before each of the first commits."""

    def __init__(self, store: Store, times: int) -> None:
        self._store = store
        self._left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, change: Change) -> Any:
        if change.profile is not None and self._left:
            self._left -= 1
            key = change.profile.key
            (found,) = await self._store.read([Ref("profile", key)])
            assert found is not None
            found.doc["traits"]["n"] = self._left
            await self._store.commit(
                Change(f"other{self._left}", "main", profile=Write(key, found.doc, found.version))
            )
        return await self._store.commit(change)


async def test_a_profile_that_others_write_is_read_again(open_lab: OpenLab) -> None:
    async with open_lab(timers=False) as lab:
        await lab.track("order", received=START)
    async with open_lab(declared(one="events('order').count == 1"), timers=False) as lab:
        racing: Any = Racing(lab.store, 5)
        done = await rebuild(lab, START + timedelta(hours=1), store=racing)
        assert (done.changed, done.busy) == (1, 0)
        profile = await lab.one("profile")
        assert (profile["segments"], profile["traits"]) == (["one"], {"n": 0})


async def test_one_that_is_written_all_the_time_is_named_and_the_rebuild_stays_due(open_lab: OpenLab) -> None:
    async with open_lab(timers=False) as lab:
        await lab.track("order", received=START)
    async with open_lab(declared(busy="events('order').count == 1"), timers=False) as lab:
        racing: Any = Racing(lab.store, 1_000)
        assert (await rebuild(lab, START + timedelta(hours=1), store=racing)).busy == 1
        assert await due(lab.store, "main", lab.engine.workspace.watched.lasting()) == ["busy"]


@asynccontextmanager
async def after_five_orders(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Lab, Callable[[], Rebuild]]]:
    """Give a lab with five profiles of one moment, a segment newer than they are, and rebuilds of two at a time."""
    monkeypatch.setattr("headrace.engine.segments.rebuild.PAGE", 2)
    async with open_lab(timers=False) as lab:
        for number in range(5):
            await lab.track("order", session_id=f"s{number}", received=START)
    async with open_lab(declared(one="events('order').count == 1"), timers=False) as lab:
        await lab.settle()
        workspace, later = lab.engine.workspace, START + timedelta(hours=1)
        yield lab, lambda: Rebuild(lab.store, workspace, "main", workspace.watched.lasting(), lambda: later)


async def test_it_goes_on_where_it_was(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with after_five_orders(open_lab, monkeypatch) as (lab, new_rebuild):
        first = new_rebuild()
        await first.begin()
        async for _ in first.run():
            break
        second = new_rebuild()
        await second.begin()
        assert second.resumed
        assert second.progress.done == 2
        async for _ in second.run():
            pass
        assert second.progress.done == 5
        await lab.settle()
        assert await members(lab, "one") == 5
        (note,) = [doc for doc in await lab.all("timer") if doc["kind"] == REBUILD]
        assert (note["done"], note["cursor"], note["status"]) == (5, None, "fired")


async def test_who_is_written_meanwhile_is_not_passed_over(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with after_five_orders(open_lab, monkeypatch) as (lab, new_rebuild):
        rebuild = new_rebuild()
        await rebuild.begin()
        async for _ in rebuild.run():
            for number in range(5):
                await lab.track("view", session_id=f"s{number}", received=START + timedelta(minutes=1))
            await lab.settle()
        assert rebuild.progress.done == 5
        assert await members(lab, "one") == 5


async def test_what_came_a_moment_ago_is_waited_for(open_lab: OpenLab) -> None:
    slept: list[float] = []
    clock = START + timedelta(seconds=1)

    async def sleep(seconds: float) -> None:
        nonlocal clock
        slept.append(seconds)
        clock += timedelta(seconds=seconds)

    async with open_lab(timers=False) as lab:
        await lab.track("order", received=START)
    async with open_lab(declared(one="events('order').count == 1"), timers=False) as lab:
        await lab.settle()
        workspace = lab.engine.workspace
        job = Rebuild(lab.store, workspace, "main", workspace.watched.lasting(), lambda: clock, sleep)
        await job.begin()
        async for _ in job.run():
            pass
        assert sum(slept) >= LAG.total_seconds() - 1
        await lab.settle()
        assert (await lab.one("profile"))["segments"] == ["one"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_time_alone_takes_out_and_in_once(open_lab: OpenLab, workers: int) -> None:
    conditions = {
        "lately": "events('order', within='1d').count > 0",
        "lapsed": "events('order').count > 0 and events('order', within='1d').count == 0",
    }
    files = declared(**conditions) | {
        "left": chain("segment-left", count("profile.stats.counters.left")),
        "in": chain("segment-entered", count("profile.stats.counters.in")),
    }
    async with open_lab(files, timers=False) as lab:
        for number in range(5):
            await lab.track("order", session_id=f"s{number}", received=START)
        await lab.track("page-view", session_id="nobody", received=START)
        assert await members(lab, "lately") == 5
        await sweep(lab, START + timedelta(hours=20), workers)
        assert await members(lab, "lately") == 5
        await sweep(lab, START + timedelta(days=2), workers)
        assert (await members(lab, "lately"), await members(lab, "lapsed")) == (0, 5)
        counters = [doc["stats"]["counters"] for doc in await lab.all("profile")]
        assert sorted(map(str, counters)) == sorted(map(str, [{"in": 2, "left": 1}] * 5 + [{}]))
        before = await lab.rows()
        await sweep(lab, START + timedelta(days=3), workers)
        after = await lab.rows()
        assert {name: rows for name, rows in after.items() if name != "timers"} == {
            name: rows for name, rows in before.items() if name != "timers"
        }
        swept = [doc for doc in await lab.all("timer") if doc["status"] == "fired"]
        assert [doc["changed"] for doc in swept] == [0, 5, 0]


async def test_a_sweep_goes_on_in_turns(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.engine.segments.sweep.PAGE", 2)
    monkeypatch.setattr("headrace.engine.segments.sweep.TURN_SECONDS", 0.0)
    async with open_lab(declared(lately="events('order', within='1d').count > 0"), timers=False) as lab:
        for number in range(5):
            await lab.track("order", session_id=f"s{number}", received=START)
        await sweep(lab, START + timedelta(days=2))
        assert await members(lab, "lately") == 0
        (swept,) = [doc for doc in await lab.all("timer") if doc["status"] == "fired"]
        assert (swept["done"], swept["changed"]) == (5, 5)


async def test_no_sweep_is_kept_where_time_changes_nothing(open_lab: OpenLab) -> None:
    async with open_lab(declared(one="events('order').count == 1"), timers=False) as lab:
        await Sweeper(lab.engine.parts, lambda: START).look()
        assert not await lab.all("timer")


async def test_explain_says_each_part_with_its_value(open_lab: OpenLab) -> None:
    when = "events('order', within='30d').count >= 2 and (profile.traits.plan == 'pro' or profile.stats.views > 3)"
    async with open_lab(declared(buyer=when), timers=False) as lab:
        await lab.track("order", "order", received=START)
        await lab.settle()
        profile = await lab.one("profile")
        (segment,) = lab.engine.workspace.watched.segments
        found = await explain(lab.store, lab.engine.workspace.sources, "main", segment, profile["id"], START)
        assert found == {
            "segment": "buyer",
            "profile": profile["id"],
            "when": when,
            "is_member": False,
            "holds": False,
            "parts": [
                {
                    "text": "events('order', within='30d').count >= 2",
                    "value": True,
                    "reads": {"events('order', within='30d').count": 2},
                },
                {
                    "text": "(profile.traits.plan == 'pro' or profile.stats.views > 3)",
                    "value": False,
                    "reads": {"profile.stats.views": 0, "profile.traits.plan": None},
                    "parts": [
                        {
                            "text": "profile.traits.plan == 'pro'",
                            "value": False,
                            "reads": {"profile.traits.plan": None},
                        },
                        {
                            "text": "profile.stats.views > 3",
                            "value": False,
                            "reads": {"profile.stats.views": 0},
                        },
                    ],
                },
            ],
        }
        assert (
            await explain(lab.store, lab.engine.workspace.sources, "main", segment, "nobody", START) is None
        )


async def test_explain_says_what_is_not_known(open_lab: OpenLab) -> None:
    async with open_lab(timers=False) as lab:
        await lab.track("order", received=START)
    files = declared(buyer="events('order').count >= 1", now="event.type == 'order'")
    async with open_lab(files, timers=False) as lab:
        await lab.settle()
        profile = await lab.one("profile")
        buyer, now = lab.engine.workspace.watched.segments
        found = await explain(lab.store, lab.engine.workspace.sources, "main", buyer, profile["id"], START)
        assert found is not None
        assert (found["holds"], found["unknown"]) == (None, ["events('order').count"])
        moment = await explain(lab.store, lab.engine.workspace.sources, "main", now, profile["id"], START)
        assert moment is not None
        assert moment["holds"] is True
        assert moment["event"] == (await lab.one("event"))["id"]


async def test_who_was_erased_since_is_passed_by(open_lab: OpenLab) -> None:
    async with open_lab(declared(lately="events('order', within='1d').count > 0"), timers=False) as lab:
        await lab.track("order", received=START)
        profile = await lab.one("profile")
        assert (await lab.store.read([Ref("profile", doc_key("profile", "main", profile["id"]))]))[0]
        await lab.store.erase("main", profile["id"])
        await sweep(lab, START + timedelta(days=2))
        await rebuild(lab, START + timedelta(days=2))
        assert not (await lab.store.find(Query("profile"))).items


async def test_profiles_that_become_one_have_both_pasts(open_lab: OpenLab) -> None:
    files = declared(both="events('order').count >= 3", twice="events('order', within='30d').count >= 4")
    async with open_lab(files, timers=False) as lab:
        await lab.track("order", "order", session_id="s1", received=START)
        await lab.track("order", session_id="s2", received=START + timedelta(minutes=1))
        one, other = [doc["id"] for doc in await lab.all("profile")]
        survivor = await merge(lab.engine.parts, "main", one, other, "test")
        await lab.track("page-view", session_id="s1", received=START + timedelta(minutes=2))
        profile = await lab.one("profile")
        assert (profile["id"], profile["segments"]) == (survivor, ["both"])
        done = await rebuild(lab, START + timedelta(hours=1))
        assert (done.done, done.errors) == (1, [])
        assert (await lab.one("profile"))["segments"] == ["both"]
        assert told([await lab.one("profile")], lab, START) == told([profile], lab, START)
