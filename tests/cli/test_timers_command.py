"""The command `timers`: listed, shown, cancelled."""

import asyncio
import json
from pathlib import Path

import pytest

from headrace.engine.model import EventInput
from headrace.engine.store.protocol import Query
from tests.makers import NOW, make_engine, make_request, write_workspace
from tests.test_timers import for_order, waiting

from .conftest import Call

DATA = Path("data")


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, str]:
    """Keep two runs that wait; returns the ids of their timers by workflow."""

    async def work() -> dict[str, str]:
        workspace = write_workspace(tmp_path / "workspace", {"w": waiting(), "o": for_order()})
        engine = make_engine(workspace, DATA)
        await engine.track(make_request(EventInput("x", id="e1"), received=NOW))
        await engine.track(make_request(EventInput("cart", id="e2"), received=NOW))
        found = (await engine.store.find(Query("timer"))).items
        await engine.stop()
        return {doc["workflow"]: doc["id"] for doc in found}

    DATA.mkdir(exist_ok=True)
    return asyncio.run(work())


def test_timers_are_listed(call: Call, kept: dict[str, str]) -> None:
    listed = json.loads(call("timers", "list", "--json").stdout)
    assert {doc["workflow"]: doc["id"] for doc in listed} == kept
    assert not any("input" in doc for doc in listed)
    assert json.loads(call("timers", "list", "--json", "--status", "fired").stdout) == []
    assert json.loads(call("timers", "list", "--json", "--profile", "nobody").stdout) == []
    shown = call("timers", "list").stdout
    assert kept["w"] in shown
    assert "pending" in shown
    assert call("timers", "list", "--tenant", "other").stdout == "There are none.\n"
    assert "Did you mean 'fired'" in call("timers", "list", "--status", "fird").stderr


def test_one_is_shown(call: Call, kept: dict[str, str]) -> None:
    shown = call("timers", "show", kept["o"]).stdout
    assert "wait waits for order until 2026-01-15T13:00:00.000Z" in shown
    told = json.loads(call("timers", "show", kept["w"], "--json").stdout)
    assert (told["kind"], told["node"], told["status"]) == ("run", "n1", "pending")
    assert call("timers", "show", "none").exit_code == 2
    assert call("timers", "show", kept["w"], "--tenant", "other").exit_code == 2


def test_runs_are_cancelled(call: Call, kept: dict[str, str]) -> None:
    result = call("timers", "cancel", kept["w"], kept["o"], "none")
    assert (result.exit_code, result.stdout) == (1, "2 timers cancelled.\n")
    assert "none: There is no such timer." in result.stderr
    again = call("timers", "cancel", kept["w"])
    assert (again.exit_code, again.stdout) == (1, "0 timers cancelled.\n")
    assert "already" in again.stderr
    shown = call("timers", "show", kept["w"]).stdout
    assert "cancelled by an operator" in shown
