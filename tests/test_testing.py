"""Tests of workflows: set-up, comparison, coverage."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.catalog import find_plugins
from headrace.engine.files.workflow_test import TestCase
from headrace.engine.files.workspace import Workspace, load_workspace
from headrace.engine.testing.expectation import ABSENT, Difference, differences
from headrace.engine.testing.runner import TestResult, measure, run_test
from headrace.engine.workflow import Workflow

CATALOG = find_plugins(())
BRANCH = {
    "big": {
        "plugin": "branch",
        "config": {"when": "event.properties.total >= 100"},
        "then": {"true": ["count"]},
    },
    "count": {"plugin": "increment", "config": {"field": "profile.stats.counters.big"}},
}


def load(folder: Path, nodes: dict[str, Any], on: dict[str, Any] | None = None, **more: Any) -> Workspace:
    """Write and load a workspace with one workflow, and another that must never run in its tests."""
    (folder / "workflows").mkdir(parents=True, exist_ok=True)
    sources = {"web": {}, "back": {"keys": [{"secret": "BACK"}]}}
    (folder / "sources.json").write_text(json.dumps({"sources": sources}))
    types = {"order": {"schema": {"properties": {"total": {"type": "number"}}}}, "other": {}, "made": {}}
    (folder / "event_types.json").write_text(json.dumps({"event_types": types}))
    workflow = {"on": {"event": ["order"]} | (on or {}), "nodes": nodes, **more}
    (folder / "workflows" / "mine.json").write_text(json.dumps(workflow))
    loud = {"on": {"event": ["*"]}, "nodes": {"fail": {"plugin": "fail", "config": {"message": "no"}}}}
    (folder / "workflows" / "another.json").write_text(json.dumps(loud))
    workspace = load_workspace(folder, CATALOG, lambda name: f"value of {name}")
    assert not workspace.broken, workspace.problems
    return workspace


def mine(workspace: Workspace) -> Workflow:
    return next(workflow for workflow in workspace.workflows if workflow.name == "mine")


async def check(workspace: Workspace, **test: Any) -> TestResult:
    test = {"name": "a test", "events": [{"type": "order"}], "expect": {}} | test
    return await run_test(workspace, mine(workspace), TestCase.model_validate(test))


def told(result: TestResult) -> str:
    return "\n".join(f"{each.place} {each.text} {each.expected} {each.actual}" for each in result.differences)


BIG = [{"type": "order", "properties": {"total": 100}}]


@pytest.mark.parametrize(
    ("expect", "place"),
    [
        ({"path": ["big", "count"]}, None),
        ({"path": ["big"]}, "path"),
        ({"path": []}, "path"),
        ({"ports": {"big": "true", "count": "done"}}, None),
        ({"ports": {"big": "false"}}, "ports.big"),
        ({"profile": {"stats": {"counters": {"big": 1}}}}, None),
        ({"profile": {"stats": {"counters": {"big": 1.0}}}}, None),
        ({"profile": {"stats": {"counters": {"big": True}}}}, "profile.stats.counters.big"),
        ({"profile": {"traits": {"name": None}}}, None),
        ({"profile": {"traits": {"name": "Kim"}}}, "profile.traits.name"),
        ({"profile": None}, "profile"),
        ({"session": {"stats": {"events": 1}}}, None),
        ({"response": {}}, None),
        ({"response": {"x": 1}}, "response.x"),
        ({"nodes": {"big": None}}, None),
        ({"nodes": {"big": {"x": 1}}}, "nodes.big"),
        ({"skipped": "when"}, "skipped"),
        ({"logs": []}, None),
        ({"logs": ["hello"]}, "logs"),
        ({"effects": []}, None),
        ({"effects": [{"node": "count"}]}, "effects"),
        ({"errors": {"count": "no"}}, "errors.count"),
    ],
)
async def test_expectations(expect: dict[str, Any], place: str | None, tmp_path: Path) -> None:
    result = await check(load(tmp_path, BRANCH), events=BIG, expect=expect)
    assert [each.place for each in result.differences] == ([] if place is None else [place]), told(result)
    assert result.ways == [[("big", "true"), ("count", "done")]]


async def test_what_is_there_before(tmp_path: Path) -> None:
    nodes = {
        "seen": {"plugin": "count_events", "config": {"type": "order", "within": "1h"}},
        "new": {"plugin": "is_new_profile"},
        "visit": {"plugin": "is_new_session"},
    }
    workspace = load(tmp_path, nodes)
    new = await check(workspace, expect={"ports": {"seen": "too_few", "new": "true", "visit": "true"}})
    assert new.passed, told(new)
    known = await check(
        workspace,
        profile={"traits": {"name": "Kim"}},
        session={"id": "visit-7", "properties": {"a": 1}},
        past=[{"type": "order"}, {"type": "order", "time": {"happened": "2026-01-01T00:00:00.000Z"}}],
        expect={
            "ports": {"seen": "enough", "new": "false", "visit": "false"},
            "nodes": {"seen": {"count": 1}},
            "profile": {"traits": {"name": "Kim"}},
            "session": {"id": "visit-7", "properties": {"a": 1}, "profile": "profile-1"},
        },
    )
    assert known.passed, told(known)


async def test_events_without_a_profile_and_a_session(tmp_path: Path) -> None:
    nodes = {"load": {"plugin": "load_profile", "config": {"id": "{{ event.properties.id }}"}}}
    workspace = load(tmp_path, nodes)
    event = {"type": "order", "properties": {"id": "p-7"}}
    test = {"profile": None, "session": None, "events": [event]}
    found = await check(
        workspace,
        **test,
        profiles=[{"id": "p-7", "traits": {"name": "Ann"}}],
        expect={
            "ports": {"load": "found"},
            "profile": {"id": "p-7", "traits": {"name": "Ann"}},
            "session": None,
        },
    )
    assert found.passed, told(found)
    missing = await check(workspace, **test, expect={"ports": {"load": "not_found"}, "profile": None})
    assert missing.passed, told(missing)


async def test_events_come_one_after_another_and_time_moves_between(tmp_path: Path) -> None:
    nodes = {"once": {"plugin": "once", "config": {"name": "hello", "period": "1h"}}}
    workspace = load(tmp_path, nodes)
    events = [{"type": "order"}, {"advance": "59m"}, {"type": "order"}]
    again = await check(workspace, events=events, expect={"ports": {"once": "again"}})
    assert again.passed, told(again)
    assert again.ways == [[("once", "first")], [("once", "again")]]
    events[1] = {"advance": "1h"}
    first = await check(
        workspace, events=events, at="2026-06-01T00:00:00Z", expect={"ports": {"once": "first"}}
    )
    assert first.passed, told(first)


@pytest.mark.parametrize("plugin", ["branch", "count_events"])
async def test_a_mock_stands_in_for_a_node(plugin: str, tmp_path: Path) -> None:
    config, port = {"branch": ({"when": "true"}, "false"), "count_events": ({}, "enough")}[plugin]
    reply = {"plugin": "log", "config": {"message": "{{ nodes.ask.name }}"}}
    nodes = {"ask": {"plugin": plugin, "config": config, "then": {port: ["reply"]}}, "reply": reply}
    mocks = {"ask": {"port": port, "result": {"name": "Kim"}}}
    workspace = load(tmp_path, nodes)
    result = await check(workspace, mocks=mocks, expect={"path": ["ask", "reply"], "logs": ["Kim"]})
    assert result.passed, told(result)
    unmocked = await check(workspace, expect={"path": ["ask"]})
    assert unmocked.passed, told(unmocked)


@pytest.mark.parametrize(
    ("on", "more", "test", "why"),
    [
        ({"when": "event.properties.total > 1"}, {}, {}, "when"),
        ({"consent": ["marketing"]}, {}, {}, "consent"),
        ({"source": ["back"]}, {}, {"source": "web"}, "source"),
        ({}, {"enabled": False}, {}, "disabled"),
        ({}, {}, {"events": [{"type": "other"}]}, "event"),
    ],
)
async def test_why_a_workflow_did_not_run(
    on: dict[str, Any], more: dict[str, Any], test: dict[str, Any], why: str, tmp_path: Path
) -> None:
    workspace = load(tmp_path, BRANCH, on, **more)
    expected = await check(workspace, **test, expect={"skipped": why})
    assert expected.passed, told(expected)
    none = await check(workspace, **test, expect={"path": []})
    assert none.passed, told(none)
    # A test that says nothing of it must not pass because nothing happened.
    silent = await check(workspace, **test, expect={"profile": {"segments": []}})
    sent = (test.get("events") or [{"type": "order"}])[-1]["type"]
    assert f"did not take the last event, {sent}: " in told(silent)


async def test_a_node_that_fails_fails_the_test_unless_it_is_expected(tmp_path: Path) -> None:
    workspace = load(tmp_path, {"stop": {"plugin": "fail", "config": {"message": "out of stock"}}})
    result = await check(workspace)
    assert "the node stop failed: out of stock" in told(result)
    assert (await check(workspace, expect={"errors": {"stop": "stock"}})).passed
    assert (await check(workspace, expect={"ports": {"stop": "error"}})).passed
    other = await check(workspace, expect={"errors": {"stop": "no money"}})
    assert [(each.place, each.actual) for each in other.differences] == [("errors.stop", "out of stock")]


async def test_an_event_that_breaks_its_schema_fails_the_test(tmp_path: Path) -> None:
    events = [{"type": "order", "properties": {"total": "much"}}]
    result = await check(load(tmp_path, BRANCH), events=events)
    assert "event-1 was refused: /properties/total" in told(result)


@pytest.mark.parametrize(
    "test",
    [
        {"source": "nowhere"},
        {"at": "yesterday"},
        {"events": [{"advance": "soon"}]},
        {"events": [{"type": "order", "time": "yesterday"}]},
    ],
)
async def test_a_test_that_cannot_run_fails_with_a_sentence(test: dict[str, Any], tmp_path: Path) -> None:
    result = await check(load(tmp_path, BRANCH), **test)
    assert len(result.differences) == 1
    assert result.differences[0].text


async def test_two_runs_of_a_test_are_the_same(tmp_path: Path) -> None:
    nodes = {"split": {"plugin": "random_split", "config": {"shares": {"a": 1, "b": 1}}}}
    workspace = load(tmp_path, nodes)
    ways = [(await check(workspace)).ways for _ in range(5)]
    assert ways == [ways[0]] * 5


async def test_secrets_do_not_come_from_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {"hash": {"plugin": "hash_value", "config": {"value": "Kim", "key": {"secret": "SALT"}}}}
    workspace = load(tmp_path, nodes)
    results: list[TestResult] = []
    for secrets in ({}, {"SALT": "a"}, {"SALT": "a"}):
        monkeypatch.setenv("SALT", f"this machine {len(results)}")
        results.append(await check(workspace, secrets=secrets, expect={"nodes": {"hash": {"hash": ""}}}))
    made_up, one, other = (result.differences[0].actual for result in results)
    assert one == other != made_up


def test_coverage_counts_every_port_that_can_be_taken(tmp_path: Path) -> None:
    workspace = load(tmp_path, BRANCH)
    none = measure(mine(workspace), [])
    assert none.percent == 0
    assert none.missed == [("big", "false"), ("big", "true"), ("count", "done")]
    half = measure(mine(workspace), [TestResult("x", ways=[[("big", "false")]])])
    assert half.nodes == {"big"}
    assert half.percent == pytest.approx(100 / 3)
    wired = {**BRANCH, "big": {**BRANCH["big"], "then": {"error": ["count"]}}}
    assert ("big", "error") in measure(mine(load(tmp_path, wired)), []).missed
    disabled = {**BRANCH, "count": {**BRANCH["count"], "disabled": True}}
    assert measure(mine(load(tmp_path, disabled)), []).total_nodes == 1


@pytest.mark.parametrize(
    ("expected", "actual", "found"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, [Difference("x.a.b", [1], [1, 2])]),
        ([{"a": 1}], [{"a": 1, "b": 2}], []),
        ([1, 2], [2, 1], [Difference("x[0]", 1, 2), Difference("x[1]", 2, 1)]),
        ({"a": 1}, {}, [Difference("x.a", 1, ABSENT)]),
        ({"a": None}, {}, []),
        ({"a": None}, {"a": 0}, [Difference("x.a", None, 0)]),
        (1, True, [Difference("x", 1, actual=True)]),
        (0, False, [Difference("x", 0, actual=False)]),
        (1, 1.0, []),
        ({}, [], [Difference("x", {}, [])]),
    ],
)
def test_differences(expected: Any, actual: Any, found: list[Difference]) -> None:
    assert list(differences("x", expected, actual)) == found


# What a workflow causes, and schedules


async def test_what_was_emitted_and_started_is_compared(tmp_path: Path) -> None:
    nodes = {
        "tell": {"plugin": "emit_event", "config": {"type": "made", "properties": {"a": 1, "b": 2}}},
        "go": {"plugin": "start_workflow", "config": {"workflow": "another"}},
    }
    workspace = load(tmp_path, nodes)
    right = {"emitted": [{"type": "made", "properties": {"a": 1}}], "started": ["another"]}
    assert (await check(workspace, expect=right)).passed
    none: list[Any] = []
    for wrong in (
        {"emitted": none},
        {"emitted": [{"type": "other"}]},
        {"started": none},
        {"started": ["mine"]},
    ):
        assert not (await check(workspace, expect=wrong)).passed


async def test_the_clock_passes_over_ticks(tmp_path: Path) -> None:
    nodes = {"count": {"plugin": "increment", "config": {"field": "profile.stats.counters.n"}}}
    schedule = {"cron": "0 13 * * *", "segment": "vip", "source": "back"}
    (tmp_path / "segments.json").write_text(json.dumps({"segments": {"vip": {}}}))
    workspace = load(tmp_path, nodes, {"event": ["order"], "schedule": schedule})
    vip = {"segments": ["vip"]}

    async def after(length: str, **test: Any) -> TestResult:
        return await check(workspace, **{"profile": vip, "events": [{"advance": length}]} | test)

    counted: dict[str, Any] = {"profile": {"stats": {"counters": {"n": 2}}}}
    assert (await after("48h", expect=counted | {"path": ["count"]})).passed
    assert not (await after("24h", expect=counted)).passed
    # Each profile of the segment has its own; one that is not in it has none.
    others = [vip | {"id": "other"}, {"id": "stranger"}]
    result = await after("2d", profiles=others, expect=counted)
    assert (result.passed, len(result.ways)) == (True, 4)
    assert (await after("2d", profile={})).ways == []
    workspace = load(tmp_path, nodes, {"schedule": schedule | {"zone": "Asia/Tokyo"}})
    assert (await after("15h59m", expect={"path": []})).passed
    assert (await after("16h", expect={"path": ["count"]})).passed


async def test_a_schedule_without_a_segment_runs_without_a_profile(tmp_path: Path) -> None:
    nodes = {"say": {"plugin": "log", "config": {"message": "{{ event.properties.tick }} {{ profile.id }}"}}}
    workspace = load(tmp_path, nodes, {"event": ["order"], "schedule": {"cron": "*/30 * * * *"}})
    lines = ["2026-01-15T12:30:00.000Z ", "2026-01-15T13:00:00.000Z "]
    events = [{"advance": "45m"}, {"advance": "15m"}]
    assert (await check(workspace, events=events, expect={"logs": lines})).passed
    many = await check(workspace, events=[{"advance": "30d"}])
    assert "more than 1000 ticks" in told(many)


def counted(name: str) -> dict[str, Any]:
    return {"plugin": "increment", "config": {"field": f"profile.stats.counters.{name}"}}


async def test_what_time_alone_makes_is_the_last_event_only_where_it_is_taken(tmp_path: Path) -> None:
    segments = {"lapsed": {"when": "events('order').count > 0 and events('*', within='30d').count == 0"}}
    (tmp_path / "segments.json").write_text(json.dumps({"segments": segments}))
    events = [{**BIG[0], "id": "bought"}, {"advance": "31d"}]
    expect = {
        "path": ["big", "count"],
        "profile": {"segments": ["lapsed"], "stats": {"counters": {"big": 1}}},
        "session": {"stats": {"events": 1}},
    }
    other = await check(load(tmp_path, BRANCH), events=events, expect=expect)
    assert other.passed, told(other)
    taken = load(tmp_path, BRANCH, {"event": ["segment-entered"]})
    its_own = await check(taken, events=events, expect={"path": ["big"], "ports": {"big": "false"}})
    assert its_own.passed, told(its_own)
    # One that it would take, but for a condition, is the last event too.
    narrow = load(tmp_path, BRANCH, {"event": ["segment-*", "order"], "when": "event.type == 'order'"})
    told_why = told(await check(narrow, events=events, expect={"path": ["big", "count"]}))
    assert "did not take the last event, segment-entered: `on.when` is false" in told_why


CART = {
    "wait": {
        "plugin": "wait_for_event",
        "config": {"event": ["other"], "timeout": "2h", "when": "event.properties.ok"},
        "then": {"received": ["thank"], "timeout": ["sleep"]},
    },
    "sleep": {"plugin": "wait", "config": {"period": "1h"}, "then": {"done": ["remind"]}},
    "thank": counted("thank"),
    "remind": counted("remind"),
}
OTHER = {"type": "other", "properties": {"ok": True}}
ORDER = {"type": "order"}


async def test_runs_that_wait_go_on_when_the_clock_moves(tmp_path: Path) -> None:
    workspace = load(tmp_path, CART)
    begun = await check(workspace, expect={"path": ["wait"], "ports": {}, "waits": ["wait"]})
    assert begun.passed, told(begun)
    assert begun.ways == [[]]
    early = await check(
        workspace, events=[ORDER, {"advance": "119m"}], expect={"path": ["wait"], "waits": ["wait"]}
    )
    assert early.passed, told(early)
    late = await check(
        workspace,
        events=[ORDER, {"advance": "2h"}],
        expect={"path": ["wait", "sleep"], "ports": {"wait": "timeout"}, "waits": ["sleep"]},
    )
    assert late.passed, told(late)
    whole = await check(
        workspace,
        events=[ORDER, {"advance": "1d"}],
        expect={
            "path": ["sleep", "remind"],
            "nodes": {"sleep": {"until": "2026-01-15T15:00:00.000Z"}},
            "waits": [],
            "profile": {"stats": {"counters": {"remind": 1}}},
        },
    )
    assert whole.passed, told(whole)
    received = await check(
        workspace,
        events=[ORDER, {"advance": "1h"}, {**OTHER, "properties": {}}, OTHER, {"advance": "1d"}],
        expect={
            "path": ["wait", "thank"],
            "ports": {"wait": "received"},
            "nodes": {"wait": {"type": "other", "properties": {"ok": True}}},
            "profile": {"stats": {"counters": {"thank": 1}}},
        },
    )
    assert received.passed, told(received)
    assert measure(mine(workspace), [late, whole, received]).percent == 100
    assert measure(mine(workspace), [whole]).missed == [("wait", "received"), ("thank", "done")]
