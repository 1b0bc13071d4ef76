"""Workflows within a request: which run, what fails, what bounds them."""

import asyncio
from typing import Any

import pytest

from headrace.engine.errors import BusyError
from headrace.engine.model import EventInput, make_key
from headrace.engine.passage import MAX_NODE_RUNS
from headrace.engine.steps import stats
from tests.conftest import OpenLab
from tests.makers import Files, chain, count, make_request, sources

COUNT: Files = {"count": chain("*", count())}


# Which workflows run


async def test_consent_order_and_stop(open_lab: OpenLab) -> None:
    give = ("set_consent", {"consent": "marketing", "given": True})
    says: list[tuple[str, dict[str, Any]]] = [
        ("append_value", {"field": "profile.traits.ran", "value": name}) for name in "abcde"
    ]
    files = {
        "z-first": chain("x", says[0], order=-1),
        "gated": chain("x", says[1], on={"consent": ["marketing"]}),
        "gives": chain("x", give, order=1),
        "gated-later": chain("x", says[2], on={"consent": ["marketing"]}, order=2),
        "stops": chain("x", says[3], order=3, stop=True, on={"when": "event.properties.stop"}),
        "last": chain("x", says[4], order=4),
    }
    async with open_lab(files) as lab:
        await lab.track(EventInput("x"))
        assert (await lab.one("profile"))["traits"]["ran"] == ["a", "c", "e"]
        await lab.track(EventInput("x", {"stop": True}))
        assert (await lab.one("profile"))["traits"]["ran"] == ["a", "c", "e", "a", "b", "c", "d"]
        first, second = await lab.all("event")
        skipped = [
            {run["workflow"]: run["skipped"] for run in event["runs"] if "skipped" in run}
            for event in (first, second)
        ]
        assert skipped == [{"gated": "consent", "stops": "when"}, {"last": "stopped"}]


async def test_a_node_may_stop_later_workflows(open_lab: OpenLab) -> None:
    files = {
        "a": chain("x", ("stop", {"event": True}), count()),
        "b": chain("x", count()),
        "c": chain("x", count(), enabled=False),
        "d": chain("x", count(), on={"source": ["other"]}),
        "sources.json": sources(shop={}, other={}),
    }
    async with open_lab(files) as lab:
        await lab.track("x")
        assert await lab.counter() == 0
        runs = {run["workflow"]: run.get("skipped") for run in (await lab.one("event"))["runs"]}
        assert runs == {"a": None, "b": "stopped", "c": "disabled", "d": "stopped"}


async def test_a_condition_that_cannot_be_evaluated_is_told(open_lab: OpenLab) -> None:
    when = "event.properties.x | replace('a', 'aaaaaaaaaaaaaaaa') | length > 1"
    async with open_lab({"w": chain("x", count(), on={"when": when})}, debugger=True) as lab:
        answer = await lab.track(EventInput("x", {"x": "a" * 200_000}), debugger=True)
        assert answer.debugging is not None
        (line,) = answer.debugging["logs"]
        assert line["workflow"] == "w"
        assert line["message"].startswith("on.when: ")
        assert await lab.counter() == 0


async def test_events_emit_events_three_deep(open_lab: OpenLab) -> None:
    files = {"emits": chain("*", count(), ("emit", {"given": ["inner"]}))}
    async with open_lab(files, debugger=True) as lab:
        answer = await lab.track("outer", debugger=True)
        assert await lab.counter() == 4
        outer, *inner = await lab.all("event")
        assert [event["type"] for event in inner] == ["inner"] * 3
        assert [event["emitted_by"] for event in inner] == [outer["id"], inner[0]["id"], inner[1]["id"]]
        assert {event["door"] for event in inner} == {"internal"}
        assert inner[-1]["errors"] == ["n1: events may emit events 3 deep; this would be 4"]
        assert answer.events == [outer["id"]]


async def test_an_event_sent_again_emits_nothing_new(open_lab: OpenLab) -> None:
    files = {
        "emits": chain("x", ("emit", {"given": ["y", "y"]}), ("defer", {})),
        "count": chain("y", count()),
    }
    async with open_lab(files, timers=False, outbox=False) as lab:
        await lab.track(EventInput("x", id="e1"))
        before = await lab.rows()
        await lab.track(EventInput("x", id="e1"))
        assert await lab.rows() == before
        assert await lab.counter() == 2
        assert (len(await lab.all("event")), len(await lab.all("effect")), len(await lab.all("timer"))) == (
            3,
            1,
            1,
        )


async def test_the_budget_bounds_all_that_an_event_causes(open_lab: OpenLab) -> None:
    # Each event makes 30 more, three deep: 27,930 node runs if nothing ended it.
    files = {"emits": chain("*", ("emit", {"given": ["again"] * 30}))}
    async with open_lab(files, debugger=True) as lab:
        answer = await lab.track("x", debugger=True)
        assert answer.debugging is not None
        runs = [run for traces in answer.debugging["execution"].values() for run in traces]
        assert sum(len(run["path"]) for run in runs) == MAX_NODE_RUNS
        assert runs[-1]["error"] == "stopped: the event has used all of its node runs"


