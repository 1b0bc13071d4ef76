"""The command `store`: checked, copied both ways, killed and gone on with, migrated."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.store.elastic import layout
from headrace.engine.store.moving import MOVED, Kept, MovedKind
from headrace.engine.store.sqlite.schema import APPLICATION_ID, STEPS
from headrace.engine.store.upkeep import open_moving
from tests.moving_contract import everything, fill, hostile, opened
from tests.parts.elasticsearch import NAMED_BY, ElasticsearchNode
from tests.parts.ports import free_port
from tests.store_contract import change, event_row, key_of

from .conftest import Call, Result

DATA = Path("data")
NODE = os.environ.get(NAMED_BY)


def make(url: str, events: int = 0, **values: Any) -> None:
    """Fill a store with hostile documents of every kind, and with many plain events."""

    async def work() -> None:
        async with opened(url, DATA) as store:
            await fill(store, hostile() | values)
            for at in range(0, events, 1000):
                rows = [event_row(f"plain-{n}") for n in range(at, min(at + 1000, events))]
                await store.commit(change(events=rows))

    asyncio.run(work())


def kept(url: str) -> dict[MovedKind, dict[str, Kept]]:
    """Return all that a store keeps."""

    async def work() -> dict[MovedKind, dict[str, Kept]]:
        moving = await open_moving(url, data=DATA, make=True)
        try:
            return await everything(moving, 1000)
        finally:
            await moving.close()

    return asyncio.run(work())


def gone_through(url: str) -> int:
    """Return how many events a copy that is under way has noted."""

    async def work() -> int:
        moving = await open_moving(url, data=DATA, make=True)
        try:
            note = await moving.note() or {}
        finally:
            await moving.close()
        return int(note.get("kinds", {}).get("event", {}).get("done", 0))

    return asyncio.run(work())


def levels(result: Result) -> dict[str, str]:
    """Return the level of each finding."""
    return {one["name"]: one["level"] for one in json.loads(result.stdout)}


def execute(file: str, *statements: str, key: str = "") -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement, {"key": bytes.fromhex(key)})


@pytest.fixture(params=["file", "cluster"])
def other(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the URL of another store that is not there yet."""
    if NODE:
        # Settings from outside are gone by now, and the node may be asked for here for the first time.
        monkeypatch.setenv(NAMED_BY, NODE)
    return request.getfixturevalue("elastic_url") if request.param == "cluster" else "sqlite:other.db"


# Copying


def test_there_and_back_again(call: Call, other: str) -> None:
    make("sqlite:", 300)
    before = kept("sqlite:")
    there = call("store", "copy", "sqlite:", other)
    assert there.exit_code == 0, there.output
    assert "The stores are equal" in there.stdout
    assert [line.split()[1:] for line in there.stdout.splitlines() if line.startswith("event ")] == [
        ["316"] * 3
    ]
    back = call("store", "copy", other, "sqlite:back.db", "--json")
    assert back.exit_code == 0, back.output
    told = json.loads(back.stdout)
    assert told["from"] == told["to"] == {kind: len(before[kind]) for kind in MOVED}
    assert told["compared"] > 300
    assert kept("sqlite:back.db") == before


def test_killed_in_the_middle_it_goes_on(call: Call, other: str) -> None:
    make("sqlite:", 40_000)
    words = [sys.executable, "-m", "headrace", "store", "copy", "sqlite:", other]
    if other.startswith("sqlite:"):
        make_empty(other)
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    ends = time.monotonic() + 60
    while not gone_through(other) and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was too fast to be killed"
    done = gone_through(other)
    assert 0 < done < 40_016
    again = call("store", "copy", "sqlite:", other)
    assert again.exit_code == 0, again.output
    assert "The last copy was ended: only what is new or has changed is written." in again.stderr
    assert "The stores are equal" in again.stdout
    assert kept(other) == kept("sqlite:")
    third = call("store", "copy", "sqlite:", other, "--json")
    assert set(json.loads(third.stdout)["written"].values()) == {0}


def make_empty(url: str) -> None:
    kept(url)


