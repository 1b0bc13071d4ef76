"""Replays that are applied: for good, and once."""

from typing import Any

from headrace.engine.files.workspace import Workspace
from headrace.engine.model import EventInput, make_key
from headrace.engine.replay.apply import Applied, apply_failed, apply_workflow
from headrace.engine.replay.past import event_of, gather
from headrace.engine.replay.scratch import Scratch
from headrace.engine.store.protocol import Query
from headrace.engine.story import story
from tests.conftest import OpenLab
from tests.makers import Lab, chain, count, sources
from tests.replay.conftest import Replayer


async def apply(lab: Lab, draft: Workspace, workflow: str = "", query: Query | None = None) -> list[Applied]:
    """Apply a workflow of a draft, or send failed events again, for all events of a lab."""
    await lab.settle()
    scratch, done, parts = Scratch(), [], lab.engine.parts
    await gather(lab.store, query or Query("event"), scratch, 100, said=lambda _: None)
    for event in scratch.oldest_first():
        if workflow:
            (chosen,) = (each for each in draft.workflows if each.name == workflow)
            done.append(await apply_workflow(parts, draft, chosen, event))
        else:
            done.append(await apply_failed(parts, draft, event))
    scratch.close()
    return done


def outcomes(done: list[Applied]) -> list[str]:
    return [each.outcome for each in done]


async def test_a_workflow_runs_once_for_an_event(open_lab: OpenLab, replay: Replayer) -> None:
    async with open_lab({"old": chain("x", count())}) as lab:
        for number in range(3):
            await lab.track(EventInput("x", id=f"e{number}"))
        draft = replay.draft(
            {"old": chain("x", count()), "new": chain("x", count("profile.stats.counters.new"))}
        )
        assert outcomes(await apply(lab, draft, "new")) == ["applied"] * 3
        assert outcomes(await apply(lab, draft, "new")) == ["before"] * 3
        assert (await lab.counter("new"), await lab.counter("n")) == (3, 3)
        changed = replay.draft({"new": chain("x", count("profile.stats.counters.new"), about="newer")})
        assert outcomes(await apply(lab, changed, "new")) == ["applied"] * 3
        assert await lab.counter("new") == 6


async def test_it_is_kept_as_a_replay_and_its_effects_are_its_own(
    open_lab: OpenLab, replay: Replayer
) -> None:
    async with open_lab() as lab:
        await lab.track(EventInput("page-view", {"a": 1}, id="e1"))
        before = await lab.one("profile")
        draft = replay.draft(
            {"new": chain("page-view", ("respond", {"members": {"id": "{{ event.id }}"}}), ("defer", {}))}
        )
        assert outcomes(await apply(lab, draft, "new")) == ["applied"]
        kept = {event["type"]: event for event in await lab.all("event")}
        key = make_key("event", "main", "shop", "e1")
        made = kept["replay"]
        assert (made["replay_of"], made["door"], made["id"]) == (key, "replay", made["key"])
        version = draft.workflows[0].version
        about = {"event": "e1", "type": "page-view", "workflow": "new", "version": version}
        assert made["properties"] == about
        assert [effect["event"] for effect in await lab.all("effect")] == [made["key"]]
        # The page was seen once.
        assert (await lab.one("profile"))["stats"] == before["stats"]
        await lab.settle()
        told = await story(lab.store, "main", key)
        assert told is not None
        (replayed,) = told["replays"]
        assert {name: replayed[name] for name in about} == about
        its_own = await story(lab.store, "main", made["key"])
        assert its_own is not None
        assert (its_own["replay_of"], its_own["effects"][0]["event"]) == (key, made["key"])
        # A replay is not replayed.
        assert outcomes(await apply(lab, draft, "new")) == ["before"]


async def test_what_it_causes_is_its_own(open_lab: OpenLab, replay: Replayer) -> None:
    inner = chain("inner", count("profile.stats.counters.inner"))
    async with open_lab() as lab:
        await lab.track(EventInput("x", id="e1"))
        draft = replay.draft(
            {"new": chain("x", ("emit", {"given": ["inner"]})), "inner": inner, "also": chain("x", count())}
        )
        assert outcomes(await apply(lab, draft, "new")) == ["applied"]
        assert (await lab.counter("inner"), await lab.counter()) == (1, 0)
        events = {event["type"]: event for event in await lab.all("event")}
        await lab.settle()
        told = await story(lab.store, "main", events["replay"]["key"])
        assert told is not None
        assert [each["type"] for each in told["caused"]] == ["inner"]
        inner_told = await story(lab.store, "main", events["inner"]["key"])
        assert inner_told is not None
        assert inner_told["caused_by"]["key"] == events["replay"]["key"]


async def test_workflows_that_do_not_fit_are_left_out(open_lab: OpenLab, replay: Replayer) -> None:
    async with open_lab() as lab:
        await lab.track(EventInput("x", id="e1"))
        draft = replay.draft({"y": chain("y", count()), "picky": chain("x", count(), on={"when": "false"})})
        (left,) = await apply(lab, draft, "y")
        assert (left.outcome, left.why) == ("left out", "it takes no events of the type 'x'")
        (skipped,) = await apply(lab, draft, "picky")
        assert (skipped.outcome, skipped.why) == ("applied", "skipped: when")
        assert await lab.counter() == 0


