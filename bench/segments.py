"""Measures computed segments: at an event, and a rebuild of many profiles."""

import argparse
import asyncio
import gc
import random
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import tables

from headrace.api.server import spare_collector
from headrace.compose import make_engine
from headrace.engine.calls.http import Http
from headrace.engine.catalog import find_plugins
from headrace.engine.draft import Draft
from headrace.engine.engine import Engine
from headrace.engine.files.workspace import Workspace, load_workspace
from headrace.engine.model import Doc, EventInput, TrackRequest, iso, make_key, new_profile, new_session
from headrace.engine.passage import Passage, Surroundings
from headrace.engine.segments.past import fresh
from headrace.engine.segments.rebuild import Rebuild
from headrace.engine.settings import Settings
from headrace.engine.steps.segments import evaluate_segments
from headrace.engine.testing.memory_reads import MemoryReads

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
PROFILES = 100
EVENTS = 20_000
REBUILT = 100_000
AT_ONCE = 200
FIELD = "profile.stats.counters.orders >= 3"
PAST = "events('order', within='30d').count >= 3"
CONDITIONS: Mapping[str, str] = {
    "a profile's field": FIELD,
    "a count of 30 days": PAST,
    "a sum of all time": "events('order').sum('properties.total') > 1000",
    "distinct values of 30 days": "events('order', within='30d').distinct('properties.sku') > 50",
}


def load(folder: Path, **conditions: str) -> Workspace:
    """Return a workspace with computed segments, loaded from its files as a server does."""
    write(folder, **conditions)
    workspace = load_workspace(folder, find_plugins(), lambda _: None)
    if workspace.broken:
        raise SystemExit("\n".join(str(problem) for problem in workspace.problems))
    return workspace


def write(folder: Path, **conditions: str) -> None:
    """Write a workspace with one public source."""
    folder.mkdir(parents=True, exist_ok=True)
    members = ", ".join(f'"{name}": {{"when": "{when}"}}' for name, when in conditions.items())
    (folder / "sources.json").write_text('{"sources": {"shop": {}}}', encoding="utf-8")
    (folder / "segments.json").write_text(f'{{"segments": {{{members}}}}}', encoding="utf-8")


def passages(workspace: Workspace, events: int) -> list[Passage]:
    """Return events on their way, when all workflows are done; each profile had some in 30 days before."""
    dice = random.Random(1)
    drafts = []
    for number in range(PROFILES):
        draft = Draft("main", iso(NOW))
        profile: Doc = new_profile(f"p-{number}", "main", iso(NOW))
        profile["stats"]["counters"]["orders"] = 1
        draft.use_profile(profile, (1, 0))
        draft.use_session(new_session(f"s-{number}", "main", "shop", iso(NOW)), (1, 0))
        draft.own = {"past": fresh(workspace.watched.past)}
        drafts.append(draft)
    made = []
    for number in range(events):
        draft = drafts[number % PROFILES]
        at = NOW + timedelta(days=number / PROFILES)
        event = {
            "id": f"e-{number}",
            "type": "order",
            "properties": {"total": dice.randrange(100), "sku": f"s{dice.randrange(40)}"},
            "time": {"happened": (time := iso(at)), "received": time},
            "errors": [],
        }
        around = Surroundings(MemoryReads(draft, at), Http(), lambda _: None)
        key = make_key("event", "main", "shop", f"e-{number}")
        made.append(Passage(draft, event, key, {"id": "shop"}, at, around))
    return made


async def step(workspace: Workspace, made: list[Passage]) -> float:
    """Return the CPU µs of the step for one event."""
    gc.collect()
    began = process_time()
    for passage in made:
        await evaluate_segments(passage, workspace)
    return (process_time() - began) / len(made) * 1e6


