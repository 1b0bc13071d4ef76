"""Erasing from the file while others use it, and what of it can be found again."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.errors import BusyError
from headrace.engine.model import Doc, doc_key, make_key, new_id, new_profile
from headrace.engine.store import sqlite as store_module
from headrace.engine.store.open import FILE_NAME, sqlite_path
from headrace.engine.store.protocol import Change, Claim, Committed, Ref, Row, Write
from headrace.engine.store.sqlite import SqliteStore, wiping
from headrace.engine.store.sqlite.erasing import wipe_file
from tests.stores import bytes_of

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
    return any(SECRET.encode() in bytes_of(file) for file in folder.iterdir())


@pytest.mark.parametrize("seed", range(3))
async def test_no_page_keeps_a_trace(tmp_path: Path, seed: int) -> None:
    store = SqliteStore(tmp_path / "h.db", busy_seconds=5, dedup_days=28)
    await live(store, seed)
    assert (await store.erase("main", "p0"))["profile"] == 1
    assert not has_secret(tmp_path)
    await store.close()


async def test_a_log_that_is_in_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "WIPE_SECONDS", 0.2)
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


async def crowd(store: SqliteStore, seed: int, text: str = SECRET) -> str:
    """Let a dozen people send events, in a way that is the same for a seed; returns the one whose id has the text."""
    chance = random.Random(seed)
    who = [f"{chance.randrange(65_536):04x}-{'x' * 31}" for _ in range(12)]
    who[0] = f"{chance.randrange(65_536):04x}-{text}{'0' * 20}"
    for step in range(160):
        change, profile = Change(new_id(), "main"), chance.choice(who)
        for n in range(chance.randrange(1, 9)):
            event: Doc = {
                "id": f"e{step}-{n}",
                "type": chance.choice(["view", "buy", "a"]),
                "profile": profile,
            }
            event |= {"time": {"received": AT}, "properties": {}}
            change.events.append(Row(make_key("event", "main", "s", f"{seed}-{step}-{n}"), event))
        await store.commit(change)
    return who[0]


async def test_no_copy_of_a_row_that_was_moved_outlives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite leaves bytes of rows that it moves in gaps of pages: of these seeds, and of every tenth or so."""
    left = []
    for seed in (8, 25, 129):
        folder = tmp_path / str(seed)
        store = SqliteStore(folder / "h.db", busy_seconds=5, dedup_days=28)
        profile = await crowd(store, seed)
        with monkeypatch.context() as patch:
            patch.setattr(store_module, "wipe_file", cut_log)
            await store.erase("main", profile)
        left.append(has_secret(folder))
        await store.erase("main", profile)
        assert not has_secret(folder)
        # Nor does it come back from pages that are in memory.
        await crowd(store, seed + 1, "zqx-nobody-")
        await cut_log(str(folder / "h.db"), 0, 0)
        assert not has_secret(folder)
        await store.close()
    assert any(left)


@pytest.mark.parametrize("pragma", ["auto_vacuum = FULL", "page_size = 1024", "page_size = 65536"])
async def test_files_that_another_program_began_are_wiped_and_whole(tmp_path: Path, pragma: str) -> None:
    """Where pages have maps, these begin as pages of a B-tree do; a page of 65,536 bytes tells its end by 0."""
    path = tmp_path / "h.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"PRAGMA page_size = 512; PRAGMA {pragma}; CREATE TABLE one (n); DROP TABLE one"
        )
    store = SqliteStore(path, busy_seconds=5, dedup_days=28)
    for seed in (8, 25):
        await live(store, seed, steps=100)
        profile = await crowd(store, seed)
        await store.erase("main", "p0")
        await store.erase("main", profile)
        assert not has_secret(tmp_path)
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        name, value = pragma.split(" = ")
        assert connection.execute(f"PRAGMA {name}").fetchone() == (1 if value == "FULL" else int(value),)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def cut_log(path: str, _busy_seconds: float, _seconds: float) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


