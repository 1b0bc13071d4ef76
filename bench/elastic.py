"""Measures /track with Elasticsearch beside SQLite and the floor."""

import argparse
import asyncio
import json
import random
import tempfile
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple
from urllib.request import Request, urlopen

import processes
import tables
import workload
from processes import Load, Server
from track import Part

from headrace.engine.model import Doc, iso, make_key, new_event_id, utc_now
from headrace.engine.store.elastic.bulk import Operation
from headrace.engine.store.elastic.documents import doc_id, event_source
from headrace.engine.store.elastic.layout import INDEX_OF, month_index
from headrace.engine.store.elastic.parts import create_line
from headrace.engine.store.elastic.place import read_place
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Query, Row
from tests.parts.elasticsearch import ElasticsearchNode

SESSIONS = 1000
NEW = 0.1
WARM_ROUNDS = 4
"""Rounds that are not counted: the compiler of the node is at work for two minutes, and takes as much as the node."""

NEWS = 7
"""How often more events come before the questions are asked again."""

TYPES = ("page-view", "product-view", "add-to-cart", "purchase-order", "search")


class Measured(NamedTuple):
    """CPU µs of server and node per request, requests a second, latencies in ms."""

    cpu: float
    node: float
    rate: float
    p50: float
    p99: float


Found = dict[tuple[str, str], list[Measured]]


def parts(scale: float) -> tuple[Part, ...]:
    """Return the kinds of load."""
    return (Part("1 event", int(16_000 * scale), 1, 128), Part("50 events", int(1_200 * scale), 50, 16))


def one_round(
    open_server: Callable[[Path], Server],
    load: Load,
    node: ElasticsearchNode,
    kinds: tuple[Part, ...],
    seed: int,
) -> list[Measured]:
    """Start a server on an empty store, warm it up, and measure each kind of load."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        with open_server(data) as server:
            plan = {"ports": [server.port], "seed": seed, "sessions": SESSIONS, "new": NEW, "timeout": 300}
            load.run(plan | {"warm_up": True, "requests": SESSIONS, "events": 1, "connections": 32})
            found = []
            for number, kind in enumerate(kinds):
                before, node_before = server.cpu_seconds(), processes.cpu_seconds(node.pid or 0)
                sent = {"requests": kind.requests, "events": kind.events, "connections": kind.connections}
                answer = load.run(plan | sent | {"warm_up": False, "seed": seed * 10 + number})
                cpu = (server.cpu_seconds() - before) / kind.requests * 1e6
                of_node = (processes.cpu_seconds(node.pid or 0) - node_before) / kind.requests * 1e6
                rate = kind.requests / answer["seconds"]
                found.append(Measured(cpu, of_node, rate, answer["p50"], answer["p99"]))
    return found


def measure(node: ElasticsearchNode, rounds: int, scale: float) -> tuple[Found, list[float]]:
    """Run all servers in turn, round after round; the first ones only warm the node's compiler up."""
    kinds = parts(scale)
    found: Found = {}
    gets: list[float] = []
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder, Load() as load:
        workspace = workload.write_workspace(Path(folder) / "workspace")
        for number in range(-WARM_ROUNDS, rounds):
            store = f"elasticsearch://{node.host}/bench-{uuid.uuid4().hex[:8]}"
            servers: dict[str, Callable[[Path], Server]] = {
                "floor, writes only": partial(processes.floor, cluster=node.url),
                "headrace, Elasticsearch": partial(processes.headrace, workspace, store=store),
                "headrace, embedded": partial(processes.headrace, workspace),
            }
            for name in sorted(servers, reverse=number % 2 == 0):
                found_now = one_round(servers[name], load, node, kinds, number + WARM_ROUNDS)
                for kind, one in zip(kinds, found_now, strict=True):
                    print(json.dumps({"round": number, "server": name, "load": kind.name} | one._asdict()))
                    if number >= 0:
                        found.setdefault((kind.name, name), []).append(one)
            gets += read_profiles(store, Path(folder) / "data", workspace)
            clear(node, store)
    return found, gets


def clear(node: ElasticsearchNode, store: str) -> None:
    """Delete what a round wrote."""
    for pattern in (f"{read_place(store).prefix}-*", "floor-*"):
        node.ask("DELETE", f"/{pattern}")


def read_profiles(store: str, data: Path, workspace: Path, times: int = 300) -> list[float]:
    """Return milliseconds that a server took to answer with a profile."""
    data.mkdir(exist_ok=True)
    took = []
    with processes.headrace(workspace, data, store) as server:
        head = {"Authorization": f"Bearer {processes.TOKEN}"}
        with urlopen(Request(f"{server.url}/api/profiles?limit=100", headers=head), timeout=30) as answer:  # noqa: S310
            ids = [doc["id"] for doc in json.load(answer)["items"]]
        for number in range(times):
            request = Request(f"{server.url}/api/profiles/{ids[number % len(ids)]}", headers=head)  # noqa: S310
            began = perf_counter()
            with urlopen(request, timeout=30) as answer:  # noqa: S310 - our own loopback
                answer.read()
            took.append((perf_counter() - began) * 1000)
    return took


