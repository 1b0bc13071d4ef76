"""The commands `profiles export` and `profiles erase`."""

import asyncio
import json
import stat
from pathlib import Path

import pytest

from headrace.engine.identity import person
from headrace.engine.model import doc_key, make_key, new_id, new_profile
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Change, Claim, Row, Write

from .conftest import Call

DATA = Path("data")
AT = "2026-01-15T12:00:00.000Z"


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep two people; `ann` was somebody else before."""
    monkeypatch.setattr(person, "LATE_SECONDS", 0.01)

    async def work() -> None:
        store = open_store("sqlite:", data=DATA)
        for name in ("ann", "bob"):
            doc = new_profile(name, "main", AT) | {"traits": {"mail": f"{name}@example.org"}}
            doc["ids"] = [name, f"{name}-then"]
            event = {"id": name, "type": "x", "profile": f"{name}-then", "time": {"received": AT}}
            change = Change(new_id(), "main", Write(doc_key("profile", "main", name), doc, None))
            change.events = [Row(make_key("event", "main", "shop", name), event)]
            change.claims = [Claim(make_key("claim", name), name)]
            await store.commit(change)
            alias = {"id": f"{name}-then", "hidden": True, "merged_into": name, "frozen": {"was": name}}
            key = doc_key("profile", "main", f"{name}-then")
            await store.commit(Change(new_id(), "main", Write(key, alias, None)))
        await store.close()

    DATA.mkdir()
    asyncio.run(work())


def test_an_export_is_lines_of_json(call: Call) -> None:
    told = call("profiles", "export", "ann-then")
    assert told.exit_code == 0, told.output
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["profile", "merged", "event", "claim"]
    assert lines[0]["doc"]["traits"] == {"mail": "ann@example.org"}
    assert lines[1]["doc"]["frozen"] == {"was": "ann"}
    assert "bob" not in told.stdout


def test_an_export_into_a_file_is_for_its_owner_alone(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "ann.ndjson"
    file.write_text("old")
    told = call("profiles", "export", "ann", "--output", file)
    assert told.exit_code == 0, told.output
    assert "1 profile, 1 merged, 1 event, 1 claim" in told.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().splitlines()) == 4
    assert call("profiles", "export", "ann", "--output", tmp_path / "no" / "x").exit_code == 3


def test_who_is_not_there_is_not_exported_and_not_erased(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "nobody"
    for words in (("export", "nobody", "--output", file), ("erase", "nobody", "--yes")):
        told = call("profiles", *words)
        assert told.exit_code == 2
        assert "There is no profile nobody." in told.stderr
    assert not file.exists()
    assert call("profiles", "erase", "ann", "--yes", "--tenant", "other").exit_code == 2


def test_erasing_asks_first(call: Call) -> None:
    told = call("profiles", "erase", "ann")
    assert told.exit_code == 2
    assert "Ids of this person: ann, ann-then" in told.stderr
    assert "say --yes" in told.stderr
    assert call("profiles", "show", "ann").exit_code == 0


@pytest.mark.parametrize("id", ["ann", "ann-then"])
def test_a_person_is_erased_by_any_id(call: Call, id: str) -> None:
    told = call("profiles", "erase", id, "--yes")
    assert told.exit_code == 0, told.output
    assert "Erased: 2 profile, 1 event, 1 claim." in told.stdout
    for name in ("ann", "ann-then"):
        assert call("profiles", "show", name).exit_code == 2
        assert not any(b"ann" in file.read_bytes() for file in DATA.iterdir())
    assert call("profiles", "show", "bob-then").exit_code == 0
