"""Erasing from the file while others use it, and what of it can be found again."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from headrace.engine.errors import BusyError
from headrace.engine.model import Doc, doc_key, make_key, new_id, new_profile
from headrace.engine.store import sqlite as store_module
from headrace.engine.store.protocol import Change, Ref, Row, Write
from headrace.engine.store.sqlite import SqliteStore

AT = "2026-01-15T12:00:00.000Z"
SECRET = "zqx-secret-"


async def live(store: SqliteStore, seed: int, steps: int = 250) -> None:
    """Let people grow and shrink at random, so that rows wander between pages; `p0` has the secret."""
    chance = random.Random(seed)
    for _ in range(steps):
        name = f"p{chance.randrange(8)}"
        text = SECRET if name == "p0" else f"other-{name}-"
        key = doc_key("profile", "main", name)
        (stored,) = await store.read([Ref("profile", key)])
        doc = stored.doc if stored else new_profile(name, "main", AT)
        doc["traits"] = {f"k{n}": text + "x" * chance.randrange(900) for n in range(chance.randrange(6))}
        change = Change(new_id(), "main", Write(key, doc, stored.version if stored else None))
        for _ in range(chance.randrange(4)):
            event: Doc = {"id": text + new_id(), "type": chance.choice("abc"), "profile": name}
            event |= {"time": {"received": AT}, "properties": {"v": text * chance.choice([1, 9, 400])}}
            change.events.append(Row(make_key("event", "main", "s", new_id()), event))
        await store.commit(change)


def has_secret(folder: Path) -> bool:
    return any(SECRET.encode() in file.read_bytes() for file in folder.iterdir())


@pytest.mark.parametrize("seed", range(3))
async def test_no_page_keeps_a_trace(tmp_path: Path, seed: int) -> None:
    store = SqliteStore(tmp_path / "h.db", busy_seconds=5, dedup_days=28)
    await live(store, seed)
    assert (await store.erase("main", "p0"))["profile"] == 1
    assert not has_secret(tmp_path)
    await store.close()


async def test_a_log_that_is_in_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "EMPTY_SECONDS", 0.2)
    store = SqliteStore(tmp_path / "h.db", busy_seconds=0.1, dedup_days=28)
    await live(store, 1, steps=20)
    with closing(sqlite3.connect(tmp_path / "h.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM profiles").fetchone()
        with pytest.raises(BusyError, match="Erase again"):
            await store.erase("main", "p0")
        reader.execute("COMMIT")
    # Nothing is left to delete, but the log is to cut.
    await store.erase("main", "p0")
    assert not has_secret(tmp_path)
    await store.close()
