"""Measures /track over HTTP with durable writes, beside the floor server."""

import argparse
import json
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import processes
import tables
import workload
from processes import Load, Server

SESSIONS = 1000
NEW = 0.1


class Part(NamedTuple):
    """One kind of load: how many requests, of how many events, over how many connections."""

    name: str
    requests: int
    events: int
    connections: int


class Measured(NamedTuple):
    """What one part of one round took: server CPU µs and wall rate per request, latencies in ms."""

    cpu: float
    rate: float
    p50: float
    p99: float


class Memory(NamedTuple):
    """Resident MiB of a server before the first event and after the load, and seconds of its start."""

    idle: float
    loaded: float
    start: float


Found = dict[tuple[str, str], list[Measured]]


def parts(scale: float) -> tuple[Part, ...]:
    """Return the kinds of load."""
    return (
        Part("1 event", int(12_000 * scale), 1, 64),
        Part("50 events", int(500 * scale), 50, 16),
    )


def one_round(
    open_server: Callable[[Path], Server], load: Load, kinds: tuple[Part, ...], seed: int
) -> tuple[list[Measured], Memory]:
    """Start a server with a fresh data folder, warm it up, and measure each kind of load."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        with open_server(data) as server:
            idle = server.resident_mib()
            plan = {"ports": [server.port], "seed": seed, "sessions": SESSIONS, "new": NEW, "timeout": 120}
            warm_up = {"warm_up": True, "requests": SESSIONS, "events": 1, "connections": 32}
            load.run(plan | warm_up)
            found = []
            for number, kind in enumerate(kinds):
                before = server.cpu_seconds()
                sent = {"requests": kind.requests, "events": kind.events, "connections": kind.connections}
                answer = load.run(plan | sent | {"warm_up": False, "seed": seed * 10 + number})
                cpu = (server.cpu_seconds() - before) / kind.requests * 1e6
                rate = kind.requests / answer["seconds"]
                found.append(Measured(cpu, rate, answer["p50"], answer["p99"]))
            memory = Memory(idle, server.resident_mib(), server.start_seconds)
        check_kept(data / "headrace.db", SESSIONS + sum(kind.requests * kind.events for kind in kinds))
    return found, memory


def check_kept(path: Path, events: int) -> None:
    """End the benchmark unless every event is kept."""
    with sqlite3.connect(path) as connection:
        (kept,) = connection.execute("SELECT count(*) FROM events").fetchone()
    connection.close()
    if kept != events:
        raise SystemExit(f"{kept} events are kept, {events} were sent")


def start_with_workflows(workflows: int, repeats: int) -> list[Memory]:
    """Start a server with many workflows, a few times."""
    found = []
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        workspace = workload.write_workspace(Path(folder) / "workspace", workflows - 1)
        for number in range(repeats):
            data = Path(folder) / f"data-{number}"
            data.mkdir()
            with processes.headrace(workspace, data) as server:
                found.append(Memory(server.resident_mib(), 0.0, server.start_seconds))
    return found


def measure(rounds: int, scale: float) -> tuple[Found, dict[str, list[Memory]]]:
    """Run both servers in turn, round after round."""
    kinds = parts(scale)
    found: Found = {}
    memory: dict[str, list[Memory]] = {"headrace": [], "floor": []}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder, Load() as load:
        workspace = workload.write_workspace(Path(folder) / "workspace")
        servers: dict[str, Callable[[Path], Server]] = {
            "headrace": lambda data: processes.headrace(workspace, data),
            "floor": processes.floor,
        }
        for number in range(rounds):
            # Who begins changes, so that a machine that gets slower is fair to both.
            for name in sorted(servers, reverse=number % 2 == 0):
                measured, used = one_round(servers[name], load, kinds, number + 1)
                memory[name].append(used)
                for kind, one in zip(kinds, measured, strict=True):
                    found.setdefault((kind.name, name), []).append(one)
                    print(
                        json.dumps({"round": number + 1, "server": name, "load": kind.name} | one._asdict())
                    )
    return found, memory


def speed_table(found: Found, kinds: tuple[Part, ...]) -> str:
    """Return the table of CPU and rates."""
    head = [
        "load",
        "server",
        "CPU µs per request, median",
        "min",
        "max",
        "CPU µs per event",
        "per core and second",
    ]
    head += ["seen per second", "p50 ms", "p99 ms", "÷ floor, median", "min", "max"]
    rows = []
    for kind in kinds:
        for name in ("floor", "headrace"):
            runs = found[kind.name, name]
            cpu = [run.cpu for run in runs]
            pairs = zip(cpu, (run.cpu for run in found[kind.name, "floor"]), strict=True)
            per = 1e6 / median(cpu) * kind.events
            rows.append(
                [
                    kind.name,
                    name,
                    *tables.spread(cpu),
                    f"{median(cpu) / kind.events:.1f}",
                    f"{per:,.0f}",
                    f"{median(run.rate for run in runs) * kind.events:,.0f}",
                    f"{median(run.p50 for run in runs):.1f}",
                    f"{median(run.p99 for run in runs):.1f}",
                    *tables.spread([ours / floor for ours, floor in pairs], 2),
                ]
            )
    return tables.table(head, rows)


def memory_table(memory: dict[str, list[Memory]], many: list[Memory]) -> str:
    """Return the table of memory and start times."""
    head = ["what", "median", "min", "max"]
    ours, floor = memory["headrace"], memory["floor"]
    rows = [
        ["resident before the first event, MiB", *tables.spread([one.idle for one in ours], 1)],
        ["resident after the load, MiB", *tables.spread([one.loaded for one in ours], 1)],
        ["the floor before the first event, MiB", *tables.spread([one.idle for one in floor], 1)],
        ["the floor after the load, MiB", *tables.spread([one.loaded for one in floor], 1)],
        ["start with 1 workflow, s", *tables.spread([one.start for one in ours], 2)],
        ["start with 100 workflows, s", *tables.spread([one.start for one in many], 2)],
        ["resident with 100 workflows, MiB", *tables.spread([one.idle for one in many], 1)],
    ]
    return tables.table(head, rows)


def main() -> None:
    """Measure, print, and write the tables when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a fraction of the work, to see that it runs")
    parser.add_argument("--write", action="store_true", help="write the tables into RESULTS.md")
    options = parser.parse_args()
    rounds, scale = (2, 0.2) if options.quick else (options.rounds, 1.0)
    found, memory = measure(rounds, scale)
    many = start_with_workflows(100, rounds)
    text = speed_table(found, parts(scale)) + "\n" + memory_table(memory, many)
    tables.publish("track", text, write=options.write)


if __name__ == "__main__":
    main()
