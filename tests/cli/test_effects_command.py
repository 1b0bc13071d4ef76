"""The command `effects`: listed, shown, sent again, dropped."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.model import Doc, make_key, new_id, utc_now
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Change, Row
from tests.outbox.conftest import ago, effect

from .conftest import Call

DATA = Path("data")


def put(*rows: Row) -> None:
    """Keep effects in the store of the data folder."""

    async def work() -> None:
        store = open_store("sqlite:", data=DATA)
        await store.commit(Change(new_id(), "main", effects=list(rows)))
        await store.close()

    DATA.mkdir(exist_ok=True)
    asyncio.run(work())


def due() -> list[str]:
    """Return the ids of what a server would send now."""

    async def work() -> list[str]:
        store = open_store("sqlite:", data=DATA)
        leased = await store.claim_due("effect", 99, 0.001, utc_now())
        await store.close()
        return [one.key for one in leased]

    return asyncio.run(work())


@pytest.fixture
def kept() -> dict[str, str]:
    """Keep four effects, and return their ids by name."""
    failed: Doc = {"attempts": [{"at": "2026-01-15T12:00:00.000Z", "ms": 3.0, "status": 404}], "tries": 1}
    dead = failed | {
        "status": "dead",
        "reason": "status 404",
        "response": {"status": 404, "text": "[b]no[/b]"},
    }
    put(
        effect("waits", "crm.example", ago(40)),
        effect("gone", "crm.example", ago(30), **dead),
        effect("lost", "erp.example", ago(20), **dead),
        effect("came", "erp.example", ago(10), status="sent"),
    )
    return {name: make_key("effect", name) for name in ("waits", "gone", "lost", "came")}


def listed(call: Call, *words: str) -> list[str]:
    """Return the ids that a list shows."""
    result = call("effects", "list", "--json", *words)
    assert result.exit_code == 0, result.output
    return [doc["id"] for doc in json.loads(result.stdout)]


def test_effects_are_listed_by_status_and_host(call: Call, kept: dict[str, str]) -> None:
    assert listed(call) == [kept[name] for name in ("came", "lost", "gone", "waits")]
    assert listed(call, "--status", "dead") == [kept["lost"], kept["gone"]]
    assert listed(call, "--host", "CRM.example") == [kept["gone"], kept["waits"]]
    assert listed(call, "--limit", "1") == [kept["came"]]
    assert listed(call, "--tenant", "other") == []
    assert listed(call, "--event", make_key("event", "waits")) == [kept["waits"]]
    shown = call("effects", "list").stdout
    assert "crm.example" in shown
    assert "status 404" in shown
    assert call("effects", "list", "--tenant", "other").stdout == "There are none.\n"
    assert "Did you mean 'dead'" in call("effects", "list", "--status", "deed").stderr


def test_one_is_shown_with_its_attempts(call: Call, kept: dict[str, str]) -> None:
    shown = call("effects", "show", kept["gone"]).stdout
    for text in ("dead", "https://crm.example/gone", "1 attempts", "status 404", "[b]no[/b]"):
        assert text in shown
    assert json.loads(call("effects", "show", kept["gone"], "--json").stdout)["host"] == "crm.example"
    assert call("effects", "show", "none").exit_code == 2


def test_dead_ones_are_sent_again(call: Call, kept: dict[str, str]) -> None:
    result = call("effects", "resend", kept["gone"], "none")
    assert result.exit_code == 1
    assert "none: There is no such effect." in result.stderr
    assert result.stdout == "1 effects will be sent again.\n"
    assert set(due()) == {kept["waits"], kept["gone"]}
    assert call("effects", "resend", "--all", "--host", "erp.example").stdout.startswith("1 effects")
    assert kept["lost"] in listed(call, "--status", "pending")
    doc: Any = json.loads(call("effects", "show", kept["lost"], "--json").stdout)
    assert (doc["tries"], doc["resent"], len(doc["attempts"])) == (0, 1, 1)
    assert "reason" not in doc
    assert call("effects", "resend").exit_code == 2
    assert call("effects", "resend", "--all", kept["gone"]).exit_code == 2


def test_what_waits_is_dropped_and_what_was_sent_is_not(call: Call, kept: dict[str, str]) -> None:
    assert call("effects", "drop", kept["waits"]).stdout == "1 effects dropped.\n"
    assert due() == []
    assert listed(call, "--status", "dropped") == [kept["waits"]]
    result = call("effects", "drop", kept["came"])
    assert (result.exit_code, "was sent" in result.stderr) == (1, True)


def test_a_store_that_is_not_there_is_not_made(call: Call) -> None:
    result = call("effects", "list")
    assert result.exit_code == 3
    assert "There is no database" in result.stderr
    assert not DATA.exists()
