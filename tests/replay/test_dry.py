"""Dry replays: events as they were, against a draft, and how they differ."""

from datetime import timedelta
from typing import Any

import pytest

from headrace.engine.model import EventInput, make_key
from headrace.engine.replay.answers import NO_ANSWER, Answer
from headrace.engine.replay.apply import apply_workflow
from headrace.engine.store.protocol import Query
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.makers import NOW, chain, count, sources
from tests.replay.conftest import Replayer, said
from tests.test_schedule import Clock, Side, scheduled

TRACED = {"sources.json": sources(shop={"trace": True})}
MINUTE = "2026-01-15T12:00:00Z"


def request(**more: Any) -> tuple[str, dict[str, Any]]:
    return "http_request", {"url": "https://crm.example/{{ event.properties.who }}", **more}


def set_trait(value: Any, name: str = "t") -> tuple[str, dict[str, Any]]:
    return "set_fields", {"fields": {f"profile.traits.{name}": value}}


async def test_the_same_workspace_gives_the_same(open_lab: OpenLab, replay: Replayer) -> None:
    files = TRACED | {
        "counts": chain("x", count(), ("defer", {})),
        "emits": chain("x", ("emit", {"given": ["inner"]})),
        "inner": chain("inner", count("profile.stats.counters.inner")),
        "never": chain("x", count(), on={"when": "event.properties.gone"}),
        "fails": chain("x", ("fail", {"message": "no"})),
    }
    async with open_lab(files) as lab:
        for number in range(3):
            await lab.track(EventInput("x", {"n": number}, id=f"e{number}"))
        done, found = await replay.counted(lab, files)
        assert (found.events, found.internal, found.is_cut) == (3, 3, False)
        assert [each.event["id"] for each in done] == ["e0", "e1", "e2"]
        assert [each.differences for each in done] == [[], [], []]
        assert [each.differs for each in done] == [False] * 3


async def test_every_kind_of_difference_is_named(open_lab: OpenLab, replay: Replayer) -> None:
    files = TRACED | {
        "gone": chain("x", count("profile.stats.counters.gone")),
        "path": chain("x", count(), set_trait("a")),
        "sends": chain("x", ("defer", {})),
        "errs": chain("x", ("fail", {"message": "no"})),
        "emits": chain("x", ("emit", {"given": ["inner"]})),
        "skips": chain("x", count("profile.stats.counters.s"), enabled=False),
    }
    draft = TRACED | {
        "path": chain("x", count(), set_trait("a"), set_trait("b", "u")),
        "errs": chain("x", ("fail", {"message": "never"})),
        "skips": chain("x", count("profile.stats.counters.s"), on={"when": "false"}),
        "new": chain("x", count("profile.stats.counters.new")),
    }
    async with open_lab(files) as lab:
        await lab.track(EventInput("x", id="e1"))
        (done,) = await replay(lab, draft)
        call = {"method": "POST", "url": "https://crm.example"}
        assert said(done) == [
            ("ran", "emits", "ran: n0.a", "did not take the event"),
            ("error", "errs", "n0: no", "n0: never"),
            ("ran", "gone", "ran: n0.done", "did not take the event"),
            ("path", "path", "n0.done n1.done", "n0.done n1.done n2.done"),
            ("ran", "sends", "ran: n0.waits", "did not take the event"),
            ("skipped", "skips", "did not run: disabled", "did not run: condition false"),
            ("ran", "new", "did not take the event", "ran: n0.done"),
            ("change", "path", None, {"path": "profile.traits.u", "after": "b"}),
            ("effect", "sends", call, None),
            ("timer", "sends", "waits", None),
            ("event", "emits", "inner", None),
        ]
        assert not any("unchanged" in one for one in done.differences)


async def test_a_changed_value_differs_and_a_changed_profile_does_not(
    open_lab: OpenLab, replay: Replayer
) -> None:
    nodes = [count(), set_trait("a"), ("add_segment", {"segment": "vip"})]
    draft = [count(), set_trait("b"), ("add_segment", {"segment": "vip"})]
    async with open_lab(TRACED | {"w": chain("x", *nodes)}) as lab:
        await lab.track(EventInput("x", id="e1"))
        await lab.track(EventInput("x", id="e2"))
        # The counter begins at 2 now, the trait and the segment stand already: all the same as then.
        assert [each.differences for each in await replay(lab, TRACED | {"w": chain("x", *nodes)})] == [
            [],
            [],
        ]
        first, second = await replay(lab, TRACED | {"w": chain("x", *draft)})
        (one,) = first.differences
        assert (one["what"], one["node"]) == ("change", "n1")
        assert one["then"] == {"path": "profile.traits.t", "after": "a"}
        assert one["now"] == {"path": "profile.traits.t", "before": "a", "after": "b"}
        # Then it changed nothing, since it stood already; now it stands from the event before.
        assert second.differences == []