# Failures


async def test_events_that_break_their_schema_are_kept_among_the_failed(open_lab: OpenLab) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    files = COUNT | {"event_types.json": {"event_types": {"order": {"schema": schema}, "x": {}}}}
    async with open_lab(files, debugger=True) as lab:
        answer = await lab.track(
            EventInput("order", id="bad"), EventInput("order", {"total": 1}), "x", debugger=True
        )
        assert [(error.event, error.code) for error in answer.errors] == [("bad", "schema")]
        assert "total" in answer.errors[0].message
        failed = await lab.one("failed")
        assert (failed["event"], failed["code"], failed["raw"]["type"]) == ("bad", "schema", "order")
        assert failed["reasons"][0]["pointer"] == "/properties"
        assert await lab.counter() == 2
        assert answer.debugging is not None
        assert answer.debugging["events"]["saved"] == 2
        assert len(answer.debugging["events"]["errors"]) == 1
        # Sent again it is refused again, and kept once; put right it is taken.
        await lab.track(EventInput("order", id="bad"))
        assert len(await lab.all("failed")) == 1
        await lab.track(EventInput("order", {"total": 2}, id="bad"))
        assert await lab.counter() == 3


async def test_a_fault_of_the_engine_fails_one_event_only(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(passage: Any) -> None:
        if passage.event["type"] == "bad":
            passage.draft.profile["traits"]["half"] = "done"
            raise RuntimeError("a bug of ours")

    async with open_lab(COUNT, debugger=True) as lab:
        monkeypatch.setattr(stats, "count_event", breaks)
        answer = await lab.track("x", EventInput("bad", {"keep": "me"}, id="e1"), "x", debugger=True)
        assert [(error.event, error.code) for error in answer.errors] == [("e1", "engine_fault")]
        assert "a bug of ours" not in answer.errors[0].message
        assert await lab.counter() == 2
        assert (await lab.one("profile"))["traits"] == {}
        failed = await lab.one("failed")
        assert (failed["code"], failed["raw"]["properties"]) == ("engine_fault", {"keep": "me"})
        assert failed["reasons"][0]["message"] == "RuntimeError: a bug of ours"
        assert len(await lab.all("event")) == 2
        # Put right, the event is taken when it is sent again.
        monkeypatch.undo()
        assert (await lab.track(EventInput("bad", {"keep": "me"}, id="e1"))).errors == []
        assert await lab.counter() == 3


async def test_a_failed_node_loses_nothing(open_lab: OpenLab) -> None:
    files = {
        "breaks": chain("x", count(), ("fail", {"message": "no {{ event.type }}"})),
        "next": chain("x", count()),
    }
    async with open_lab(files) as lab:
        answer = await lab.track("x")
        assert answer.errors == []
        assert await lab.counter() == 2
        assert (await lab.one("event"))["errors"] == ["n1: no x"]


# Bounds


async def test_a_slow_node_fails_before_its_request_does(open_lab: OpenLab) -> None:
    files = {"slow": chain("slow", ("slow", {"given": 30})), "count": chain("*", count())}
    async with open_lab(files, request_deadline_seconds=3) as lab:
        assert await lab.store.ready() == ""
        await lab.track(EventInput("x", id="e1"), EventInput("slow", id="e2"))
        assert await lab.counter() == 2
        event = next(event for event in await lab.all("event") if event["type"] == "slow")
        assert "timed out after" in event["errors"][0]


async def test_a_request_that_takes_too_long_is_refused_and_can_be_sent_again(open_lab: OpenLab) -> None:
    async with open_lab({"count": chain("*", count())}, request_deadline_seconds=2) as lab:
        assert await lab.store.ready() == ""
        locks, key = lab.engine.parts.locks, make_key("session", "main", "s1")
        await locks.take(key)
        with pytest.raises(BusyError):
            await lab.track(EventInput("x", id="e1"))
        assert not any((await lab.rows()).values())
        locks.release(key)
        assert len(locks) == 0
        await lab.track(EventInput("x", id="e1"))
        assert await lab.counter() == 1


async def test_waiters_are_bounded(open_lab: OpenLab) -> None:
    files = {"slow": chain("slow", ("slow", {"given": 0.3})), "count": chain("*", count())}
    async with open_lab(files, waiters_per_profile=100) as lab:
        await lab.track()
        first = asyncio.create_task(lab.engine.track(make_request("slow")))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(lab.engine.track(make_request("x"))) for _ in range(100)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="100 requests wait"):
            await lab.track("x")
        await asyncio.gather(first, *waiting)
        assert await lab.counter() == 101
        assert len(lab.engine.parts.locks) == 0


async def test_a_client_that_goes_away_gives_its_place_free(open_lab: OpenLab) -> None:
    files = {"slow": chain("slow", ("slow", {"given": 0.2})), "count": chain("*", count())}
    async with open_lab(files) as lab:
        tasks = [
            asyncio.create_task(lab.engine.track(make_request(name))) for name in ("slow", "x", "x", "x")
        ]
        await asyncio.sleep(0.05)
        tasks[1].cancel()
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await lab.counter() == 2
        assert len(lab.engine.parts.locks) == 0
