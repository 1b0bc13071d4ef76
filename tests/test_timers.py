"""Runs that wait: held, fired once by a worker with a frozen clock, on every store."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from headrace.engine.engine import Engine
from headrace.engine.model import Doc, EventInput, iso, make_key, utc_now
from headrace.engine.timers.cancel import NONE, OVER, cancel
from headrace.engine.timers.kinds import KINDS, fire_run
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.makers import NOW, Lab, chain, count, sources

HOUR = timedelta(hours=1)


def waiting(*, period: str = "1h", **members: Any) -> Doc:
    """Return a workflow that counts, waits, and counts something else."""
    nodes = [count("profile.stats.counters.before"), ("wait", {"period": period}), count()]
    return chain("x", *nodes, **members)


def for_order(**config: Any) -> Doc:
    """Return a workflow that waits for an order, and notes by which port it went on."""
    return {
        "on": {"event": ["cart"]},
        "nodes": {
            "wait": {
                "plugin": "wait_for_event",
                "config": {"event": ["order"], "timeout": "1h"} | config,
                "then": {"received": ["got"], "timeout": ["late"]},
            },
            "got": {
                "plugin": "set_fields",
                "config": {"fields": {"profile.traits.order": "{{ nodes.wait.properties.total }}"}},
            },
            "late": {"plugin": "increment", "config": {"field": "profile.stats.counters.late"}},
        },
    }


def worker(engine: Engine, now: datetime) -> TimerWorker:
    return TimerWorker(engine.parts, KINDS, lambda: now)


async def fire(lab: Lab, now: datetime) -> int:
    """Fire what is due at a time; returns how many timers were claimed."""
    await lab.settle()
    return await worker(lab.engine, now).fire_due()


async def timers(lab: Lab) -> list[tuple[str, str]]:
    return [(doc["kind"], doc["status"]) for doc in await lab.all("timer")]


async def counters(lab: Lab) -> Mapping[str, float]:
    counted: Mapping[str, float] = (await lab.one("profile"))["stats"]["counters"]
    return counted


async def test_a_run_goes_on_when_its_time_has_come(open_lab: OpenLab) -> None:
    async with open_lab({"w": waiting()}, timers=False) as lab:
        await lab.track(EventInput("x", id="e1"), received=NOW)
        assert await counters(lab) == {"before": 1}
        timer = await lab.one("timer")
        assert (timer["due"], timer["node"], timer["status"]) == (iso(NOW + HOUR), "n1", "pending")
        event = await lab.one("event")
        assert event["runs"][0]["path"] == "n0.done n1.waits"
        assert await fire(lab, NOW + HOUR - timedelta(milliseconds=1)) == 0
        assert await fire(lab, NOW + HOUR) == 1
        assert await counters(lab) == {"before": 1, "n": 1}
        timer = await lab.one("timer")
        assert timer["status"] == "fired"
        assert timer["runs"][0]["path"] == "n1.done n2.done"
        assert await fire(lab, NOW + 9 * HOUR) == 0
        assert await counters(lab) == {"before": 1, "n": 1}


async def test_it_sees_the_profile_as_it_is_then(open_lab: OpenLab) -> None:
    async with open_lab({"w": waiting(), "other": chain("y", count())}, timers=False) as lab:
        await lab.track("x", received=NOW)
        await lab.track("y", "y", received=NOW)
        await fire(lab, NOW + HOUR)
        assert await counters(lab) == {"before": 1, "n": 3}


async def test_the_event_comes_in_time(open_lab: OpenLab) -> None:
    async with open_lab({"w": for_order()}, timers=False) as lab:
        await lab.track("cart", received=NOW)
        (entry,) = (await lab.one("profile"))["waits"]
        assert (entry["node"], entry["types"]) == ("wait", ["order"])
        await lab.track(EventInput("order", {"total": 7}), received=NOW + HOUR / 2)
        assert await timers(lab) == [("run", "pending"), ("wake", "pending")]
        assert await fire(lab, NOW + HOUR / 2) == 1
        profile = await lab.one("profile")
        assert profile["traits"] == {"order": 7}
        assert "waits" not in profile
        assert await timers(lab) == [("run", "fired"), ("wake", "fired")]
        assert await fire(lab, NOW + 2 * HOUR) == 0
        assert await counters(lab) == {}


async def test_the_event_does_not_come(open_lab: OpenLab) -> None:
    async with open_lab({"w": for_order()}, timers=False) as lab:
        await lab.track("cart", received=NOW)
        assert await fire(lab, NOW + HOUR) == 1
        # One that comes later is not for this run.
        await lab.track(EventInput("order", {"total": 7}), received=NOW + HOUR)
        assert await fire(lab, NOW + 2 * HOUR) == 0
        profile = await lab.one("profile")
        assert (profile["traits"], profile["stats"]["counters"]) == ({}, {"late": 1})
        assert "waits" not in profile


async def test_a_run_that_is_cancelled_never_goes_on(open_lab: OpenLab) -> None:
    async with open_lab({"w": for_order(), "v": waiting()}, timers=False) as lab:
        await lab.track(EventInput("cart", id="e1"), received=NOW)
        await lab.collect(EventInput("x", id="e2"), received=NOW)
        for doc in await lab.all("timer"):
            done = await cancel(lab.store, "main", doc["id"], "by hand")
            assert isinstance(done, dict)
            assert (done["status"], done["reason"]) == ("cancelled", "by hand")
            assert await cancel(lab.store, "main", doc["id"], "again") == OVER
            assert await cancel(lab.store, "other", doc["id"], "theirs") == NONE
        await lab.track(EventInput("order", {"total": 7}), received=NOW)
        assert await fire(lab, NOW + 2 * HOUR) == 0
        profile = await lab.one("profile")
        assert (profile["traits"], profile["stats"]["counters"]) == ({}, {})
        assert "waits" not in profile


async def test_who_has_the_timer_already_finds_it_cancelled(open_lab: OpenLab) -> None:
    async with open_lab({"v": waiting()}, timers=False) as lab:
        await lab.track(EventInput("x", id="e2"), received=NOW)
        await lab.settle()
        (leased,) = await lab.store.claim_due("timer", 1, 60, NOW + HOUR)
        await cancel(lab.store, "main", leased.key, "by hand")
        doc = await fire_run(lab.engine.parts, leased, NOW + HOUR)
        assert (doc["status"], doc["reason"]) == ("cancelled", "by hand")
        assert not await lab.store.done("timer", leased, doc)
        assert await counters(lab) == {"before": 1}


async def test_the_story_tells_of_the_wait(open_lab: OpenLab) -> None:
    files = {"w": waiting(), "sources.json": sources(shop={"trace": True})}
    async with open_lab(files, timers=False) as lab:
        await lab.track(EventInput("x", {"secret": "words"}, id="e1"), received=NOW)
        await fire(lab, NOW + HOUR)
        await lab.settle()
        await lab.engine.parts.keeper.flush()
        await lab.settle()
        told = await lab.engine.story("main", make_key("event", "main", "shop", "e1"))
        assert told is not None
        (timer,) = told["timers"]
        assert "words" not in str(timer)
        assert timer["held"] == {"n1": {"due": iso(NOW + HOUR), "port": "done"}}
        (run,) = timer["runs"]
        assert (run["path"], run["trace"]["path"]) == ("n1.done n2.done", ["n1", "n2"])
        nodes = run["trace"]["nodes"]
        assert nodes["n0"]["skipped"] == "left by done before the run waited"
        assert nodes["n1"]["port"] == "done"
        assert nodes["n2"]["changes"][0]["after"] == 1
        first = told["runs"][0]["trace"]
        assert (first["path"], first["nodes"]["n1"]["waits"]) == (["n0", "n1"], iso(NOW + HOUR))
        assert first["nodes"]["n2"]["skipped"] == "waits"


async def test_what_runs_wait_for_is_hidden_from_nodes_and_answers(open_lab: OpenLab) -> None:
    look = chain("look", ("respond", {"members": {"seen": "{{ profile.waits }}"}}))
    by_id = chain(
        "find",
        ("load_profile", {"id": "{{ event.properties.id }}"}),
        ("respond", {"members": {"k": "{{ profile.waits }}"}}),
    )
    files = {
        "w": for_order(),
        "look": look,
        "find": by_id,
        "sources.json": sources(shop={"answers_profile": True}),
    }
    async with open_lab(files, timers=False) as lab:
        await lab.track("cart", received=NOW)
        answer = await lab.track("look", received=NOW, profile=True)
        assert answer.response == {"seen": None}
        assert answer.profile is not None
        assert "waits" not in answer.profile
        found = await lab.collect(EventInput("find", {"id": answer.profile["id"]}), received=NOW)
        assert found.response == {"k": None}
        # And it is still there, after all of this was written.
        assert len((await lab.one("profile"))["waits"]) == 1
        await lab.track(EventInput("order", {"total": 7}), received=NOW)
        assert await fire(lab, NOW) == 1
        assert (await lab.one("profile"))["traits"] == {"order": 7}


async def test_a_profile_waits_for_so_many_events_at_most(open_lab: OpenLab) -> None:
    async with open_lab({"w": for_order()}, timers=False) as lab:
        for _ in range(4):
            await lab.track(*["cart"] * 20, received=NOW)
        assert len((await lab.one("profile"))["waits"]) == 50
        errors = [error for doc in await lab.all("event") for error in doc["errors"]]
        assert errors == ["wait: a profile waits for 50 events at most"] * 30
        assert await fire(lab, NOW + HOUR) == 50
        assert await counters(lab) == {"late": 50}
        assert "waits" not in await lab.one("profile")


async def test_only_the_event_that_is_meant_ends_a_wait(open_lab: OpenLab) -> None:
    where = {"properties.cart": "{{ event.properties.cart }}"}
    files = {"w": for_order(where=where, when="event.properties.total >= 100")}
    async with open_lab(files, timers=False) as lab:
        await lab.track(EventInput("cart", {"cart": 7}), received=NOW)
        await lab.track(EventInput("cart", {"cart": 8}), received=NOW)
        for properties in (
            {"cart": 7},
            {"cart": 9, "total": 200},
            {"cart": "7", "total": 200},
            {"total": 200},
        ):
            await lab.track(EventInput("order", properties), received=NOW)
        # Another profile's event is not meant.
        await lab.track(EventInput("order", {"cart": 7, "total": 200}), session_id="other", received=NOW)
        assert await fire(lab, NOW) == 0
        await lab.track(EventInput("order", {"cart": 7, "total": 200}), received=NOW)
        assert await fire(lab, NOW) == 1
        profiles = await lab.all("profile")
        assert sorted((len(doc["traits"]), len(doc.get("waits", ()))) for doc in profiles) == [(0, 0), (1, 1)]


async def test_internal_events_and_effects_of_a_run_that_goes_on(open_lab: OpenLab) -> None:
    emit = ("emit_event", {"type": "late", "properties": {"x": "{{ event.properties.x }}"}})
    hook = ("webhook", {"url": "https://crm.example/x"})
    files = {"w": chain("x", ("wait", {"period": "1h"}), emit, hook), "late": chain("late", count())}
    async with open_lab(files, timers=False, outbox=False) as lab:
        await lab.track(EventInput("x", {"x": 5}, id="e1", context={"page": "/a"}), received=NOW)
        assert await fire(lab, NOW + HOUR) == 1
        late = next(doc for doc in await lab.all("event") if doc["type"] == "late")
        assert (late["properties"], late["emitted_by"], late["door"]) == ({"x": 5}, "e1", "internal")
        assert late["time"]["happened"] == late["time"]["received"] == iso(NOW + HOUR)
        assert late["context"] == {"page": "/a"}
        effect = await lab.one("effect")
        assert (effect["event"], effect["node"]) == (make_key("event", "main", "shop", "e1"), "n2")
        assert await lab.counter() == 1


async def test_a_run_without_a_profile_waits_too(open_lab: OpenLab) -> None:
    made = chain("x", ("wait", {"period": "1h"}), ("create_profile", {}), count())
    async with open_lab({"w": made, "o": for_order()}, timers=False) as lab:
        await lab.collect(EventInput("x", id="e1"), received=NOW)
        await lab.collect("cart", received=NOW)
        assert await lab.all("profile") == []
        assert await timers(lab) == [("run", "pending")]
        assert await fire(lab, NOW + HOUR) == 1
        assert await counters(lab) == {"n": 1}
        assert await fire(lab, NOW + 9 * HOUR) == 0


async def test_erasing_a_profile_takes_its_waits_along(open_lab: OpenLab) -> None:
    async with open_lab({"w": for_order(), "v": waiting()}, timers=False) as lab:
        await lab.track("cart", "x", received=NOW)
        await lab.track(EventInput("order", {"total": 7}), received=NOW)
        await lab.place.finish()
        held = await lab.store.claim_due("timer", 1, 60, NOW)
        gone = await lab.store.erase("main", (await lab.one("profile"))["id"])
        assert gone["timer"] == 3
        assert await lab.all("timer") == []
        # A worker that has one already finds nobody.
        (wake,) = held
        assert (await KINDS["wake"](lab.engine.parts, wake, NOW + timedelta(days=1)))["status"] == "fired"
        assert await fire(lab, NOW + 9 * HOUR) == 0
        assert await lab.all("profile") == []


async def test_a_run_whose_profile_grew_too_old_is_cancelled(open_lab: OpenLab) -> None:
    async with open_lab({"v": waiting()}, timers=False) as lab:
        await lab.track("x", received=NOW)
        await lab.settle()
        (leased,) = await lab.store.claim_due("timer", 1, 60, NOW + HOUR)
        await lab.store.erase("main", (await lab.one("profile"))["id"])
        doc = await fire_run(lab.engine.parts, leased, NOW + HOUR)
        assert (doc["status"], doc["reason"]) == ("cancelled", "the profile is gone")
        assert await lab.all("profile") == []


async def test_old_timers_go_once_they_are_over(open_lab: OpenLab) -> None:
    async with open_lab({"v": waiting()}, timers=False) as lab:
        await lab.track("x", received=NOW)
        await lab.track("x", received=NOW + HOUR)
        await fire(lab, NOW + HOUR)
        await lab.settle()
        # Made long ago, it is over since a moment.
        assert (await lab.store.prune({"timer": 30}, utc_now() + timedelta(days=29)))["timer"] == 0
        assert (await lab.store.prune({"timer": 30}, utc_now() + timedelta(days=31)))["timer"] == 1
        assert await timers(lab) == [("run", "pending")]