async def test_what_the_store_holds_now_is_told_from_what_the_file_does(
    open_lab: OpenLab, replay: Replayer
) -> None:
    files = TRACED | {"w": chain("x", ("once", {"name": "greeted"}))}
    async with open_lab(files) as lab:
        await lab.track(EventInput("x", id="e1"))
        (done,) = await replay(lab, files)
        assert said(done)[0] == ("path", "w", "n0.first", "n0.again")
        assert all(one["unchanged"] for one in done.differences)


async def test_a_later_event_sees_what_an_earlier_one_changed(open_lab: OpenLab, replay: Replayer) -> None:
    draft = chain("x", count("profile.stats.counters.new"), ("add_segment", {"segment": "vip"}))
    second = chain("x", ("has_segment", {"segment": "vip"}), order=-1)
    async with open_lab() as lab:
        for number in range(2):
            await lab.track(EventInput("x", id=f"e{number}"))
        await lab.track(EventInput("x", id="other"), session_id="s2")
        done = await replay(lab, {"w": draft, "looks": second})
        assert [each.now.runs["looks"]["path"] for each in done] == ["n0.false", "n0.true", "n0.false"]
        assert [each.now.changes["w"][0]["after"] for each in done] == [1, 2, 1]


async def test_an_event_is_as_it_was(open_lab: OpenLab, replay: Replayer) -> None:
    seen = chain(
        "x",
        (
            "respond",
            {
                "members": {
                    "now": "{{ now }}",
                    "id": "{{ event.id }}",
                    "happened": "{{ event.time.happened }}",
                    "page": "{{ event.page }}",
                    "context": "{{ event.context }}",
                    "door": "{{ event.door }}",
                    "profile": "{{ event.profile }}",
                    "session": "{{ event.session }}",
                }
            },
        ),
    )
    async with open_lab(TRACED | {"w": seen}) as lab:
        given = EventInput("x", {"a": 1}, {"page": "https://shop.example/a"}, id="e1", time=MINUTE)
        answer = await lab.track(given, context={"lang": "en"})
        (done,) = await replay(lab, TRACED | {"w": seen})
        assert done.differences == []
        changes = done.traces[0]["nodes"]["n0"]["changes"]
        now = {change["path"].removeprefix("response."): change["after"] for change in changes}
        assert now == answer.response


async def test_history_is_that_of_then(open_lab: OpenLab, replay: Replayer) -> None:
    files = TRACED | {"w": chain("x", ("past", {}))}
    async with open_lab(files) as lab:
        answers = []
        for id in ("e1", "e2"):
            answers.append(await lab.track(EventInput("x", id=id)))
            await lab.settle()
        both = await lab.track(EventInput("x", id="e3"), EventInput("x", id="e4"))
        then = {id: value for each in (*answers, both) for id, value in each.response.items()}
        assert then["e4"]["count"] == 3
        done = await replay(lab, files)
        now = {each.event["id"]: each.traces[0]["nodes"]["n0"]["changes"][0]["after"] for each in done}
        assert now == then


async def test_events_without_a_profile_begin_without_one(open_lab: OpenLab, replay: Replayer) -> None:
    files = TRACED | {
        "w": chain("x", ("attach", {"given": {"profile": "who"}})),
        "looks": chain("x", ("is_new_profile", {}), order=1),
    }
    async with open_lab(files) as lab:
        known = await lab.track(EventInput("y", id="first"))
        assert known.profile is not None
        await lab.collect(EventInput("x", {"who": known.profile["id"]}, id="e1"))
        await lab.collect(EventInput("x", {"who": "nobody"}, id="e2"))
        done = await replay(lab, files, query=Query("event", type="x"))
        assert [each.differences for each in done] == [[], []]
        assert [each.now.runs["w"]["path"] for each in done] == ["n0.a", "n0.error"]


# Answers of calls