async def test_failed_events_are_sent_again_under_their_ids(open_lab: OpenLab, replay: Replayer) -> None:
    schema: dict[str, Any] = {"properties": {"total": {"type": "number"}}}
    files = {"event_types.json": {"event_types": {"x": {"schema": schema}}}, "w": chain("x", count())}
    refused = Query("failed")
    async with open_lab(files) as lab:
        await lab.track(EventInput("x", {"total": "much"}, id="e1"), EventInput("x", {"total": "no"}))
        assert outcomes(await apply(lab, replay.draft(files), query=refused)) == ["refused"] * 2
        assert await lab.all("event") == []
        draft = replay.draft({"w": chain("x", count())})
        assert outcomes(await apply(lab, draft, query=refused)) == ["applied"] * 2
        # What was sent again is done; whoever sends one once more all the same changes nothing.
        assert outcomes(await apply(lab, draft, query=refused)) == []
        failed = await lab.all("failed")
        assert {doc["resent"]["event"] for doc in failed} == {doc["key"] for doc in await lab.all("event")}
        again = [await apply_failed(lab.engine.parts, draft, event_of(doc)) for doc in failed]
        assert outcomes(again) == ["before"] * 2
        assert await lab.counter() == 2
        await lab.settle()
        told = await story(lab.store, "main", make_key("event", "main", "shop", "e1"))
        assert told is not None
        assert [each["code"] for each in told["refused"]] == ["schema"]


async def test_a_failed_event_has_the_context_of_its_request(open_lab: OpenLab, replay: Replayer) -> None:
    schema: dict[str, Any] = {"properties": {"total": {"type": "number"}}}
    files = {"event_types.json": {"event_types": {"x": {"schema": schema}}}}
    context = {"page": {"url": "https://shop.example/cart"}, "app": {"name": "shop"}, "kind": "all"}
    async with open_lab(files) as lab:
        await lab.track(EventInput("x", {"total": "much"}, {"kind": "own"}, "e1"), context=context)
        (failed,) = await lab.all("failed")
        assert failed["raw"]["context"] == context | {"kind": "own"}
        draft = replay.draft({"w": chain("x", count())})
        assert (await apply_failed(lab.engine.parts, draft, event_of(failed))).outcome == "applied"
        event = await lab.one("event")
        assert event["context"] == context | {"kind": "own"}
        assert event["page"] == {"url": "https://shop.example/cart", "path": "/cart"}


async def test_a_source_of_another_tenant_by_now_replays_nothing(open_lab: OpenLab, replay: Replayer) -> None:
    schema: dict[str, Any] = {"properties": {"total": {"type": "number"}}}
    files = {"event_types.json": {"event_types": {"x": {"schema": schema}}}}
    async with open_lab(files) as lab:
        await lab.track(EventInput("x", {"total": "much"}, id="e1"), EventInput("x", {"total": 1}, id="e2"))
        draft = replay.draft({"sources.json": sources(shop={"tenant": "other"}), "w": chain("x", count())})
        (failed,) = await lab.all("failed")
        done = [await apply_failed(lab.engine.parts, draft, event_of(failed)), *await apply(lab, draft, "w")]
        assert outcomes(done) == ["left out"] * 2
        assert "the tenant 'main' has no source 'shop' any more" in done[0].why
        assert "resent" not in (await lab.all("failed"))[0]
        for kind in ("event", "profile", "session"):
            assert await lab.store.count(Query(kind, tenant="other")) == 0


async def test_a_run_does_not_take_a_replay_for_what_it_waits_for(
    open_lab: OpenLab, replay: Replayer
) -> None:
    waits = chain("cart", ("wait_for_event", {"event": ["order"], "timeout": "1h"}))
    async with open_lab({"w": waits}, timers=False) as lab:
        await lab.track(EventInput("order", id="e1"))
        await lab.track(EventInput("cart", id="e2"))
        draft = replay.draft({"new": chain("order", count())})
        assert outcomes(await apply(lab, draft, "new", Query("event", type="order"))) == ["applied"]
        assert [timer["kind"] for timer in await lab.all("timer")] == ["run"]
        assert "met" not in (await lab.one("profile"))["waits"][0]
        await lab.track(EventInput("order", id="e3"))
        assert sorted(timer["kind"] for timer in await lab.all("timer")) == ["run", "wake"]


async def test_a_replay_says_nothing_of_the_whole_past(open_lab: OpenLab, replay: Replayer) -> None:
    segments = {"segments.json": {"segments": {"second": {"when": "events('x').count >= 2"}}}}
    async with open_lab() as lab:
        for number in range(2):
            await lab.track(EventInput("x", id=f"e{number}"))
        draft = replay.draft(segments | {"new": chain("x", count("profile.stats.counters.new"))})
        assert outcomes(await apply(lab, draft, "new")) == ["applied"] * 2
        # What was before one event is not all that there is, so it is not kept as such.
        assert "past" not in await lab.one("profile")
