"""The short record of a run, its full trace, and why something did not run."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.errors import NodeError
from headrace.engine.model import EventInput, make_key
from headrace.engine.plugin import Out, Step
from headrace.engine.run import run_workflow
from headrace.engine.trace import full_trace, run_record, skipped_record, trace_key, traced
from tests.conftest import OpenLab
from tests.makers import Lab, make_passage, make_workflow, sources

MOST_BYTES = 300


def size(record: Any) -> int:
    return len(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode())


# The record


@settings(max_examples=80, deadline=None)
@given(
    nodes=st.integers(1, 60),
    length=st.integers(1, 63),
    name=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True),
    error=st.text(max_size=200) | st.sampled_from(["😀" * 100, "\0" * 100, '"\\' * 100, "ä" * 80]),
    ms=st.sampled_from([0.0, 0.0004, 12345.6789, 29_999.999]),
)
async def test_a_record_is_never_longer_than_300_bytes(
    nodes: int, length: int, name: str, error: str, ms: float
) -> None:
    def fail(_: Step) -> Out:
        raise NodeError(error)

    names = [f"n{number}".ljust(length, "x") for number in range(nodes)]
    graph: dict[str, dict[str, Any]] = {one: {} for one in names}
    for one, after in pairwise(names):
        graph[one] = {"then": {"a": [after]}}
    run = await run_workflow(make_workflow(graph, {names[-1]: fail}, name=name), make_passage())
    run.ms = ms
    record = run_record(run)
    assert size(record) <= MOST_BYTES
    whole = " ".join([*(f"{one}.a" for one in names[:-1]), f"{names[-1]}.error"])
    # A cut says so, and nothing is cut without need.
    assert record["path"] == whole or (record["path"].endswith("…") and whole.startswith(record["path"][:-1]))
    assert record["path"] == whole or size(record | {"path": whole}) > MOST_BYTES
    assert (record["workflow"], record["version"]) == (name, run.workflow.version)
    assert run.error.startswith(record["error"].removesuffix("…")) or record["error"] == run.error
    assert len(record["error"]) >= min(10, len(run.error))


@pytest.mark.parametrize("why", ["source", "when", "consent", "disabled", "stopped"])
def test_a_record_of_no_run(why: str) -> None:
    workflow = make_workflow({"one": {}}, name="x" * 64)
    record = skipped_record(workflow, why)
    assert record == {"workflow": "x" * 64, "version": workflow.version, "skipped": why}
    assert size(record) <= MOST_BYTES


async def test_a_short_record_is_whole() -> None:
    nodes: dict[str, dict[str, Any]] = {"one": {"then": {"a": ["two"]}}, "two": {}}
    run = await run_workflow(make_workflow(nodes), make_passage())
    record = run_record(run)
    assert record == {
        "workflow": "made",
        "version": run.workflow.version,
        "path": "one.a two.a",
        "ms": round(run.ms, 3),
    }


# The trace


def ask(step: Step) -> Out:
    step.set("profile.traits.name", "Bob")
    step.remove("profile.traits.age")
    step.increment("session.properties.n")
    step.effect({"method": "POST", "url": "https://crm.example"})
    return Out("a", {"x": [1]})


def fail(step: Step) -> Out:
    step.set("profile.traits.name", "Eve")
    step.log("gone")
    raise NodeError("it failed")


NODES: dict[str, dict[str, Any]] = {
    "one": {"then": {"a": ["two", "off", "both"], "b": ["four"]}},
    "two": {"then": {"a": ["three"]}},
    "three": {},
    "four": {"then": {"a": ["both"]}},
    "off": {"disabled": True, "then": {"a": ["behind"]}},
    "behind": {},
    "both": {"join": "all"},
}


@pytest.mark.parametrize("tracing", [True, False])
async def test_what_a_trace_tells(tracing: bool) -> None:
    workflow = make_workflow(NODES, {"one": ask, "two": fail})
    passage = make_passage({"traits": {"name": "Ann", "age": 3}})
    run = await run_workflow(traced(workflow) if tracing else workflow, passage)
    trace = full_trace(run, "e1")
    assert trace["path"] == ["one", "two"]
    assert trace["error"] == "two: it failed"
    assert (trace["workflow"], trace["version"], trace["event"]) == ("made", workflow.version, "e1")
    assert list(trace["nodes"]) == ["one", "two", "three", "four", "off", "behind", "both"]
    one, two = trace["nodes"]["one"], trace["nodes"]["two"]
    # Times are there only if the run was traced.
    assert ("ms" in one, "started" in one, "ms" in two) == (tracing, tracing, tracing)
    assert {key: value for key, value in one.items() if key not in ("ms", "started")} == {
        "plugin": "one",
        "port": "a",
        "result": {"x": [1]},
        "changes": [
            {"path": "profile.traits.name", "before": "Ann", "after": "Bob"},
            {"path": "profile.traits.age", "before": 3},
            {"path": "session.properties.n", "after": 1},
        ],
        "calls": [{"method": "POST", "url": "https://crm.example"}],
    }
    assert (two["port"], two["error"], two["result"]) == ("error", "it failed", {"error": "it failed"})
    assert two["dropped"] == [
        {"op": "set", "where": "profile.traits.name", "value": "Eve"},
        {"op": "log", "where": "info", "value": "gone"},
    ]
    assert "changes" not in two
    assert {name: node["skipped"] for name, node in trace["nodes"].items() if "skipped" in node} == {
        "three": "branch not taken",
        "four": "branch not taken",
        "off": "disabled",
        "behind": "branch not taken",
        "both": "not every branch into it was taken",
    }
    json.dumps(trace)


async def test_why_nodes_behind_a_stop_or_a_wait_did_not_run() -> None:
    def stop(step: Step) -> Out:
        step.stop()
        return Out("a")

    def wait(step: Step) -> Out:
        step.wait(step.now)
        return Out("a")

    nodes: dict[str, dict[str, Any]] = {"one": {"then": {"a": ["two"]}}, "two": {}}
    for does, why in ((stop, "the run was stopped"), (wait, "waits")):
        run = await run_workflow(make_workflow(nodes, {"one": does}), make_passage())
        assert full_trace(run, "e1")["nodes"]["two"]["skipped"] == why


async def test_only_what_a_wait_leads_to_waits() -> None:
    def wait(step: Step) -> Out:
        step.wait(step.now)
        return Out("a")

    nodes: dict[str, dict[str, Any]] = {
        "known": {"then": {"a": ["nap", "off"], "b": ["note", "all"]}},
        "nap": {"then": {"a": ["then", "all", "off"]}},
        "then": {"then": {"a": ["last"]}},
        "note": {"then": {"a": ["last", "after_note"]}},
        "off": {"disabled": True, "then": {"a": ["behind"]}},
        "behind": {},
        "last": {},
        "after_note": {},
        "all": {"join": "all"},
    }
    run = await run_workflow(make_workflow(nodes, {"nap": wait}), make_passage())
    told = full_trace(run, "e1")["nodes"]
    assert {name: told[name]["skipped"] for name in nodes if "skipped" in told[name]} == {
        "then": "waits",
        "note": "branch not taken",
        "off": "disabled",
        "behind": "branch not taken",
        "last": "waits",
        "after_note": "branch not taken",
        "all": "branch not taken",
    }


async def test_a_traced_workflow_is_made_once_and_changes_nothing() -> None:
    workflow = make_workflow(NODES, {"one": ask, "two": fail})
    wrapped = traced(workflow)
    assert traced(workflow) is wrapped
    assert [node.name for node in wrapped.nodes] == [node.name for node in workflow.nodes]
    for one, other in zip(workflow.nodes, wrapped.nodes, strict=True):
        assert one is not other
        assert [(port, to.name) for port, to in one.targets] == [
            (port, to.name) for port, to in other.targets
        ]
        # The copy leads to its own nodes: none of it runs untraced.
        assert all(to in wrapped.nodes for _, to in other.targets)
        assert all(to in workflow.nodes for _, to in one.targets)


async def test_whatever_a_plugin_gives_can_be_shown() -> None:
    odd = [object(), {1, 2}, float("nan"), {3: b"x"}, (1, {"y": (2,)})]
    run = await run_workflow(make_workflow({"one": {}}, {"one": lambda _: Out("a", odd)}), make_passage())
    shown = full_trace(run, "e1")["nodes"]["one"]["result"]
    assert shown[2:] == ["nan", {"3": "b'x'"}, [1, {"y": [2]}]]
    json.dumps(shown)


# Traces that are kept


async def kept(lab: Lab) -> dict[str, Any]:
    """Return the traces of the only workflow, by event, once those beside the answer are written."""
    await lab.engine.parts.keeper.flush()
    return {trace["event"]: trace for trace in await lab.all("trace")}


BREAKS = {
    "on": {"event": ["*"]},
    "nodes": {
        "ok": {
            "plugin": "branch",
            "config": {"when": "event.properties.good"},
            "then": {"true": ["n"], "false": ["no"]},
        },
        "n": {"plugin": "increment", "config": {"field": "profile.stats.counters.n"}},
        "no": {"plugin": "fail", "config": {"message": "no good"}},
    },
}


async def test_a_trace_is_kept_after_a_failed_node(open_lab: OpenLab) -> None:
    async with open_lab({"w": BREAKS}) as lab:
        await lab.track(EventInput("x", {"good": True}, id="good"), EventInput("x", {}, id="bad"))
        traces = await kept(lab)
        assert list(traces) == ["bad"]
        trace = traces["bad"]
        assert trace["nodes"]["no"]["error"] == "no good"
        assert not any("ms" in node for node in trace["nodes"].values())
        event_key = make_key("event", "main", "shop", "bad")
        assert (trace["id"], trace["key"]) == (trace_key(event_key, "w"), event_key)


@pytest.mark.parametrize(
    ("words", "files", "engine"),
    [
        ({"debugger": True}, {}, {"debugger": True}),
        ({}, {"sources.json": sources(shop={"trace": True})}, {}),
        ({}, {}, {"trace_sample": 1.0}),
    ],
)
async def test_a_trace_is_kept_where_one_is_wanted(
    open_lab: OpenLab, words: dict[str, Any], files: dict[str, Any], engine: dict[str, Any]
) -> None:
    async with open_lab({"w": BREAKS, **files}, **engine) as lab:
        await lab.track(EventInput("x", {"good": True}, id="good"), **words)
        trace = (await kept(lab))["good"]
        assert set(trace["nodes"]) == {"ok", "n", "no"}
        assert trace["nodes"]["n"]["changes"] == [{"path": "profile.stats.counters.n", "after": 1}]
        assert "ms" in trace["nodes"]["n"]


async def test_no_trace_is_kept_when_nobody_asks(open_lab: OpenLab) -> None:
    async with open_lab({"w": BREAKS}) as lab:
        await lab.track(EventInput("x", {"good": True}))
        assert await kept(lab) == {}
