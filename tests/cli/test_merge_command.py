"""The commands `profiles show | merge | unmerge`."""

import asyncio
import json
from pathlib import Path

import pytest

from headrace.engine.model import EventInput
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Query
from tests.makers import chain, make_engine, make_request, write_workspace

from .conftest import Call

DATA = Path("data")
FIELDS = {f"profile.traits.{name}": f"{{{{ event.properties.{name} }}}}" for name in ("age", "city")}


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, str]:
    """Keep two visitors; returns the ids of their profiles by session."""
    types = {"merge": {"profile.traits.age": "largest"}, "event_types": {}}
    folder = write_workspace(
        tmp_path / "workspace",
        {"event_types.json": types, "set": chain("set", ("set_fields", {"fields": FIELDS}))},
    )

    async def work() -> dict[str, str]:
        engine = make_engine(folder, DATA)
        ids = {}
        for name, age, city in (("a", 40, "Ulm"), ("b", 30, "Bonn")):
            event = EventInput("set", {"age": age, "city": city})
            answer = await engine.track(make_request(event, session_id=f"s-{name}"))
            assert answer.profile is not None
            ids[name] = str(answer.profile["id"])
        await engine.stop()
        return ids | {"workspace": str(folder)}

    DATA.mkdir(exist_ok=True)
    return asyncio.run(work())


def test_what_would_come_of_a_merge_is_shown(call: Call, kept: dict[str, str]) -> None:
    words = ("profiles", "merge", kept["b"], kept["a"], "--workspace", kept["workspace"], "--dry-run")
    told = call(*words)
    assert told.exit_code == 0, told.output
    assert f"{kept['b']} would be merged into the older {kept['a']}" in told.stdout
    rows = {line.split()[0]: line.split() for line in told.stdout.splitlines()[2:]}
    assert rows["profile.traits.age"][1:3] == ["40", "30"]
    assert rows["profile.traits.age"][-1] == "largest"
    assert rows["profile.traits.city"] == ["profile.traits.city", "Ulm", "Bonn", "Bonn", "newest"]
    assert rows["profile.stats.visits"][1:4] == ["1", "1", "2"]
    as_json = json.loads(call(*words, "--json").stdout)
    assert (as_json["survivor"], as_json["profile"]["traits"]) == (kept["a"], {"age": 40, "city": "Bonn"})
    for name in "ab":
        assert json.loads(call("profiles", "show", kept[name], "--json").stdout)["id"] == kept[name]


def test_two_are_merged_shown_and_taken_apart(call: Call, kept: dict[str, str]) -> None:
    words = ("profiles", "merge", kept["a"], kept["b"], "--workspace", kept["workspace"])
    told = call(*words)
    assert told.exit_code == 0, told.output
    assert "2 events, sessions and timers were given to it." in told.stdout
    shown = call("profiles", "show", kept["b"]).stdout
    assert f"{kept['b']} was merged into it" in shown
    assert "by command line" in shown
    assert json.loads(call("profiles", "show", kept["b"], "--json").stdout)["id"] == kept["a"]
    assert call(*words).exit_code == 2
    assert "own again" in call("profiles", "unmerge", kept["b"]).stdout
    found = json.loads(call("profiles", "show", kept["b"], "--json").stdout)
    assert (found["id"], found["traits"], found["apart"]) == (
        kept["b"],
        {"age": 30, "city": "Bonn"},
        [kept["a"]],
    )
    again = call("profiles", "unmerge", kept["b"])
    assert (again.exit_code, "was not merged" in again.stderr) == (2, True)
    assert call("profiles", "merge", kept["a"], "nobody", "--workspace", kept["workspace"]).exit_code == 2
    assert asyncio.run(_owners()) == {kept["a"], kept["b"]}


async def _owners() -> set[str]:
    store = open_store("sqlite:", data=DATA)
    found = {event["profile"] for event in (await store.find(Query("event"))).items}
    await store.close()
    return found
