"""Measures one 10-node workflow in the engine, beside closures by hand."""

import argparse
import asyncio
import copy
import gc
import random
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import closures
import tables
import workload

from headrace.api.server import spare_collector
from headrace.engine.calls.http import Http
from headrace.engine.catalog import find_plugins
from headrace.engine.draft import Draft
from headrace.engine.files.workspace import load_workspace
from headrace.engine.language.scope import Scope
from headrace.engine.model import Doc, iso, make_key, new_profile, new_session
from headrace.engine.passage import Passage, Surroundings
from headrace.engine.run import run_workflow
from headrace.engine.testing.memory_reads import MemoryReads
from headrace.engine.trace import full_trace, run_record, traced
from headrace.engine.workflow import Workflow

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
PROFILES = 100
SOURCE_DOC = {"id": workload.SOURCE, "tenant": "main", "about": ""}

Work = Callable[["World"], Coroutine[Any, Any, None]]


class World:
    """Documents to work on: the same for every way of running the workflow."""

    def __init__(self, events: int) -> None:
        dice = random.Random(1)
        self.profiles = [new_profile(f"p-{number}", "main", iso(NOW)) for number in range(PROFILES)]
        self.sessions = [new_session(f"s-{number}", "main", "shop", iso(NOW)) for number in range(PROFILES)]
        self.events = [self._event(number, dice) for number in range(events)]

    def _event(self, number: int, dice: random.Random) -> Doc:
        place = number % PROFILES
        return {
            "id": f"e-{number}",
            "key": make_key("event", "main", workload.SOURCE, f"e-{number}"),
            "type": workload.EVENT_TYPE,
            "properties": workload.properties(dice),
            "context": {},
            "source": workload.SOURCE,
            "tenant": "main",
            "session": f"s-{place}",
            "profile": f"p-{place}",
            "time": {"happened": iso(NOW), "received": iso(NOW)},
        }

    def drafts(self) -> list[Draft]:
        """Return a draft for each profile."""
        drafts = []
        for profile, session in zip(self.profiles, self.sessions, strict=True):
            draft = Draft("main", iso(NOW))
            draft.use_profile(profile, (1, 0))
            draft.use_session(session, (1, 0))
            drafts.append(draft)
        return drafts


def load() -> Workflow:
    """Return the compiled workflow, loaded from its file as a server does."""
    with tempfile.TemporaryDirectory() as folder:
        path = workload.write_workspace(Path(folder) / "workspace")
        workspace = load_workspace(path, find_plugins(), lambda _: None)
    if workspace.broken:
        raise SystemExit("\n".join(str(problem) for problem in workspace.problems))
    return workspace.workflows[0]


def passages(world: World) -> list[Callable[[Doc], Passage]]:
    """Return, for each profile, what makes a passage."""

    def maker(draft: Draft) -> Callable[[Doc], Passage]:
        around = Surroundings(MemoryReads(draft, NOW), Http(), lambda _: None)
        return lambda event: Passage(draft, event, event["key"], SOURCE_DOC, NOW, around)

    return [maker(draft) for draft in world.drafts()]


def by_engine(workflow: Workflow) -> Work:
    """Return the work of the engine: a passage, the run, its record."""

    async def work(world: World) -> None:
        make = passages(world)
        for number, event in enumerate(world.events):
            passage = make[number % PROFILES](event)
            run = await run_workflow(workflow, passage)
            event["runs"] = [run_record(run)]

    return work


def by_engine_traced(workflow: Workflow) -> Work:
    """Return the work of the engine with a full trace of every run."""

    async def work(world: World) -> None:
        make = passages(world)
        watched = traced(workflow)
        for number, event in enumerate(world.events):
            passage = make[number % PROFILES](event)
            run = await run_workflow(watched, passage)
            event["runs"] = [run_record(run)]
            full_trace(run, event["id"])

    return work


async def by_closures(world: World) -> None:
    """Do the work by hand."""
    run = closures.compile_closures()
    for number, event in enumerate(world.events):
        run(event, world.profiles[number % PROFILES], world.sessions[number % PROFILES])