async def test_recorded_answers_stand_in_then_mocks_then_none(open_lab: OpenLab, replay: Replayer) -> None:
    def nodes(*more: tuple[str, Any]) -> dict[str, Any]:
        return TRACED | {"w": chain("x", request(), set_trait("{{ nodes.n0.body.name }}"), *more)}

    def answered(name: str) -> dict[str, Any]:
        return {"status": 200, "headers": {}, "body": {"name": name}}

    async with open_lab(nodes()) as lab:
        await lab.track(EventInput("x", {"who": "a"}, id="e1"))
        # Nobody answered then, and that was recorded.
        (done,) = await replay(lab, nodes())
        assert done.answers == {"w": {"n0": "recorded"}}
        assert done.differences == []
    draft = {"v": chain("x", request(), set_trait("{{ nodes.n0.body.name }}"))}
    async with open_lab(TRACED | {"w": chain("x", count())}, fresh=True) as lab:
        await lab.track(EventInput("x", {"who": "a"}, id="e1"))
        (without,) = await replay(lab, draft)
        assert without.answers == {"v": {"n0": "none"}}
        assert without.now.runs["v"]["path"] == "n0.failed"
        assert without.traces[0]["nodes"]["n0"]["result"] == {"error": NO_ANSWER}
        for key in (("", "n0"), ("v", "n0")):
            (mocked,) = await replay(lab, draft, {key: Answer("ok", answered("Kim"))})
            assert mocked.answers == {"v": {"n0": "mock"}}
            assert mocked.now.changes["v"][0]["after"] == "Kim"
        (failed,) = await replay(lab, draft, {("v", "n0"): Answer("error", {"error": "gone"})})
        assert failed.now.runs["v"]["error"] == "n0: gone"


# Failed events, sources, limits


async def test_a_failed_event_that_would_be_taken(open_lab: OpenLab, replay: Replayer) -> None:
    schema: dict[str, Any] = {"properties": {"total": {"type": "number"}}}
    types = {"event_types.json": {"event_types": {"x": {"schema": schema}}}}
    workflow = {"w": chain("x", count())}
    async with open_lab(types | workflow) as lab:
        await lab.track(EventInput("x", {"total": "much"}, id="e1"))
        refused = Query("failed")
        (same,) = await replay(lab, types | workflow, query=refused)
        assert same.differences == []
        (done,) = await replay(lab, workflow, query=refused)
        ((what, _, then, now),) = said(done)
        assert what == "refused"
        assert then.startswith("schema: /properties/total: ")
        assert now == "taken, and ran through w"
        assert await replay(lab, workflow, query=refused, code="engine_fault") == []


async def test_an_event_of_a_source_that_the_draft_does_not_have(open_lab: OpenLab, replay: Replayer) -> None:
    async with open_lab() as lab:
        await lab.track(EventInput("x", id="e1"))
        (done,) = await replay(lab, {"sources.json": sources(other={})})
        assert (done.differs, done.problem) == (True, "the workspace has no source 'shop'")


@pytest.mark.parametrize(
    ("limit", "ids", "cut"), [(2, ["e3", "e4"], True), (5, ["e0", "e1", "e2", "e3", "e4"], False)]
)
async def test_the_newest_are_replayed_the_oldest_first(
    open_lab: OpenLab, replay: Replayer, limit: int, ids: list[str], cut: bool
) -> None:
    async with open_lab() as lab:
        await lab.track(*(EventInput("x", id=f"e{number}") for number in range(5)))
        done, found = await replay.counted(lab, {}, limit=limit)
        assert [each.event["id"] for each in done] == ids
        assert (found.events, found.is_cut) == (len(ids), cut)


async def test_a_look_finds_what_is_there(open_lab: OpenLab, replay: Replayer) -> None:
    async with open_lab() as lab:
        await lab.track(EventInput("x", id="e1"))
        async with replay.looking(lab) as look:
            key = make_key("event", "main", "shop", "e1")
            assert (await look.get("event", key) or {})["id"] == "e1"
            assert await look.get("event", "0" * 32) is None
            assert await look.count(Query("event")) == 1


# Waits


async def test_a_run_that_waited_is_followed_until_it_waits(open_lab: OpenLab, replay: Replayer) -> None:
    files = TRACED | {
        "w": chain(
            "x", count(), ("wait", {"period": "1h"}), ("webhook", {"url": "https://crm.example"}), count()
        )
    }
    async with open_lab(files, timers=False, outbox=False) as lab:
        await lab.track(EventInput("x", id="e1"), received=NOW)
        await lab.settle()
        assert await TimerWorker(lab.engine.parts, KINDS, lambda: NOW + timedelta(hours=1)).fire_due() == 1
        assert len(await lab.all("effect")) == 1
        (same,) = await replay(lab, files)
        assert same.differences == []
        shorter = {"w": chain("x", count(), ("webhook", {"url": "https://crm.example"}), count())}
        (done,) = await replay(lab, TRACED | shorter)
        assert [what for what, *_ in said(done)] == ["path", "change", "effect", "timer"]
        told = await lab.engine.story("main", make_key("event", "main", "shop", "e1"))
        assert told is not None
        assert [(timer["status"], len(timer["runs"])) for timer in told["timers"]] == [("fired", 1)]