def steps(folder: Path, rounds: int) -> list[list[str]]:
    """Measure what the step costs an event, for each sort of condition."""
    found: dict[str, list[float]] = {name: [] for name in CONDITIONS}
    loaded = {name: load(folder / name, one=when) for name, when in CONDITIONS.items()}
    for _ in range(rounds):
        for name, workspace in loaded.items():
            found[name].append(asyncio.run(step(workspace, passages(workspace, EVENTS))))
    base = median(found["a profile's field"])
    rows = []
    for name, values in found.items():
        rows.append([f"the step, a segment on {name}, CPU µs", *tables.spread(values, 2)])
        if values is not found["a profile's field"]:
            rows.append(["÷ on a profile's field", f"{median(values) / base:.2f}", "", ""])
    return rows


async def tracked(folder: Path, requests: int, **conditions: str) -> float:
    """Return the CPU µs of an event of /track with these segments, ten in a request."""
    engine = open_engine(folder, **conditions)
    gc.collect()
    began = process_time()
    for first in range(0, requests, AT_ONCE):
        await asyncio.gather(*(engine.track(request(number, 10)) for number in range(first, first + AT_ONCE)))
    took = process_time() - began
    await engine.stop()
    return took / requests / 10 * 1e6


def open_engine(folder: Path, **conditions: str) -> Engine:
    """Return an engine on an embedded store of its own."""
    write(folder / "workspace", **conditions)
    return make_engine(Settings.load({}, workspace=folder / "workspace", data=folder / "data"))


def request(number: int, events: int) -> TrackRequest:
    """Return a request of a visitor of its own."""
    given = [EventInput("order", {"total": number % 100, "sku": f"s{number % 40}"}) for _ in range(events)]
    return TrackRequest("shop", given, "track", NOW + timedelta(seconds=number), session_id=f"s{number}")


def tracks(folder: Path, rounds: int, requests: int) -> list[list[str]]:
    """Measure whole events."""
    kinds: dict[str, dict[str, str]] = {
        "no segment": {},
        "one on a field": {"one": FIELD},
        "one on a count": {"one": PAST},
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for place in range(rounds):
        for name, conditions in kinds.items():
            path = folder / f"{place} {name}"
            found[name].append(asyncio.run(tracked(path, requests, **conditions)))
    return [[f"/track, {name}, CPU µs an event", *tables.spread(each, 1)] for name, each in found.items()]


async def rebuilding(folder: Path, profiles: int) -> list[list[str]]:
    """Measure a rebuild: profiles that were there before the segment, with three events each."""
    engine = open_engine(folder)
    for first in range(0, profiles, AT_ONCE):
        await asyncio.gather(*(engine.track(request(number, 3)) for number in range(first, first + AT_ONCE)))
    await engine.stop()
    workspace = load(folder / "workspace", one=PAST)
    engine = open_engine(folder, one=PAST)
    # After all of their events: a second lies between one profile and the next.
    later = NOW + timedelta(seconds=profiles, days=1)
    job = Rebuild(engine.store, workspace, "main", workspace.watched.lasting(), lambda: later)
    began, cpu = perf_counter(), process_time()
    await job.begin()
    async for _ in job.run():
        pass
    took, cpu = perf_counter() - began, process_time() - cpu
    await engine.stop()
    if (job.progress.done, job.progress.changed) != (profiles, profiles):
        raise SystemExit(f"not every profile was rebuilt: {job.progress}")
    return [
        [f"rebuild of {profiles:,} profiles, profiles a second", f"{profiles / took:,.0f}", "", ""],
        ["the same, seconds", f"{took:,.1f}", "", ""],
        ["the same, CPU µs a profile", f"{cpu / profiles * 1e6:,.0f}", "", ""],
    ]


def main() -> None:
    """Measure, print, and write the table when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement at an event")
    parser.add_argument("--requests", type=int, default=2_000, help="requests of a round of /track")
    parser.add_argument("--profiles", type=int, default=REBUILT, help="profiles that are rebuilt")
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    options = parser.parse_args()
    spare_collector()
    rows: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        rows += steps(folder / "steps", options.rounds)
        rows += tracks(folder / "tracks", options.rounds, options.requests)
        rows += asyncio.run(rebuilding(folder / "rebuild", options.profiles))
    head = ["embedded store", "median", "min", "max"]
    tables.publish("segments", tables.table(head, rows), write=options.write)


if __name__ == "__main__":
    main()