async def check_equal(workflow: Workflow) -> None:
    """Assert that engine and closures do the same: path, results, profile and session."""
    ours, hand = World(500), World(500)
    make, run = passages(ours), closures.compile_closures()
    for number, event in enumerate(ours.events):
        done = await run_workflow(workflow, make[number % PROFILES](event))
        path = [(node.node.name, node.out.port) for node in done.done]
        place = number % PROFILES
        expected, results = run(hand.events[number], hand.profiles[place], hand.sessions[place])
        thanks = done.done[path.index(("thank", "done"))].out.result
        same = path == expected and thanks == results["thank"] and not done.error and len(path) == 10
        if not same:
            raise SystemExit(f"engine and closures differ: {path} {done.error} {expected}")
    if (ours.profiles, ours.sessions) != (hand.profiles, hand.sessions):
        raise SystemExit(f"engine and closures differ: {ours.profiles[0]} {hand.profiles[0]}")


def measure(work: Work, events: int) -> float:
    """Return the CPU µs per event of one repeat, with documents that nobody has used."""
    world = World(events)
    gc.collect()
    began = process_time()
    asyncio.run(work(world))
    return (process_time() - began) / events * 1e6


def parts(workflow: Workflow, events: int) -> dict[str, list[float]]:
    """Return CPU µs per event of parts of the engine's work, each alone; they do not quite add up."""
    world = World(events)
    make = passages(world)
    draft = world.drafts()[0]

    async def once() -> Passage:
        passage = make[0](world.events[0])
        await run_workflow(workflow, passage)
        return passage

    passage = asyncio.run(once())
    (run,) = passage.runs
    scope, journals = passage.scope, [entry for done in run.done for entry in done.journal]
    targets = [where for _, where, _ in journals if hasattr(where, "path")]
    plugins = [node.plugin for node in workflow.nodes]
    expressions = [plugins[1].config.when, plugins[7].config.when, *dict(plugins[5].config.cases).values()]
    templates = [plugins[3].config.by, plugins[6].config.text]
    templates += [body for node in (plugins[4], plugins[9]) for body in node.config.fields.values()]
    copies = copy.deepcopy(
        {"profile": draft.profile, "session": draft.session, "vars": {}, "event": world.events[0]}
    )

    def write() -> None:
        for op, where, value in journals:
            if hasattr(where, "path"):
                where.path.apply(copies, op, value)

    tasks: dict[str, Callable[[], Any]] = {
        "making the scope": lambda: Scope(world.events[0], draft.profile, draft.session, SOURCE_DOC, NOW),
        "making the passage, scope included": lambda: make[0](world.events[0]),
        f"{len(expressions)} conditions": lambda: [one.test(scope) for one in expressions],
        f"{len(templates)} templates": lambda: [one.evaluate(scope) for one in templates],
        f"{len(targets)} writes by path (of {len(journals)})": write,
        "the run's record": lambda: run_record(run),
    }
    return {name: [alone(task, events) for _ in range(5)] for name, task in tasks.items()}


def alone(task: Callable[[], Any], times: int) -> float:
    """Return the CPU µs of one call."""
    began = process_time()
    for _ in range(times):
        task()
    return (process_time() - began) / times * 1e6


def main() -> None:
    """Measure, print, and write the table when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="a fraction of the work, to see that it runs")
    parser.add_argument("--write", action="store_true", help="write the tables into RESULTS.md")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.events = 3, 2_000
    workflow = load()
    # As a server does before its first request.
    spare_collector()
    asyncio.run(check_equal(workflow))
    ways: dict[str, Work] = {
        "closures": by_closures,
        "engine": by_engine(workflow),
        "engine, trace on": by_engine_traced(workflow),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, work in ways.items():
            found[name].append(measure(work, options.events))
    hand, engine = median(found["closures"]), median(found["engine"])
    rows = [
        [
            name,
            *tables.spread(took, 1),
            f"{1e6 / median(took):,.0f}",
            f"{median(took) / hand:.1f}",
            f"{median(took) / engine:.2f}",
        ]
        for name, took in found.items()
    ]
    head = [
        "way",
        "CPU µs per event, median",
        "min",
        "max",
        "events per CPU second",
        "÷ closures",
        "÷ engine",
    ]
    shares = [
        [name, *tables.spread(took, 2), f"{100 * median(took) / engine:.0f} %"]
        for name, took in parts(workflow, options.events).items()
    ]
    text = (
        tables.table(head, rows)
        + "\n"
        + tables.table(["part, alone", "CPU µs", "min", "max", "share"], shares)
    )
    tables.publish("engine", text, write=options.write)


if __name__ == "__main__":
    main()
