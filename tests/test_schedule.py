"""Schedules: one run a tick, and for each profile, whatever happens in between."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from headrace.commands.timers import drawn
from headrace.engine import schedule
from headrace.engine.errors import BusyError, StoreError
from headrace.engine.files.workspace import load_workspace
from headrace.engine.model import Doc, EventInput, from_iso, iso, utc_now
from headrace.engine.schedule import KIND, TYPE, Scheduler, fire_tick
from headrace.engine.store.protocol import Change
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.makers import Files, Lab, catalog, chain, count

HOURLY: Doc = {"cron": "0 * * * *", "segment": "vip"}
T0 = utc_now().replace(hour=12, minute=30, second=0, microsecond=0)
"""Today: stores look for the keys of events of these months only."""

AT_13 = iso(T0 + timedelta(minutes=30))


def scheduled(*nodes: tuple[str, Doc], on: Doc | None = None, **members: Any) -> Doc:
    """Return a workflow with a schedule."""
    name = members.pop("schedule", HOURLY)
    return chain("x", *nodes, **members) | {"on": {"schedule": name} | (on or {})}


embedded = pytest.mark.parametrize("store_kind", ["embedded"])
"""Marks what no store can change."""

COUNT: Files = {"w": scheduled(count()), "join": chain("join", ("add_segment", {"segment": "vip"}))}


class Clock:
    """The clock of a worker, moved by hand."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


class Side:
    """What a process does about schedules, by hand."""

    def __init__(self, lab: Lab, clock: Clock) -> None:
        self.lab = lab
        self.clock = clock
        self.scheduler = Scheduler(lab.engine.parts, clock)
        self.worker = TimerWorker(lab.engine.parts, {KIND: fire_tick}, clock)

    async def at(self, **passes: float) -> None:
        """Let time pass, then look and fire."""
        self.clock.now += timedelta(**passes)
        await self.scheduler.look()
        await self.lab.settle()
        await self.worker.fire_due()


async def join(lab: Lab, number: int) -> None:
    """Make profiles in the segment."""
    for each in range(number):
        await lab.track("join", session_id=f"s{each}")
    await lab.settle()


async def counters(lab: Lab) -> list[float]:
    return sorted(profile["stats"]["counters"].get("n", 0) for profile in await lab.all("profile"))


async def ticks(lab: Lab) -> list[tuple[str, str]]:
    """Return status and tick of every timer, oldest tick first."""
    timers = await lab.all("timer")
    return sorted((timer["tick"][11:16], timer["status"]) for timer in timers)


async def test_a_clock_that_was_ahead_for_a_moment_loses_no_tick(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, timers=False) as lab:
        side = Side(lab, Clock())
        await join(lab, 1)
        side.clock.now += timedelta(days=20)
        await side.scheduler.look()
        side.clock.now -= timedelta(days=20)
        await side.at(seconds=1)
        await side.at(minutes=30)
        await side.at(minutes=60)
        assert await counters(lab) == [2]


async def test_each_profile_of_the_segment_runs_once_a_tick(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "PAGE", 3)
    async with open_lab(COUNT, timers=False) as lab:
        side = Side(lab, Clock())
        await join(lab, 7)
        await lab.track("other", session_id="not a vip")
        await side.at(seconds=0)
        assert await ticks(lab) == [("13:00", "pending")]
        assert await counters(lab) == [0] * 8
        await side.at(minutes=30)
        assert await counters(lab) == [0] + [1] * 7
        assert await ticks(lab) == [("13:00", "fired"), ("14:00", "pending")]
        await side.at(minutes=59)
        assert await counters(lab) == [0] + [1] * 7
        await side.at(minutes=2)
        assert await counters(lab) == [0] + [2] * 7
        made = [event for event in await lab.all("event") if event["type"] == TYPE]
        assert len(made) == 14
        assert made[0]["properties"] == {"workflow": "w", "tick": AT_13}
        assert (made[0]["door"], made[0]["time"]["happened"]) == ("internal", AT_13)
        (fired, _) = sorted((t for t in await lab.all("timer")), key=lambda t: t["tick"])[:2]
        assert (fired["done"], fired["workflow"], fired["segment"]) == (7, "w", "vip")
        told = [str(child.label) for child in drawn(fired).children]
        assert f"tick of {AT_13} for the segment vip, 7 events made" in told


