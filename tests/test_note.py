"""What is said in the log and the metrics of a request that is done."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from headrace.compose import load_settings, make_engine
from headrace.engine.engine import Engine
from headrace.engine.model import EventInput, TrackRequest, utc_now

WORKFLOW = {
    "on": {"event": ["order"]},
    "nodes": {
        "tell": {
            "plugin": "log",
            "config": {"message": "order {{ event.properties.id }}", "level": "warning"},
        },
        "break": {"plugin": "fail", "config": {"message": "no items"}},
    },
}
NEVER = {"on": {"event": ["order"], "when": "false"}, "nodes": {"stop": {"plugin": "stop"}}}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "sources.json").write_text('{"sources": {"shop": {}}}', encoding="utf-8")
    for name, workflow in (("orders", WORKFLOW), ("never", NEVER)):
        (tmp_path / f"workflows/{name}.json").write_text(json.dumps(workflow), encoding="utf-8")
    return tmp_path


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as found:
        yield found


async def send(engine: Engine, event_id: str) -> None:
    event = EventInput("order", {"id": 7}, id=event_id)
    answer = await engine.track(TrackRequest("shop", [event], "track", utc_now(), "visit-1"))
    assert answer.events == [event_id]


async def test_failed_nodes_and_logged_lines_are_in_the_log(
    workspace: Path, tmp_path: Path, lines: list[Any]
) -> None:
    engine = make_engine(load_settings(workspace, data=tmp_path / "data"))
    await engine.start()
    try:
        await send(engine, "e-1")
    finally:
        await engine.stop()
    about = {"workflow": "orders", "event_id": "e-1", "log_level": "warning"}
    assert {"event": "order 7", "node": "tell", **about} in lines
    assert {"event": "node failed", "node": "break", "error": "no items", **about} in lines
    assert engine.metrics.runs == {("orders", "error"): 1, ("never", "when"): 1}
    assert engine.metrics.node_failures == {("orders", "break"): 1}
