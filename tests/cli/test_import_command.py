"""The command `events import`: kept, resumed, reported, never twice."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Call, Result


def write(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return file


def order(number: int, **more: Any) -> dict[str, Any]:
    session = f"s{number % 3}"
    return {"type": "purchase-order", "session": session, "properties": {"total": number}} | more


def bring(call: Call, *words: str) -> Result:
    return call("events", "import", "e.ndjson", "--workspace", "shop", "--source", "shop", *words)


def stored() -> dict[str, int]:
    """Return how many events the store has, and how many orders its profiles count together."""
    with sqlite3.connect("data/headrace.db") as file:
        (events,) = file.execute("SELECT count(*) FROM events").fetchone()
        docs = [json.loads(row[0]) for row in file.execute("SELECT doc FROM profiles")]
    file.close()
    return {"events": events, "orders": sum(doc["stats"]["counters"].get("orders", 0) for doc in docs)}


@pytest.fixture(autouse=True)
def workspace(shop: Path) -> Path:
    return shop


def test_events_go_through_the_workflows_into_the_store(call: Call, tmp_path: Path) -> None:
    write(tmp_path / "e.ndjson", [order(number) for number in range(30)])
    result = bring(call)
    assert result.exit_code == 0, result.output
    assert "30 lines: 30 accepted, 0 known already, 0 not taken" in result.output
    assert stored() == {"events": 30, "orders": 30}


def test_importing_again_changes_nothing_and_what_was_added_is_taken(call: Call, tmp_path: Path) -> None:
    file = write(tmp_path / "e.ndjson", [order(number) for number in range(10)])
    assert bring(call).exit_code == 0
    assert "Goes on after line 10" in bring(call).output
    assert "0 accepted, 10 known already" in bring(call, "--again").output
    file.write_text(file.read_text() + json.dumps(order(11)) + "\n")
    assert bring(call).exit_code == 0
    renamed = file.rename(tmp_path / "renamed.ndjson")
    renamed.rename(file)
    assert bring(call, "--again").exit_code == 0
    assert stored() == {"events": 11, "orders": 11}


def test_lines_that_cannot_be_taken_are_reported_with_their_numbers(call: Call, tmp_path: Path) -> None:
    rows: list[Any] = [
        order(1),
        "nonsense",
        "",
        order(2, time="yesterday"),
        {"typ": "x"},
        order(3, properties={"total": "much"}),
        "[1]",
        "null",
        order(4, session="s1", id="a"),
        order(5, session="s1", id="a"),
    ]
    write(tmp_path / "e.ndjson", rows)
    result = bring(call)
    assert result.exit_code == 1
    assert "2 accepted, 0 known already, 7 not taken" in result.output
    (report,) = (tmp_path / "data" / "imports").glob("*.bad.ndjson")
    assert str(report.relative_to(tmp_path)) in result.output
    bad = {row["line"]: row["code"] for row in map(json.loads, report.read_text().splitlines())}
    assert bad == {
        2: "bad_json",
        4: "bad_fields",
        5: "bad_fields",
        6: "schema",
        7: "bad_fields",
        8: "bad_fields",
        10: "id_reused",
    }


def test_each_line_may_name_its_source(call: Call, tmp_path: Path) -> None:
    write(tmp_path / "e.ndjson", [order(1, source="shop"), order(2, source="shp"), order(3)])
    result = call("events", "import", "e.ndjson", "--workspace", "shop")
    assert result.exit_code == 1
    assert "1 accepted, 0 known already, 2 not taken" in result.output
    assert bring(call, "--source", "nowhere").exit_code == 3


def test_an_empty_file(call: Call, tmp_path: Path) -> None:
    (tmp_path / "e.ndjson").write_text("")
    assert "0 lines" in bring(call).output


def test_a_line_that_is_too_long_spoils_no_other(call: Call, tmp_path: Path) -> None:
    long = order(1, properties={"total": 1, "text": "x" * (3 << 20)})
    write(tmp_path / "e.ndjson", [order(0), long, order(2)])
    result = bring(call)
    assert "2 accepted, 0 known already, 1 not taken" in result.output


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_ended_in_the_middle_it_goes_on_and_nothing_counts_twice(
    how: signal.Signals, code: int, call: Call, tmp_path: Path
) -> None:
    write(tmp_path / "e.ndjson", [order(number) for number in range(6000)])
    words = ["events", "import", "e.ndjson", "--workspace", "shop", "--source", "shop"]

    def hear_interrupts() -> None:
        # A shell that runs the tests in the background lets its children ignore SIGINT.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    running = subprocess.Popen(
        [sys.executable, "-m", "headrace", *words],
        cwd=tmp_path,
        preexec_fn=hear_interrupts,  # noqa: PLW1509
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("data/imports/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(how)
    assert running.wait(20) == code
    assert 0 < stored()["events"] < 6000
    assert bring(call).exit_code == 0
    assert stored() == {"events": 6000, "orders": 6000}


def test_a_line_may_name_a_version(call: Call, shop: Path, tmp_path: Path) -> None:
    types = json.loads((shop / "event_types.json").read_text())
    types["event_types"]["purchase-order"]["versions"] = {"2": {}}
    (shop / "event_types.json").write_text(json.dumps(types))
    lines: list[dict[str, Any]] = [
        {"type": "purchase-order", "id": f"o{version}", "version": version, "properties": {}}
        for version in ("2", "3")
    ]
    (tmp_path / "orders.ndjson").write_text("\n".join(map(json.dumps, lines)))
    result = call("events", "import", "orders.ndjson", "--workspace", shop, "--source", "shop")
    assert "1 accepted" in result.output
    (failed,) = json.loads(call("failed", "list", "--json").stdout)
    assert (failed["event"], failed["code"], failed["raw"]["version"]) == ("o3", "version", "3")