@embedded
async def test_without_a_segment_there_is_one_event_without_a_profile(open_lab: OpenLab) -> None:
    daily = {"cron": "0 13 * * *"}
    files = {
        "w": scheduled(("log", {"message": "{{ event.properties.tick }}"}), schedule=daily),
        "all": chain("*", ("log", {"message": "never"})),
    }
    async with open_lab(files, timers=False) as lab:
        side = Side(lab, Clock())
        await side.at(seconds=0)
        await side.at(minutes=31)
        event = await lab.one("event")
        assert event["profile"] is None
        assert [run["workflow"] for run in event["runs"]] == ["w"]
        assert await lab.all("profile") == []
        await side.at(hours=23)
        assert len(await lab.all("event")) == 1
        await side.at(hours=1)
        assert len(await lab.all("event")) == 2


async def test_several_processes_make_one_run_of_it(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, timers=False) as first, open_lab(COUNT, timers=False) as second:
        clock = Clock()
        sides = [Side(first, clock), Side(second, clock)]
        await join(first, 5)
        await asyncio.gather(*(side.at(seconds=0) for side in sides))
        clock.now += timedelta(minutes=30)
        await asyncio.gather(*(side.at(seconds=0) for side in sides))
        assert await counters(first) == [1] * 5
        assert await ticks(first) == [("13:00", "fired"), ("14:00", "pending")]


async def test_what_dies_in_the_middle_is_gone_on_with(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "PAGE", 2)
    monkeypatch.setattr(schedule, "TURN_SECONDS", 0.0)
    async with open_lab(COUNT, timers=False) as lab:
        side = Side(lab, Clock())
        await join(lab, 7)
        await side.at(seconds=0)
        made: list[str | None] = []
        whole = schedule.make_event

        async def dies(parts: Any, workflow: Any, doc: Doc, profile: str | None, now: datetime) -> None:
            if len(made) == 5:
                raise StoreError("the store is away")
            made.append(profile)
            await whole(parts, workflow, doc, profile, now)

        monkeypatch.setattr(schedule, "make_event", dies)
        await side.at(minutes=30)
        assert sum(await counters(lab)) == 5
        await lab.settle()
        (timer,) = [timer for timer in await lab.all("timer") if timer["tick"] == AT_13]
        assert (timer["status"], timer["done"]) == ("pending", 4)
        monkeypatch.setattr(schedule, "make_event", whole)
        # Its lease ends; a later tick that is due by then does not make it one that was missed.
        await side.at(minutes=61)
        assert await counters(lab) == [2] * 7
        assert await ticks(lab) == [("13:00", "fired"), ("14:00", "fired"), ("15:00", "pending")]


MISSED: Sequence[tuple[timedelta, list[tuple[str, str]], int]] = [
    (timedelta(minutes=89), [("13:00", "fired"), ("14:00", "pending")], 1),
    (timedelta(minutes=91), [("13:00", "missed"), ("14:00", "fired"), ("15:00", "pending")], 1),
    (timedelta(hours=5), [("13:00", "missed"), ("17:00", "fired"), ("18:00", "pending")], 1),
]


@embedded
@pytest.mark.parametrize(("away", "after", "runs"), MISSED)
async def test_of_several_ticks_that_were_missed_the_last_runs(
    open_lab: OpenLab, away: timedelta, after: list[tuple[str, str]], runs: int
) -> None:
    async with open_lab(COUNT, timers=False) as lab:
        clock = Clock()
        await Side(lab, clock).at(seconds=0)
        await join(lab, 1)
        clock.now += away
        await Side(lab, clock).at(seconds=0)
        assert await ticks(lab) == after
        assert await counters(lab) == [runs]


@embedded
@pytest.mark.parametrize(("late", "status"), [("2h", "missed"), ("12h", "fired")])
async def test_a_tick_that_is_too_old_is_not_run(open_lab: OpenLab, late: str, status: str) -> None:
    daily = {"cron": "0 13 * * *", "segment": "vip", "late": late}
    async with open_lab(COUNT | {"w": scheduled(count(), schedule=daily)}, timers=False) as lab:
        clock = Clock()
        await Side(lab, clock).at(seconds=0)
        await join(lab, 1)
        clock.now += timedelta(hours=5)
        await Side(lab, clock).at(seconds=0)
        assert (await ticks(lab))[0] == ("13:00", status)
        assert await counters(lab) == [int(status == "fired")]