async def test_an_event_that_another_run_waits_for(open_lab: OpenLab, replay: Replayer) -> None:
    waits = ("wait_for_event", {"event": ["order"], "timeout": "1h"})
    files = {
        "w": chain("cart", waits, count()),
        "counts": chain("order", count("profile.stats.counters.orders")),
    }
    async with open_lab(files, timers=False) as lab:
        await lab.track(EventInput("cart", id="e1"))
        await lab.track(EventInput("order", id="e2"))
        await lab.track(EventInput("cart", id="e3"))
        await lab.settle()
        before = await lab.rows()
        done = await replay(lab, files)
        assert [each.differences for each in done] == [[], [], []]
        # The run waits in a version that the draft does not have.
        draft = files | {"w": chain("cart", waits, about="changed")}
        assert [each.differences for each in await replay(lab, draft)] == [[], [], []]
        assert await lab.rows() == before


async def test_a_tick_is_for_the_workflow_of_its_schedule(open_lab: OpenLab, replay: Replayer) -> None:
    files = {
        "w": scheduled(count(), schedule={"cron": "0 13 * * *", "segment": "vip"}),
        "all": chain("*", ("add_segment", {"segment": "vip"})),
    }
    async with open_lab(files, timers=False) as lab:
        await lab.track("x")
        side = Side(lab, Clock())
        await side.at(seconds=0)
        await lab.settle()
        await side.at(minutes=31)
        done = await replay(lab, files, query=Query("event", type="schedule"))
        assert [(each.differences, list(each.now.runs)) for each in done] == [([], ["w"])]
        told = await lab.engine.story("main", done[0].event["key"])
        assert told is not None
        assert told["identity"]["by"] == "engine"
        (gone,) = await replay(lab, {"all": files["all"]}, query=Query("event", type="schedule"))
        assert said(gone)[0] == ("ran", "w", "ran: n0.done", "did not take the event")
        draft = replay.draft(files)
        applied = await apply_workflow(lab.engine.parts, draft, draft.workflows[1], done[0].event)
        assert (applied.workflow, applied.outcome) == ("w", "applied")
        assert await lab.counter() == 2


@pytest.mark.parametrize("is_reowned", [False, True])
async def test_events_of_a_merged_profile_are_replayed_with_the_one_that_it_became(
    open_lab: OpenLab, replay: Replayer, is_reowned: bool
) -> None:
    files = TRACED | {"counts": chain("x", count())}
    async with open_lab(files, timers=False) as lab:
        ids = []
        for name in "ab":
            answer = await lab.track(EventInput("x", {"n": 1}, id=f"e-{name}"), session_id=f"s-{name}")
            assert answer.profile is not None
            ids.append(answer.profile["id"])
        await lab.engine.merge("main", ids[0], ids[1], "test")
        if is_reowned:
            await TimerWorker(lab.engine.parts, KINDS).fire_due()
        done, found = await replay.counted(lab, files)
        assert (found.events, [each.event["id"] for each in done]) == (2, ["e-a", "e-b"])
        assert [each.differences for each in done] == [[], []]


async def test_segments_know_the_past_as_it_was_then(open_lab: OpenLab, replay: Replayer) -> None:
    third = {"segments": {"third": {"when": "events('x').count >= 3"}}}
    greets = chain("x", count("profile.stats.counters.greeted"), on={"when": "'third' in profile.segments"})
    files = {"segments.json": third, "in": chain("segment-entered", count()), "greets": greets}
    async with open_lab(files) as lab:
        for number in range(4):
            await lab.track(EventInput("x", {"n": number}, id=f"e{number}"))
        assert await lab.counter() == 1
        done = await replay(lab, files)
        assert [said(each) for each in done] == [[], [], [], []]
        draft = files | {"segments.json": {"segments": {"third": {"when": "events('x').count >= 2"}}}}
        changed = await replay(lab, draft)
        assert [said(each) for each in changed] == [
            [],
            [("event", None, None, "segment-entered")],
            [
                ("ran", "greets", "did not run: condition false", "ran: n0.done"),
                ("event", None, "segment-entered", None),
            ],
            [],
        ]
        assert changed[1].differences[0]["segment"] == "third"
