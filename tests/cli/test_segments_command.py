"""The command `segments`: listed, rebuilt, explained."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.model import EventInput
from headrace.engine.store.protocol import Query
from tests.makers import NOW, make_engine, make_request, write_workspace

from .conftest import Call

DATA = Path("data")
WHEN = "events('order').count >= 2 and profile.stats.visits > 0"


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, Any]:
    """Keep three profiles with one order, two and three; returns the workspace and the id of the last."""

    async def work() -> dict[str, Any]:
        workspace = write_workspace(tmp_path / "workspace", {})
        engine = make_engine(workspace, DATA)
        for number in range(3):
            await engine.track(
                make_request(*[EventInput("order")] * (number + 1), received=NOW, session_id=f"s{number}")
            )
        found = (await engine.store.find(Query("profile"))).items
        await engine.stop()
        segments = {
            "vip": {"about": "By hand."},
            "buyer": {"when": WHEN},
            "now": {"when": "event.type == 'x'"},
        }
        write_workspace(workspace, {"segments.json": {"segments": segments}})
        return {"workspace": str(workspace), "profile": found[0]["id"]}

    DATA.mkdir(exist_ok=True)
    return asyncio.run(work())


def test_they_are_listed_rebuilt_and_explained(call: Call, kept: dict[str, Any]) -> None:
    place = ("--workspace", kept["workspace"])
    listed = {doc["segment"]: doc for doc in json.loads(call("segments", "list", "--json", *place).stdout)}
    assert listed["vip"] == {"segment": "vip", "about": "By hand.", "members": 0}
    assert (listed["buyer"]["rebuild"], listed["buyer"]["members"]) == ("due", 0)
    assert listed["now"]["rebuild"] == "never"
    shown = call("segments", "list", *place).stdout
    assert "nodes write it" in shown
    assert WHEN in shown

    explained = call("segments", "explain", "buyer", kept["profile"], *place).stdout
    assert "not known yet: events('order').count" in explained

    done = call("segments", "rebuild", *place)
    assert (done.exit_code, done.stdout) == (0, "3 profiles were asked, 3 of them changed.\n")
    again = json.loads(call("segments", "rebuild", "buyer", "--json", *place).stdout)
    assert again == {"profiles": 3, "changed": 0, "busy": 0, "errors": []}
    listed = {doc["segment"]: doc for doc in json.loads(call("segments", "list", "--json", *place).stdout)}
    assert (listed["buyer"]["rebuild"], listed["buyer"]["members"]) == ("done", 2)

    told = json.loads(call("segments", "explain", "buyer", kept["profile"], "--json", *place).stdout)
    assert (told["is_member"], told["holds"], [part["value"] for part in told["parts"]]) == (
        True,
        True,
        [True, True],
    )
    explained = call("segments", "explain", "buyer", kept["profile"], *place).stdout
    assert "is in buyer" in explained
    assert "events('order').count 3" in explained


def test_wrong_names_are_told(call: Call, kept: dict[str, Any]) -> None:
    place = ("--workspace", kept["workspace"])
    wrong = call("segments", "explain", "buyr", "p", *place)
    assert (wrong.exit_code, "Did you mean 'buyer'" in wrong.stderr) == (2, True)
    by_hand = call("segments", "rebuild", "vip", *place)
    assert (by_hand.exit_code, "it has no condition" in by_hand.stderr) == (2, True)
    nobody = call("segments", "explain", "buyer", "nobody", *place)
    assert (nobody.exit_code, "There is no profile nobody" in nobody.stderr) == (2, True)
    nothing = call("segments", "rebuild", "now", *place)
    assert (nothing.exit_code, "nothing to rebuild" in nothing.stdout) == (0, True)