CHANGES: Sequence[tuple[Files, str]] = [
    ({"w": chain("x", count())}, "the workflow, or its schedule, is gone"),
    ({"w": scheduled(count(), enabled=False)}, "the workflow is disabled"),
    ({"w": scheduled(count(), schedule={"cron": "0 * * * *"})}, "the schedule was changed"),
    ({"w": scheduled(count(), schedule=HOURLY | {"zone": "Asia/Kolkata"})}, "the schedule was changed"),
    ({"sources.json": {"sources": {"shop": {"enabled": False}}}}, "its source is gone or disabled"),
]


@embedded
@pytest.mark.parametrize(("files", "reason"), CHANGES)
async def test_a_tick_of_a_schedule_that_is_no_more_is_not_run(
    open_lab: OpenLab, files: Files, reason: str
) -> None:
    clock = Clock()
    async with open_lab(COUNT, timers=False) as lab:
        await Side(lab, clock).at(seconds=0)
        await join(lab, 1)
    clock.now += timedelta(minutes=31)
    async with open_lab(COUNT | files, timers=False) as lab:
        await Side(lab, clock).at(seconds=0)
        timers = [timer for timer in await lab.all("timer") if timer["tick"] == AT_13]
        assert [(timer["status"], timer["reason"]) for timer in timers] == [("cancelled", reason)]
        assert await counters(lab) == [0]


@embedded
async def test_a_tick_of_a_broken_file_waits_until_it_is_mended(open_lab: OpenLab) -> None:
    clock = Clock()
    async with open_lab(COUNT, timers=False) as lab:
        await Side(lab, clock).at(seconds=0)
        await join(lab, 1)
        side = Side(lab, clock)
        file = lab.engine.workspace.path / "workflows" / "w.json"
        good = file.read_text()
        file.write_text("{")
        # As at a start, when there is no last good version.
        live = lab.engine.parts.live
        live.current = load_workspace(live.current.path, catalog(), lambda _: None)
        await side.at(minutes=31)
        assert await ticks(lab) == [("13:00", "pending")]
        file.write_text(good)
        live.current = load_workspace(live.current.path, catalog(), lambda _: None)
        await side.at(minutes=2)
        assert await ticks(lab) == [("13:00", "fired"), ("14:00", "pending")]
        assert await counters(lab) == [1]


async def test_a_cursor_of_another_store_begins_again(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, timers=False) as lab:
        side = Side(lab, Clock())
        await join(lab, 3)
        await side.at(seconds=0)
        (timer,) = await lab.all("timer")
        begun = {"done": 2, "cursor": "of another store"}
        await lab.store.amend("timer", timer["id"], lambda doc: doc | begun)
        await side.at(minutes=31)
        assert await counters(lab) == [1] * 3


@embedded
async def test_the_servers_own_zone_is_part_of_a_schedule(open_lab: OpenLab) -> None:
    clock = Clock()
    async with open_lab(COUNT, timers=False) as lab:
        await Side(lab, clock).at(seconds=0)
    async with open_lab(COUNT, timers=False, time_zone="Asia/Kolkata") as lab:
        await Side(lab, clock).at(minutes=31)
        # Half an hour is between the two clocks.
        assert await ticks(lab) == [("13:00", "cancelled"), ("13:30", "pending")]


@embedded
async def test_other_nodes_do_not_keep_a_tick_from_running(open_lab: OpenLab) -> None:
    clock = Clock()
    async with open_lab(COUNT, timers=False) as lab:
        await Side(lab, clock).at(seconds=0)
        await join(lab, 1)
    async with open_lab(COUNT | {"w": scheduled(count(), count())}, timers=False) as lab:
        await Side(lab, clock).at(minutes=31)
        assert await counters(lab) == [2]


@embedded
async def test_a_new_schedule_does_not_begin_with_a_tick_that_is_over(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, timers=False) as lab:
        await join(lab, 1)
        await Side(lab, Clock()).at(minutes=31)
        assert await ticks(lab) == [("14:00", "pending")]
        assert await counters(lab) == [0]