def speed_table(found: Found, kinds: tuple[Part, ...]) -> str:
    """Return the table of CPU, rates and latencies."""
    head = ["load", "server", "its CPU µs per event", "min", "max", "the node's CPU µs per event"]
    head += ["events a second, median", "min", "max", "requests a second", "p50 ms", "p99 ms", "CPU ÷ floor"]
    rows = []
    for kind in kinds:
        floor = median(run.cpu for run in found[kind.name, "floor, writes only"])
        for name in ("floor, writes only", "headrace, Elasticsearch", "headrace, embedded"):
            runs = found[kind.name, name]
            rows.append(
                [
                    kind.name,
                    name,
                    *tables.spread([run.cpu / kind.events for run in runs], 1),
                    f"{median(run.node for run in runs) / kind.events:.0f}",
                    *tables.spread([run.rate * kind.events for run in runs]),
                    f"{median(run.rate for run in runs):,.0f}",
                    f"{median(run.p50 for run in runs):.1f}",
                    f"{median(run.p99 for run in runs):.1f}",
                    f"{median(run.cpu for run in runs) / floor:.2f}",
                ]
            )
    return tables.table(head, rows)


async def ask_many(node: ElasticsearchNode, events: int) -> list[list[str]]:
    """Fill a store with events of sixty days and ask; returns a row for each question."""
    url = f"elasticsearch://{node.host}/many-{uuid.uuid4().hex[:8]}"
    store = open_store(url, data=Path())
    questions: dict[str, Callable[[], object]] = {
        "events and profiles by type": lambda: store.report(Query("event"), "type"),
        "events and unique profiles by day": lambda: store.report(Query("event"), "day"),
        "newest 50 of a profile": lambda: store.find(Query("event", profile="p-4711", limit=50)),
    }
    rows = []
    try:
        if await store.ready():
            raise SystemExit(f"the store is not ready: {store.describe()['failure']}")
        # The node has been asked such questions since it was started, but never of what is filled in next.
        await fill(store, url, events // 50)
        for ask in questions.values():
            await ask_times(ask, 30)
        await fill(store, url, events - events // 50)
        asked = {name: await ask_times(ask, 11) for name, ask in questions.items()}
        after: dict[str, list[float]] = {}
        for _ in range(NEWS):
            await fill(store, url, events // 100)
            for name, ask in questions.items():
                after.setdefault(name, []).extend(await ask_times(ask, 1))
        for name, took in asked.items():
            rows.append([name, f"{took[0]:.0f}", f"{median(after[name]):.0f}", *tables.spread(took[1:], 0)])
        return rows
    finally:
        await store.close()
        clear(node, url)


async def ask_times(ask: Callable[[], object], times: int) -> list[float]:
    """Ask a question again and again; returns how many milliseconds each answer took."""
    took = []
    for _ in range(times):
        began = perf_counter()
        await ask()  # type: ignore[misc]
        took.append((perf_counter() - began) * 1000)
    return took


async def fill(store: object, url: str, events: int) -> None:
    """Write events straight into their indices, as a commit would."""
    place, dice, now = read_place(url), random.Random(1), utc_now()
    bulk = store._bulk  # type: ignore[attr-defined]  # a million requests would take an hour
    batch: list[Operation] = []
    for number in range(events):
        received = iso(now - timedelta(seconds=dice.randrange(60 * 86_400)))
        batch.append(event_operation(place, dice, received))
        if len(batch) == 2_000 or number == events - 1:
            await bulk.write(batch)
            batch.clear()
    for kind in ("events",):
        await store._cluster.ask("POST", f"/{place.prefix}-{kind}/_refresh", seconds=60)  # type: ignore[attr-defined]


def event_operation(place: object, dice: random.Random, received: str) -> Operation:
    """Return the write of one event of one of 100,000 profiles."""
    event_id = new_event_id()
    key = make_key("event", "main", workload.SOURCE, event_id)
    doc: Doc = {
        "id": event_id,
        "key": key,
        "type": dice.choice(TYPES),
        "properties": workload.properties(dice),
        "context": {},
        "source": workload.SOURCE,
        "tenant": "main",
        "session": f"s-{dice.randrange(300_000)}",
        "profile": f"p-{dice.randrange(100_000)}",
        "time": {"happened": received, "received": received, "processed": received, "claimed": None},
        "runs": [],
        "errors": [],
    }
    source = event_source(Row(key, doc), "main", "bench", received) + b"}"
    return Operation(create_line(month_index(place, INDEX_OF["event"], received), doc_id(key)), source)  # type: ignore[arg-type]


def main() -> None:
    """Measure, print, and write the tables when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="a fraction of the work, to see that it runs")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many to ask about")
    parser.add_argument("--write", action="store_true", help="write the tables into RESULTS.md")
    options = parser.parse_args()
    rounds, scale = (1, 0.2) if options.quick else (options.rounds, 1.0)
    events = min(options.events, 20_000) if options.quick else options.events
    with ElasticsearchNode(heap="1g", quick=False) as node:
        found, gets = measure(node, rounds, scale)
        rows = asyncio.run(ask_many(node, events))
    gets.sort()
    rows.append(["GET of a profile", f"{gets[0]:.1f}", "", *tables.spread(gets, 1)])
    head = [f"question to {events:,} events, ms", "first", f"first after {events // 100:,} more, median"]
    head += ["asked again, median", "min", "max"]
    text = speed_table(found, parts(scale)) + "\n" + tables.table(head, rows)
    tables.publish("elastic", text, write=options.write)


if __name__ == "__main__":
    main()
