"""Counts parallel increments of one profile: each must count once."""

import argparse
import json
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import processes
import tables
import workload
from processes import Load, Server

INCREMENTS = 200
CONNECTIONS = 50


def one_round(load: Load, servers: Sequence[Server], data: Path, number: int) -> tuple[int, float]:
    """Send the increments of one new session to all servers; returns the profile's counter and seconds."""
    session = f"busy-{number}"
    plan = {"ports": [server.port for server in servers], "seed": number, "session": session}
    sent = {"requests": INCREMENTS, "events": 1, "connections": CONNECTIONS, "timeout": 60}
    answer = load.run(plan | sent)
    with closing(sqlite3.connect(data / "headrace.db")) as connection:
        row = connection.execute(
            "SELECT profiles.doc FROM profiles JOIN sessions"
            " ON json_extract(CAST(profiles.doc AS TEXT), '$.id') = sessions.profile"
            " WHERE json_extract(CAST(sessions.doc AS TEXT), '$.id') = ?",
            (session,),
        ).fetchall()
    if len(row) != 1:
        raise SystemExit(f"{len(row)} profiles were made for one session")
    return json.loads(row[0][0])["stats"]["counters"]["orders"], answer["seconds"]


def measure(load: Load, servers: int, rounds: int) -> list[tuple[int, float]]:
    """Run rounds against some server processes on one file."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder, ExitStack() as stack:
        workspace = workload.write_workspace(Path(folder) / "workspace")
        data = Path(folder) / "data"
        data.mkdir()
        running = [stack.enter_context(processes.headrace(workspace, data)) for _ in range(servers)]
        return [one_round(load, running, data, number) for number in range(rounds)]


def main() -> None:
    """Measure, print, and write the table when asked; exit code 1 when an increment was lost or counted twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    options = parser.parse_args()
    rows, exact = [], True
    with Load() as load:
        for servers in (1, 2):
            found = measure(load, servers, options.rounds)
            counts = [count for count, _ in found]
            exact &= set(counts) == {INCREMENTS}
            rates = tables.spread([INCREMENTS / seconds for _, seconds in found])
            rows.append([f"{servers} process{'es' * (servers > 1)}", " ".join(map(str, counts)), *rates])
    head = ["servers on one file", "counter after each round", "requests per second, median", "min", "max"]
    tables.publish("concurrency", tables.table(head, rows), write=options.write)
    if not exact:
        raise SystemExit(f"not every counter is {INCREMENTS}")


if __name__ == "__main__":
    main()
