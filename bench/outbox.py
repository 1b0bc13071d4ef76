"""Measures the outbox: deliveries, and what it costs others."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.request import urlopen

import processes
import tables
import workload
from processes import HERE, Doc, Load, Server, cpu_seconds

BATCH = 50
SESSIONS = 1000
MOST_SECONDS = 60.0


class Sizes(NamedTuple):
    """How much is done: deliveries, requests of a round, effects for a receiver that hangs."""

    deliveries: int
    requests: int
    hanging: int


class Receiver:
    """A receiver process, ended when the block is left."""

    def __init__(self, *, hang: bool = False) -> None:
        self.command = [sys.executable, str(HERE / "receiver.py"), *(["--hang"] if hang else [])]

    def __enter__(self) -> "Receiver":
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None  # noqa: S101 - it was asked for
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def told(self) -> Doc:
        """Return what it counted."""
        with urlopen(f"http://127.0.0.1:{self.port}/", timeout=10) as answer:
            found: Doc = json.load(answer)
        return found


def write_workspace(folder: Path, port: int | None) -> Path:
    """Write the workspace of all benchmarks, and with a port one more node: a webhook with the order."""
    path = workload.write_workspace(folder)
    if port is not None:
        file = next((path / "workflows").glob("*.json"))
        workflow = json.loads(file.read_text())
        workflow["nodes"]["tell"] = {
            "plugin": "webhook",
            "config": {
                "url": f"http://127.0.0.1:{port}/orders/{{{{ event.properties.order }}}}",
                "body": {"order": "{{ event.properties.order }}", "total": "{{ event.properties.total }}"},
            },
        }
        file.write_text(json.dumps(workflow))
    return path


@contextmanager
def serving(workspace: Path, data: Path, *, outbox: bool) -> Iterator[Server]:
    """Run a server whose effects may go to this machine."""
    server = processes.headrace(workspace, data)
    server.environ = {
        **server.environ,
        "HEADRACE_OUTBOX": "on" if outbox else "off",
        "HEADRACE_ALLOW_ADDRESSES": "127.0.0.1/32",
    }
    with server:
        yield server


def send(load: Load, server: Server, requests: int, events: int, seed: int, connections: int = 32) -> Doc:
    """Send requests and return what was measured, with the server's CPU µs for each."""
    plan = {"ports": [server.port], "seed": seed, "sessions": SESSIONS, "new": 0.1, "timeout": 120}
    plan |= {"warm_up": False, "requests": requests, "events": events, "connections": connections}
    before = server.cpu_seconds()
    found = load.run(plan)
    return found | {"cpu": (server.cpu_seconds() - before) / requests * 1e6}


def deliver(load: Load, folder: Path, count: int) -> Doc:
    """Keep effects while nobody sends them; then let a server send them, and time that."""
    with Receiver() as receiver:
        workspace, data = write_workspace(folder / "workspace", receiver.port), folder / "data"
        data.mkdir()
        with serving(workspace, data, outbox=False) as server:
            send(load, server, count // BATCH, BATCH, seed=1)
        with serving(workspace, data, outbox=True) as server:
            until = time.monotonic() + MOST_SECONDS
            while (told := receiver.told())["keys"] < count and time.monotonic() < until:
                time.sleep(0.25)
            used = server.cpu_seconds() / count * 1e6
            found = told | {"cpu": used, "receiver": cpu_seconds(receiver.process.pid) / count * 1e6}
    if told["keys"] != count:
        raise SystemExit(f"{told['keys']} of {count} effects arrived in {MOST_SECONDS:.0f} s")
    return found | {"rate": count / told["seconds"]}


def cost(load: Load, folder: Path, requests: int, rounds: int) -> dict[str, list[float]]:
    """Return the CPU µs of requests without and with a webhook, which somebody else sends."""
    found: dict[str, list[float]] = {"without": [], "with": []}
    for number in range(rounds):
        for name in sorted(found, reverse=number % 2 == 0):
            place = folder / f"{name}-{number}"
            workspace = write_workspace(place / "workspace", 9 if name == "with" else None)
            (place / "data").mkdir()
            with serving(workspace, place / "data", outbox=False) as server:
                send(load, server, requests // 4, 1, seed=99)
                found[name].append(send(load, server, requests, 1, seed=number)["cpu"])
    return found


def hang(load: Load, folder: Path, sizes: Sizes, rounds: int) -> dict[str, list[float]]:
    """Return the p99 (ms) of requests that call nobody, while effects wait for a receiver that hangs, or none do."""
    found: dict[str, list[float]] = {"none": [], "hanging": []}
    with Receiver(hang=True) as receiver:
        for number in range(rounds):
            for name in sorted(found, reverse=number % 2 == 0):
                place = folder / f"{name}-{number}"
                calling = write_workspace(place / "calling", receiver.port if name == "hanging" else None)
                quiet, data = write_workspace(place / "quiet", None), place / "data"
                data.mkdir()
                with serving(calling, data, outbox=False) as server:
                    send(load, server, sizes.hanging // BATCH, BATCH, seed=7)
                with serving(quiet, data, outbox=True) as server:
                    send(load, server, sizes.requests // 4, 1, seed=98)
                    found[name].append(send(load, server, sizes.requests, 1, seed=number)["p99"])
    return found


def report(
    delivered: list[Doc], cpu: dict[str, list[float]], p99: dict[str, list[float]], hanging: int
) -> str:
    """Return the tables."""
    rows = [
        ["deliveries a second", *tables.spread([one["rate"] for one in delivered])],
        ["CPU µs of the server for each", *tables.spread([one["cpu"] for one in delivered])],
        ["CPU µs of the receiver for each", *tables.spread([one["receiver"] for one in delivered])],
        ["calls for each effect", *tables.spread([one["calls"] / one["keys"] for one in delivered], 3)],
        ["/track without a webhook, CPU µs", *tables.spread(cpu["without"])],
        ["/track with a webhook, CPU µs", *tables.spread(cpu["with"])],
        ["÷ without", *tables.spread([a / b for a, b in zip(cpu["with"], cpu["without"], strict=True)], 2)],
        ["p99 of /track, no effects wait, ms", *tables.spread(p99["none"], 1)],
        [f"p99 of /track, {hanging:,} wait for a host that hangs, ms", *tables.spread(p99["hanging"], 1)],
        ["÷ no effects", f"{median(p99['hanging']) / median(p99['none']):.2f}", "", ""],
    ]
    return tables.table(["what", "median", "min", "max"], rows)


def main() -> None:
    """Measure, print, and write the table when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a fraction of the work, to see that it runs")
    parser.add_argument("--only", choices=["deliver", "cost", "hang"], help="one part, printed as JSON")
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    sizes = Sizes(5_000, 2_000, 1_000) if options.quick else Sizes(30_000, 8_000, 5_000)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder, Load() as load:
        place = Path(folder)
        delivered: list[Doc] = []
        for number in range(rounds if options.only in (None, "deliver") else 0):
            (place / f"deliver-{number}").mkdir()
            delivered.append(deliver(load, place / f"deliver-{number}", sizes.deliveries))
            print(json.dumps(delivered[-1]))
        cpu = cost(load, place / "cost", sizes.requests, rounds) if options.only in (None, "cost") else {}
        p99 = hang(load, place / "hang", sizes, rounds) if options.only in (None, "hang") else {}
        if options.only:
            print(json.dumps({"cpu": cpu, "p99": p99}))
        else:
            tables.publish("outbox", report(delivered, cpu, p99, sizes.hanging), write=options.write)


if __name__ == "__main__":
    main()