@embedded
async def test_consent_and_condition_hold_for_each_profile(open_lab: OpenLab) -> None:
    give = ("set_consent", {"consent": "marketing", "given": True})
    files = COUNT | {
        "w": scheduled(count(), on={"consent": ["marketing"], "when": "profile.traits.n != 2"}),
        "give": chain(
            "give", give, ("set_fields", {"fields": {"profile.traits.n": "{{ event.properties.n }}"}})
        ),
    }
    async with open_lab(files, timers=False) as lab:
        await join(lab, 4)
        for number in range(1, 4):
            await lab.track(EventInput("give", {"n": number}), session_id=f"s{number}")
        side = Side(lab, Clock())
        await side.at(seconds=0)
        await side.at(minutes=31)
        assert await counters(lab) == [0, 0, 1, 1]


async def test_a_profile_that_was_erased_is_not_made_again(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, timers=False) as lab:
        await join(lab, 1)
        workflow = lab.engine.workspace.workflow("w")
        assert workflow is not None
        doc = {"id": "t", "tick": iso(T0)}
        await schedule.make_event(lab.engine.parts, workflow, doc, "gone", T0)
        assert len(await lab.all("profile")) == 1
        assert [event["type"] for event in await lab.all("event")] == ["join"]


@embedded
async def test_a_tick_that_an_operator_cancelled_does_not_end_the_schedule(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, timers=False) as lab:
        side = Side(lab, Clock())
        await side.at(seconds=0)
        (timer,) = await lab.all("timer")
        await lab.store.amend("timer", timer["id"], lambda doc: doc | {"status": "cancelled"})
        await side.at(minutes=31)
        assert await ticks(lab) == [("13:00", "cancelled"), ("14:00", "pending")]


@embedded
async def test_ticks_are_of_the_clock_of_the_zone(open_lab: OpenLab) -> None:
    oslo = {"cron": "30 2 * * *", "zone": "Europe/Oslo", "late": "12h"}
    files = {"w": scheduled(("log", {"message": "x"}), schedule=oslo)}
    async with open_lab(files, timers=False) as lab:
        clock = Clock()
        clock.now = from_iso("2026-03-28T12:00:00.000Z")
        side = Side(lab, clock)
        for _ in range(8):
            await side.at(hours=6)
        # 2:30 does not exist on the 29th; the clock goes from 2:00 to 3:00.
        assert [timer["tick"] for timer in await lab.all("timer")][:2] == [
            "2026-03-29T01:00:00.000Z",
            "2026-03-30T00:30:00.000Z",
        ]
        assert len(await lab.all("event")) == 2


async def test_a_change_of_timers_alone_is_kept_once(open_lab: OpenLab) -> None:
    async with open_lab(COUNT, timers=False) as lab:
        workflow = lab.engine.workspace.workflow("w")
        assert workflow is not None
        row = schedule.tick_row(workflow, "mark", "main", T0)
        for number in range(2):
            await lab.store.commit(Change(f"c{number}", "main", timers=[row]))
        assert len(await lab.all("timer")) == 1


class Unlucky:
    """Makes events as a tick does, and fails at some of them, before or after the commit."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.whole = schedule.make_event

    async def __call__(self, *given: Any) -> None:
        fate = self.dice.random()
        if fate < 0.1:
            raise StoreError("away before")
        await self.whole(*given)
        if fate > 0.9:
            raise BusyError("the reply was lost")


@embedded
@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_each_profile_has_one_run_of_each_tick(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = random.Random(seed)
    monkeypatch.setattr(schedule, "PAGE", dice.choice([1, 3, 100]))
    monkeypatch.setattr(schedule, "AT_ONCE", dice.choice([1, 2, 16]))
    monkeypatch.setattr(schedule, "TURN_SECONDS", 0.0)
    async with open_lab(COUNT, timers=False) as first, open_lab(COUNT, timers=False) as second:
        clock = Clock()
        sides = [Side(first, clock), Side(second, clock)]
        await join(first, 9)
        await sides[0].at(seconds=0)
        monkeypatch.setattr(schedule, "make_event", Unlucky(dice))
        clock.now = T0 + timedelta(minutes=30)
        for _ in range(100):
            some = dice.sample(sides, dice.randint(1, 2))
            await asyncio.gather(*(side.at(seconds=dice.randint(0, 70)) for side in some))
            if ("13:00", "fired") in await ticks(first):
                break
        monkeypatch.undo()
        made = [event for event in await first.all("event") if event["type"] == TYPE]
        of_each = Counter((event["properties"]["tick"], event["profile"]) for event in made)
        assert set(of_each.values()) == {1}
        assert sum(tick == AT_13 for tick, _ in of_each) == 9
        assert sum(await counters(first)) == len(made)