async def test_others_go_on_writing_while_somebody_reads_an_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log cannot be cut meanwhile, and who tries must not hold the lock for writing as long as writers wait."""
    monkeypatch.setattr(store_module, "WIPE_SECONDS", 3.0)
    store = SqliteStore(tmp_path / "h.db", busy_seconds=5, dedup_days=28)
    await live(store, 1, steps=20)
    other = SqliteStore(tmp_path / "h.db", busy_seconds=1, dedup_days=28)
    with closing(sqlite3.connect(tmp_path / "h.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM profiles").fetchone()
        erasing = asyncio.create_task(store.erase("main", "p0"))
        written = 0
        while not erasing.done():
            # Raises StoreError when the file is locked for longer than a second.
            claim = Claim(make_key("claim", str(written)), "p1", {})
            assert await other.commit(Change(new_id(), "main", claims=[claim])) == Committed()
            written += 1
            await asyncio.sleep(0.01)
        with pytest.raises(BusyError, match="Erase again"):
            await erasing
    assert written > 10
    await store.erase("main", "p0")
    assert not has_secret(tmp_path)
    for one in (store, other):
        await one.close()


async def test_a_link_to_the_file_is_followed(tmp_path: Path) -> None:
    """SQLite keeps the log beside the file itself: a server that was killed finds it, and an erasure cuts it."""
    place, data = tmp_path / "disk" / "h.db", tmp_path / "data"
    for folder in (place.parent, data):
        folder.mkdir()
    place.touch()
    (data / FILE_NAME).symlink_to(place)
    path = sqlite_path("sqlite:", data)
    assert path == place
    store = SqliteStore(path, busy_seconds=5, dedup_days=28)
    await live(store, 1, steps=60)
    assert store.describe()["log_bytes"] > 0
    # As after a kill: what is in the log only is found again.
    again = SqliteStore(path, busy_seconds=5, dedup_days=28)
    assert (await again.erase("main", "p0"))["profile"] == 1
    assert not has_secret(place.parent)
    for one in (store, again):
        await one.close()
    # Nor does who names the link itself erase in vain.
    linked = SqliteStore(data / FILE_NAME, busy_seconds=5, dedup_days=28)
    await linked.erase("main", "p1")
    await linked.close()


async def test_two_stores_in_one_process_stand_that_another_process_comes_and_goes(tmp_path: Path) -> None:
    """The last process that closes a file deletes its log, and knows by the locks whether it is the last."""
    first = SqliteStore(tmp_path / "h.db", busy_seconds=5, dedup_days=28)
    await live(first, 1, steps=20)
    second = SqliteStore(tmp_path / "h.db", busy_seconds=5, dedup_days=28)
    assert (await second.erase("main", "p0"))["profile"] == 1
    await second.close()
    third = SqliteStore(tmp_path / "h.db", busy_seconds=5, dedup_days=28)
    for store in (first, third):
        await live(store, 3, steps=20)
        assert (await store.erase("main", "p0"))["profile"] == 1
    await first.close()
    await third.close()
    assert not has_secret(tmp_path)
    with closing(sqlite3.connect(tmp_path / "h.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_file_that_is_wiped_again_and_again_while_it_is_written_keeps_everything(
    tmp_path: Path,
) -> None:
    """Also by programs that are killed, and with a second process that writes."""
    path = tmp_path / "h.db"
    store = SqliteStore(path, busy_seconds=10, dedup_days=28)
    other = begin("-c", OTHER, path)
    writing = asyncio.create_task(write_and_erase(store))
    chance, wiped = random.Random(1), 0
    while not writing.done():
        if chance.random() < 0.5:
            await wipe_file(str(path), 10, 15)
            wiped += 1
        else:
            await killed(path, chance.uniform(0.02, 0.1))
    kept = await writing
    said, _ = await asyncio.to_thread(other.communicate, timeout=60)
    assert other.returncode == 0
    assert wiped > 2
    keys = [doc_key("profile", "main", name) for name in kept]
    found = await store.read([Ref("profile", key) for key in keys])
    assert [one and one.doc for one in found] == list(kept.values())
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM other").fetchone() == (int(said),)


async def write_and_erase(store: SqliteStore) -> dict[str, Doc]:
    """Write people who grow and shrink, and erase some; returns those that must be there."""
    chance, kept = random.Random(2), dict[str, Doc]()
    versions = dict[str, Any]()
    for step in range(800):
        name = f"p{chance.randrange(200)}"
        key = doc_key("profile", "main", name)
        if chance.random() < 0.02 and name in kept:
            await store.erase("main", name)
            del kept[name]
            versions.pop(name)
            continue
        doc = new_profile(name, "main", AT)
        doc["traits"] = {"step": step, "long": "x" * chance.randrange(1, 9000)}
        assert (
            await store.commit(Change(new_id(), "main", Write(key, doc, versions.get(name)))) == Committed()
        )
        (stored,) = await store.read([Ref("profile", key)])
        assert stored is not None
        kept[name], versions[name] = stored.doc, stored.version
    return kept


def begin(*words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


async def killed(path: Path, seconds: float) -> None:
    """Begin to wipe, and kill the program in the middle."""
    with begin("-I", wiping.__file__, path, "10", "15") as process:
        await asyncio.sleep(seconds)
        process.kill()


OTHER = """
import random, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute("CREATE TABLE other (n INTEGER PRIMARY KEY, text TEXT)")
written = 0
ends = time.monotonic() + 3
while time.monotonic() < ends:
    connection.execute("INSERT INTO other (text) VALUES (?)", ["y" * random.randrange(3000)])
    written += 1
print(written)
"""
"""A process that writes the same file, and counts what was written."""
