"""Measures timers: what a claim costs, and how many are fired."""

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter

import tables

from headrace.compose import make_engine
from headrace.engine.engine import Engine
from headrace.engine.model import Doc, EventInput, TrackRequest, iso, new_id
from headrace.engine.settings import Settings
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Change, Row, Store
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import AT_ONCE, TimerWorker

PENDING = 100_000
FIRED = 10_000
PART = 1_000
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
WAITING = """{
  "on": {"event": ["x"]},
  "nodes": {
    "wait": {"plugin": "wait", "config": {"period": "1h"}, "then": {"done": ["count"]}},
    "count": {"plugin": "increment", "config": {"field": "profile.stats.counters.n"}}
  }
}"""


def timer(number: int, due: datetime) -> Row:
    """Return a timer of the usual size."""
    key = f"{number:032x}"
    event = {
        "id": key,
        "type": "cart",
        "properties": {"items": [{"sku": f"s{n}", "price": n} for n in range(8)]},
    }
    doc: Doc = {
        "id": key,
        "kind": "run",
        "tenant": "main",
        "event": key,
        "source": "shop",
        "profile": key,
        "session": key,
        "workflow": "cart",
        "version": "0123456789ab",
        "number": 0,
        "node": "wait",
        "held": {"wait": {"due": iso(due), "port": "done", "result": {"until": iso(due)}}},
        "due": iso(due),
        "status": "pending",
        "created": iso(NOW),
        "input": event,
        "done": [["first", "done", None]] * 3,
        "vars": {},
        "depth": 0,
    }
    return Row(key, doc)


async def fill(store: Store, due: datetime) -> None:
    """Keep the pending timers, a second between two."""
    for first in range(0, PENDING, PART):
        rows = [timer(number, due + timedelta(seconds=number)) for number in range(first, first + PART)]
        await store.commit(Change(new_id(), "main", timers=rows))


async def timed(times: int, work: Callable[[], Awaitable[object]]) -> list[float]:
    """Return how long something takes, in milliseconds."""
    found = []
    for _ in range(times):
        began = perf_counter()
        await work()
        found.append((perf_counter() - began) * 1000)
    return found


async def claims(rounds: int) -> list[list[str]]:
    """Measure claims among many pending timers: none is due, or all are."""
    rows = []
    for name, due, n in (
        ("none is due", NOW + timedelta(days=9), 1),
        ("all are due, one is claimed", NOW, 1),
        (f"all are due, {AT_ONCE} are claimed", NOW, AT_ONCE),
    ):
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
            store = open_store("sqlite:", data=Path(folder))
            await fill(store, due)
            took = await timed(rounds, partial(store.claim_due, "timer", n, 60, NOW + timedelta(days=2)))
            await store.close()
        rows.append([f"claim, {PENDING:,} pending: {name}, ms", *tables.spread(took, 3)])
    return rows


async def firing(rounds: int) -> list[str]:
    """Measure how many runs go on in a second when many are due at once, each of a profile of its own."""
    rates = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
            engine = waiting_engine(Path(folder))
            for first in range(0, FIRED, 100):
                await asyncio.gather(*(engine.track(request(number)) for number in range(first, first + 100)))
            worker = TimerWorker(engine.parts, KINDS, lambda: NOW + timedelta(hours=1))
            began = perf_counter()
            if await worker.fire_due() != FIRED:
                raise SystemExit("not every timer was fired, or one was twice")
            rates.append(FIRED / (perf_counter() - began))
            await engine.stop()
    return [f"{FIRED:,} due at once: fired a second", *tables.spread(rates)]


def waiting_engine(folder: Path) -> Engine:
    """Return an engine with a workflow that waits."""
    workspace = folder / "workspace"
    (workspace / "workflows").mkdir(parents=True)
    (workspace / "sources.json").write_text('{"sources": {"shop": {}}}', encoding="utf-8")
    (workspace / "workflows" / "wait.json").write_text(WAITING, encoding="utf-8")
    return make_engine(Settings.load({}, workspace=workspace, data=folder / "data"))


def request(number: int) -> TrackRequest:
    """Return a request of a visitor of its own."""
    return TrackRequest("shop", [EventInput("x")], "track", NOW, session_id=f"s{number}")


def main() -> None:
    """Measure, print, and write the table when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="claims of each kind")
    parser.add_argument("--firing", type=int, default=3, help="rounds of firing")
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    options = parser.parse_args()
    rows = [*asyncio.run(claims(options.rounds)), asyncio.run(firing(options.firing))]
    head = ["embedded store", "median", "min", "max"]
    tables.publish("timers", tables.table(head, rows), write=options.write)


if __name__ == "__main__":
    main()