def test_what_was_tampered_with_is_named(call: Call) -> None:
    make("sqlite:", good=1)
    assert call("store", "copy", "sqlite:", "sqlite:other.db").exit_code == 0
    key = key_of("profile", "p-good")
    two = """CAST(replace(doc, '"hostile":1', '"hostile":2') AS BLOB)"""
    execute("other.db", f"UPDATE profiles SET change = 'x', doc = {two} WHERE key = :key", key=key)  # noqa: S608
    # As if it had been deleted since the copy.
    gone = "DELETE FROM failed WHERE key = :key"
    execute("data/headrace.db", gone, key=key_of("failed", "h1"))
    result = call("store", "copy", "sqlite:", "sqlite:other.db")
    assert result.exit_code == 1
    assert f"profile {key} differs in {Path('other.db').absolute()}: traits." in result.stdout
    assert f"{Path('other.db').absolute()} has 1 failed more" in result.stdout
    assert "The stores differ" in result.stdout


def test_refusals_say_what_to_do(call: Call) -> None:
    result = call("store", "copy", "sqlite:nothing.db", "sqlite:other.db")
    assert result.exit_code == 3
    assert "There is no database" in result.stderr
    assert not Path("other.db").exists()
    make("sqlite:")
    make("sqlite:other.db")
    result = call("store", "copy", "sqlite:", "sqlite:other.db")
    assert result.exit_code == 3
    assert "has data that is not from" in result.stderr
    assert call("store", "copy", "sqlite:", "sqlite:other.db", "--into-existing").exit_code == 0
    assert call("store", "copy", "sqlite:", "sqlite:").exit_code == 3
    assert call("store", "copy", "sqlite:", "mysql:x").exit_code == 3
    assert call("store", "copy", "sqlite:", "@nofile").exit_code == 2


def test_a_url_may_stand_in_a_file(call: Call) -> None:
    make("sqlite:")
    Path("target").write_text("sqlite:other.db\n", encoding="utf-8")
    assert call("store", "copy", "sqlite:", "@target").exit_code == 0
    assert kept("sqlite:other.db") == kept("sqlite:")


# Checking


def test_a_file_that_is_well(call: Call) -> None:
    make("sqlite:")
    result = call("store", "check", "--thorough")
    assert result.exit_code == 0, result.output
    assert "16 profile, 16 session, 16 claim, 16 mark, 16 event, 16 failed" in result.stdout
    assert "integrity_check found no damage" in result.stdout
    found = levels(call("store", "check", "--json"))
    assert found.pop("disk") in {"fine", "note"}
    assert found.pop("effects") == "note"
    assert set(found.values()) == {"fine"}


def test_a_file_that_is_not_there(call: Call) -> None:
    result = call("store", "check")
    assert result.exit_code == 2
    assert "There is no database" in result.stdout
    assert not DATA.exists()


def test_tables_that_somebody_changed(call: Call) -> None:
    make("sqlite:")
    execute(
        "data/headrace.db",
        "DROP INDEX events_by_session",
        "CREATE TABLE mine (x)",
        "ALTER TABLE claims ADD COLUMN more TEXT",
    )
    result = call("store", "check")
    assert result.exit_code == 1
    assert "claims differs, events_by_session is missing, mine is not ours" in result.stdout


def test_a_file_of_another_program_and_a_damaged_one(call: Call) -> None:
    execute("other.db", "CREATE TABLE mine (x)")
    result = call("store", "check", "--store", "sqlite:other.db")
    assert result.exit_code == 1
    assert "another program" in result.stdout
    make("sqlite:", 3000)
    execute("data/headrace.db", "PRAGMA wal_checkpoint(TRUNCATE)")
    with Path("data/headrace.db").open("r+b") as file:
        for page in range(20, 200):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    result = call("store", "check")
    assert result.exit_code == 1
    assert "the file is damaged" in result.stdout


