"""emit_event and start_workflow: what one workflow causes another to do."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.files.workspace import Workspace, load_workspace
from headrace.engine.journal import MAX_EMIT_DEPTH
from headrace.engine.model import Doc, EventInput
from headrace.engine.passage import MAX_NODE_RUNS
from headrace.engine.testing.dry import Dry, Processed
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from headrace.engine.trace import run_record
from tests.conftest import OpenLab
from tests.makers import NOW, Files, catalog, chain, count, write_workspace


def unset(_: str) -> str | None:
    return None


def say(name: str) -> tuple[str, Doc]:
    return "append_value", {"field": "profile.traits.ran", "value": name}


def start(name: str) -> tuple[str, Doc]:
    return "start_workflow", {"workflow": name}


def emit(event_type: str, **properties: Any) -> tuple[str, Doc]:
    return "emit_event", {"type": event_type, "properties": properties}


def asked(*nodes: tuple[str, Doc], on: Doc | None = None, **members: Any) -> Doc:
    """Return a workflow that takes nothing by itself."""
    file = chain("x", *nodes, **members)
    return file | {"on": {"started": True} | (on or {})}


def load(folder: Path, files: Files) -> Workspace:
    workspace = load_workspace(write_workspace(folder, files), catalog(), unset)
    assert [str(problem) for problem in workspace.problems] == []
    return workspace


async def send(folder: Path, files: Files, event: EventInput | None = None) -> tuple[Processed, list[str]]:
    """Send an event; return what became of it, and which nodes said something, in order."""
    dry = Dry(load(folder, files), unset, NOW)
    dry.begin("main", {}, is_new=False)
    processed = await dry.send(dry.workspace.sources["shop"], event or EventInput("x"))
    profile = dry.stored("profile", "main", dry.profile)
    return processed, (profile or {})["traits"].get("ran", [])


async def test_started_workflows_run_after_those_that_took_the_event_by_order_of_asking(
    tmp_path: Path,
) -> None:
    files = {
        "a": chain("x", start("second"), start("first"), say("a")),
        "b": chain("x", start("first"), say("b"), order=5),
        "first": asked(say("first")),
        "second": asked(say("second"), start("third")),
        "third": asked(say("third")),
        "never": asked(say("never")),
    }
    processed, ran = await send(tmp_path, files)
    assert ran == ["a", "b", "second", "first", "third"]
    records = [run_record(run) for run in processed.runs]
    by = {record["workflow"]: record.get("started_by") for record in records}
    assert by == {"a": None, "b": None, "second": "a", "first": "a", "third": "second"}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 7), max_size=5), min_size=1, max_size=8), st.integers(0, 255))
async def test_any_workflows_run_once_each_in_the_order_of_asking(
    tmp_path_factory: pytest.TempPathFactory, asks: list[list[int]], takers: int
) -> None:
    # Each asks only for such as come after it, so that there is no circle.
    after = [[to for to in wanted if number < to < len(asks)] for number, wanted in enumerate(asks)]
    takes = [number for number in range(len(asks)) if takers >> number & 1]
    files: Files = {}
    for number, wanted in enumerate(after):
        nodes = [say(f"w{number}"), *[start(f"w{to}") for to in wanted]]
        files[f"w{number}"] = chain("x", *nodes) if number in takes else asked(*nodes)
    expected, queue = list(takes), [to for number in takes for to in after[number]]
    for to in queue:
        if to not in expected:
            expected.append(to)
            queue += after[to]
    _, ran = await send(tmp_path_factory.mktemp("any"), files)
    assert ran == [f"w{number}" for number in expected]


async def test_a_workflow_that_took_the_event_is_not_started_again(tmp_path: Path) -> None:
    files = {
        "a": chain("x", say("a"), start("b"), start("c"), start("c")),
        "b": chain("x", say("b")),
        "c": asked(say("c")),
    }
    assert (await send(tmp_path, files))[1] == ["a", "b", "c"]


async def test_what_narrows_a_workflow_holds_when_it_is_started_too(tmp_path: Path) -> None:
    names = ("disabled", "when", "consent", "source", "stopped", "right")
    files = {
        "a": chain("x", *[start(name) for name in names], stop=True),
        "disabled": asked(say("disabled"), enabled=False),
        "when": asked(say("when"), on={"when": "event.properties.total > 1"}),
        "consent": asked(say("consent"), on={"consent": ["marketing"]}),
        "source": asked(say("source"), on={"source": ["other"]}),
        # Started by name, although no later workflow may take the event.
        "stopped": chain("y", say("stopped")),
        "right": asked(say("right"), on={"when": "event.type == 'x'"}),
        "sources.json": {"sources": {"shop": {}, "other": {}}},
    }
    processed, ran = await send(tmp_path, files)
    assert ran == ["stopped", "right"]
    (passage,) = processed.passages
    assert [(skipped.workflow.name, skipped.why) for skipped in passage.skipped] == [
        (name, name) for name in names[:4]
    ]


async def test_an_emitted_event_starts_its_own(tmp_path: Path) -> None:
    files = {
        "a": chain("x", say("a"), start("c"), emit("inner", total="{{ event.properties.total }}")),
        "b": chain("inner", say("b"), start("c")),
        "c": asked(say("c"), on={"when": "event.properties.total == 3"}),
    }
    processed, ran = await send(tmp_path, files, EventInput("x", {"total": 3}))
    assert ran == ["a", "c", "b", "c"]
    assert [passage.event["door"] for passage in processed.passages] == ["track", "internal"]


async def test_a_workflow_that_is_not_there_any_more_is_told(tmp_path: Path) -> None:
    workspace = load(tmp_path, {"a": chain("x", start("b")), "b": asked(say("b"))})
    left = replace(workspace, workflows=workspace.workflows[:1], _by_type={})
    dry = Dry(left, unset, NOW)
    dry.begin("main", {}, is_new=False)
    (passage,) = (await dry.send(left.sources["shop"], EventInput("x"))).passages
    assert passage.event["errors"] == ["a: there is no workflow 'b' to start"]


async def test_started_workflows_share_the_budget_of_the_event(tmp_path: Path) -> None:
    wide = {f"n{number}": {"plugin": "log", "config": {"message": "x"}} for number in range(200)}
    names = [f"w{number:02}" for number in range(12)]
    files: Files = {name: asked(say(name)) | {"nodes": wide} for name in names}
    files["a"] = chain("x", *[start(name) for name in names])
    processed, _ = await send(tmp_path, files)
    assert sum(len(run.done) for run in processed.runs) <= MAX_NODE_RUNS
    assert processed.runs[-1].error == "stopped: the event has used all of its node runs"


async def test_a_long_name_of_who_started_fits_into_the_record(tmp_path: Path) -> None:
    first, second = "a" * 64, "b" * 64
    nodes = [("log", {"message": "x"})] * 30
    files = {first: chain("x", start(second)), second: asked(*nodes)}
    processed, _ = await send(tmp_path, files)
    record = run_record(processed.runs[1])
    assert record["started_by"] == first
    assert record["path"].endswith("…")


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"type": "{{ event.properties.no }}"}, "gave None"),
        ({"type": "y", "properties": "{{ event.type }}"}, "properties should be an object, not 'x'"),
        ({"type": "{{ event.properties.long }}"}, "at most 128 characters"),
        ({"type": "{{ event.properties.empty }}"}, "at least 1 character"),
    ],
)
async def test_what_is_no_event_is_not_emitted(tmp_path: Path, config: Doc, error: str) -> None:
    files = {"a": chain("x", ("emit_event", config))}
    event = EventInput("x", {"long": "x" * 129, "empty": ""})
    processed, _ = await send(tmp_path, files, event)
    assert error in processed.runs[0].error
    assert len(processed.passages) == 1


async def test_events_emit_three_deep_and_no_deeper(tmp_path: Path) -> None:
    processed, ran = await send(tmp_path, {"a": chain("*", say("a"), emit("again"))})
    assert ran == ["a"] * 4
    assert processed.passages[-1].event["errors"] == ["n1: events may emit events 3 deep; this would be 4"]


async def test_what_was_started_and_emitted_is_committed_once(open_lab: OpenLab) -> None:
    files = {
        "a": chain("x", start("b"), emit("inner")),
        "b": asked(count(), ("defer", {})),
        "c": chain("inner", count("profile.stats.counters.inner")),
    }
    async with open_lab(files, timers=False, outbox=False) as lab:
        await lab.track(EventInput("x", id="e1"))
        await lab.place.finish()
        before = await lab.rows()
        await lab.track(EventInput("x", id="e1"))
        await lab.place.finish()
        assert await lab.rows() == before
        assert (await lab.counter(), await lab.counter("inner")) == (1, 1)
        outer = next(event for event in await lab.all("event") if event["type"] == "x")
        runs = [(run["workflow"], run.get("started_by")) for run in outer["runs"]]
        assert runs == [("a", None), ("b", "a")]


async def test_runs_that_waited_start_a_workflow_once_too(open_lab: OpenLab) -> None:
    wait = ("wait", {"period": "1h"})
    files = {
        "a": chain("x", wait, start("once"), start("took")),
        "b": chain("x", wait, start("once"), wait, start("once")),
        "took": chain("x", count("profile.stats.counters.took")),
        "once": asked(count()),
    }
    async with open_lab(files, timers=False) as lab:
        await lab.track(EventInput("x", id="e1"), received=NOW)
        for hours in (1, 2, 3):
            await lab.settle()
            now = NOW + timedelta(hours=hours)
            await TimerWorker(lab.engine.parts, KINDS, lambda now=now: now).fire_due()  # type: ignore[misc]
        assert (await lab.counter(), await lab.counter("took")) == (1, 1)
        by = [
            run.get("started_by")
            for timer in await lab.all("timer")
            for run in timer.get("runs", ())
            if run["workflow"] == "once" and "path" in run
        ]
        assert len(set(by)) == 1
        assert by[0] in ("a", "b")


async def test_a_storm_of_events_is_bounded(tmp_path: Path) -> None:
    files = {"a": chain("*", *[emit("again")] * 30)}
    processed, _ = await send(tmp_path, files)
    assert sum(len(run.done) for run in processed.runs) == MAX_NODE_RUNS
    assert max(passage.depth for passage in processed.passages) == MAX_EMIT_DEPTH