def test_a_file_that_another_process_has_locked(call: Call) -> None:
    make("sqlite:")
    with closing(sqlite3.connect("data/headrace.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        result = call("store", "check", "--json")
        connection.execute("ROLLBACK")
    assert result.exit_code == 1
    assert levels(result)["writing"] == "problem"


def test_a_cluster_that_is_well(call: Call, elastic_url: str) -> None:
    make(elastic_url)
    # What was written last is seen by searches a moment later.
    kept(elastic_url)
    result = call("store", "check", "--store", elastic_url)
    assert result.exit_code == 0, result.output
    assert "16 profile, 16 session, 16 claim, 16 mark, 16 event, 16 failed" in result.stdout
    found = levels(call("store", "check", "--store", elastic_url, "--json"))
    for name in ("cluster", "version", "mappings", "aliases", "templates", "refresh", "pending", "documents"):
        assert found[name] == "fine"


def test_a_cluster_that_was_changed(
    call: Call, elastic_url: str, elasticsearch_node: ElasticsearchNode
) -> None:
    make(elastic_url)
    prefix = elastic_url.rpartition("/")[2].partition("?")[0]

    def ask(method: str, path: str, body: Any = None) -> None:
        status, said = elasticsearch_node.ask(method, path, body)
        assert status in {200, 201}, said

    ask("PUT", f"/{prefix}-profiles/_mapping", {"properties": {"odd": {"type": "long"}}})
    ask("PUT", f"/{prefix}-profiles/_settings", {"index": {"refresh_interval": "7s"}})
    ask("PUT", f"/{prefix}-timers/_settings", {"index.blocks.write": True})
    ask("DELETE", f"/_index_template/{prefix}-claims")
    ask(
        "POST",
        "/_aliases",
        {"actions": [{"remove": {"index": f"{prefix}-claims-*", "alias": f"{prefix}-claims"}}]},
    )
    waits = {"key": "x", "pending": [], "pending_since": 1_700_000_000_000}
    ask("POST", f"/{prefix}-sessions/_update/x?refresh=true", {"doc": waits, "doc_as_upsert": True})
    result = call("store", "check", "--store", elastic_url, "--json")
    assert result.exit_code == 1
    found = levels(result)
    for name in ("mappings", "aliases", "templates", "blocks", "pending"):
        assert found[name] == "problem", name
    assert found["refresh"] == "note"
    assert "odd is mapped and should not be" in result.stdout
    assert f"{prefix}-claims is missing" in result.stdout


def test_a_cluster_that_is_away_or_has_nothing(call: Call, elastic_url: str) -> None:
    result = call("store", "check", "--store", f"elasticsearch://127.0.0.1:{free_port()}/x")
    assert result.exit_code == 2
    assert "does not answer" in result.stdout
    result = call("store", "check", "--store", elastic_url)
    assert result.exit_code == 0
    assert "There is nothing yet" in result.stdout
    assert call("store", "copy", elastic_url, "sqlite:").exit_code == 3


# Migrating


def test_a_store_of_this_version_needs_nothing(call: Call, other: str) -> None:
    make(other)
    for words in (["--dry-run"], []):
        result = call("store", "migrate", "--store", other, *words)
        assert result.exit_code == 0, result.output
        assert "there is nothing to do" in result.stdout
    assert call("store", "migrate", "--store", other, "--dry-run", "--abandon").exit_code == 2


def test_an_older_cluster_is_brought_to_this_version(
    call: Call, elastic_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(elastic_url)
    before = kept(elastic_url)
    for module in ("layout", "setup", "checking"):
        monkeypatch.setattr(
            f"headrace.engine.store.elastic.{module}.VERSION", layout.VERSION + (module == "layout")
        )
    words = ("--store", elastic_url)
    result = call("store", "check", *words)
    assert result.exit_code == 1
    assert "run `headrace store migrate`" in result.stdout
    result = call("store", "migrate", *words, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "profiles-000001: version 1, 16 documents, to be" in result.stdout
    assert "9 to do. Nothing was changed." in result.stdout
    assert call("store", "migrate", *words, "--abandon").exit_code == 0
    result = call("store", "migrate", *words, "--stopped")
    assert result.exit_code == 0, result.output
    assert "Done." in result.stdout
    assert kept(elastic_url) == before
    assert "there is nothing to do" in call("store", "migrate", *words).stdout
    assert levels(call("store", "check", *words, "--json"))["version"] == "fine"


def test_an_older_file_is_brought_to_this_version(call: Call) -> None:
    DATA.mkdir()
    execute("data/headrace.db", f"PRAGMA application_id = {APPLICATION_ID}")
    assert levels(call("store", "check", "--json"))["version"] == "note"
    result = call("store", "migrate", "--dry-run")
    assert f"its tables are {len(STEPS)} version" in result.stdout
    assert levels(call("store", "check", "--json"))["version"] == "note"
    assert call("store", "migrate").exit_code == 0
    assert set(levels(call("store", "check", "--json")).values()) <= {"fine", "note"}
    assert levels(call("store", "check", "--json"))["version"] == "fine"
    assert call("store", "migrate", "--abandon").exit_code == 0
