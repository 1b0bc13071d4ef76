"""Faults of the embedded store: full, locked, damaged, foreign, killed."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.engine import crash
from headrace.engine.crash import CRASH_POINTS, crash_point, set_crash_point
from headrace.engine.errors import BusyError, StoreError, StoreRefused
from headrace.engine.model import iso
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Committed, Query, Ref, Row, Store
from headrace.engine.store.sqlite import SqliteStore, apply, writer
from headrace.engine.store.sqlite.ask import find_page
from headrace.engine.store.sqlite.erasing import wipe_file
from headrace.engine.store.sqlite.files import connect
from headrace.engine.store.sqlite.rows import pack_key, unpack_key
from headrace.engine.store.sqlite.schema import APPLICATION_ID, STEPS, migrate
from tests.store_contract import (
    NOW,
    WORKER,
    add_one,
    change,
    event_key,
    event_row,
    has_committed,
    key_of,
    one,
    profile_write,
    read_profile,
)
from tests.stores import bytes_of

Open = Callable[..., SqliteStore]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Open stores in `tmp_path` and close them after the test."""
    stores: list[SqliteStore] = []

    def opening(url: str = "sqlite:", **options: Any) -> SqliteStore:
        store = open_store(url, data=tmp_path, **options)
        assert isinstance(store, SqliteStore)
        stores.append(store)
        return store

    yield opening
    for store in stores:
        await store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def refusal(url: str, data: Path, **options: Any) -> str:
    """Return why a store is not opened."""
    with pytest.raises(StoreRefused) as raised:
        open_store(url, data=data, **options)
    return str(raised.value)


def big_event(name: str, size: int = 20_000) -> Row:
    return event_row(name, "p", properties={"text": "x" * size})


async def fill(store: Store, first: int) -> tuple[list[str], StoreError]:
    """Write until the store refuses; return the keys that it took."""
    taken: list[str] = []
    while True:
        row = big_event(f"e{first + len(taken)}")
        try:
            assert has_committed(await store.commit(change(events=[row])))
        except StoreError as error:
            return taken, error
        taken.append(row.key)


async def write_waits(writes: Sequence[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*writes, return_exceptions=True)


# Where the file is


async def test_the_file_is_in_the_data_folder_and_private(opened: Open, tmp_path: Path) -> None:
    data = tmp_path / "new" / "folder"
    store = open_store("sqlite:", data=data)
    assert (data / "headrace.db").stat().st_mode & 0o777 == 0o600
    assert data.stat().st_mode & 0o777 == 0o700
    await store.close()
    for url in (f"sqlite:{tmp_path}/a.db", f"sqlite://{tmp_path}/b.db"):
        opened(url)
    assert (tmp_path / "a.db").exists()
    assert (tmp_path / "b.db").exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgres://me:secret@host/db", "There is: sqlite:"),
        ("", "There is: sqlite:"),
        ("sqlite", "There is: sqlite:"),
        ("sqlite::memory:", "name a file"),
        ("sqlite:/tmp/x.db?mode=ro", "name a file"),
        ("sqlite:/tmp/", "name a file"),
        ("sqlite:/tmp", "is a folder"),
        ("sqlite:/proc/none/x.db", "cannot be made or opened"),
        ("sqlite:/dev/null/x.db", "cannot be made or opened"),
    ],
)
def test_a_url_that_names_no_file_is_refused(url: str, says: str, tmp_path: Path) -> None:
    message = refusal(url, tmp_path)
    assert says in message
    assert "secret" not in message


# What is in the file


async def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "headrace.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    assert "another program" in refusal("sqlite:", tmp_path)
    assert path.read_bytes() == before


async def test_a_newer_file_is_refused(opened: Open, tmp_path: Path) -> None:
    await opened().close()
    with_newer = sqlite3.connect(tmp_path / "headrace.db")
    with_newer.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    with_newer.close()
    assert "newer Headrace" in refusal("sqlite:", tmp_path)


@pytest.mark.parametrize("content", [b"hello", b"x" * 10_000, b"SQLite format 2\0" + b"\0" * 5000])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "headrace.db").write_bytes(content)
    message = refusal("sqlite:", tmp_path)
    assert "not a SQLite database" in message
    assert "Restore a backup" in message


async def filled_file(opened: Open, tmp_path: Path) -> Path:
    store = opened()
    await asyncio.gather(*(store.commit(change(events=[event_row(f"e{n}", "p")])) for n in range(500)))
    await store.close()
    return tmp_path / "headrace.db"


@pytest.mark.parametrize("size", [20, 100, 4096, 50_000])
async def test_a_truncated_file_is_refused(opened: Open, tmp_path: Path, size: int) -> None:
    path = await filled_file(opened, tmp_path)
    os.truncate(path, size)
    message = refusal("sqlite:", tmp_path)
    assert "restore a backup" in message.lower()


async def test_a_damaged_file_is_refused(opened: Open, tmp_path: Path) -> None:
    path = await filled_file(opened, tmp_path)
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096, 3):
            file.seek(page * 4096)
            file.write(b"\xa5" * 2048)
    message = refusal("sqlite:", tmp_path)
    assert "damaged" in message
    assert "restore a backup" in message


async def test_damage_while_it_is_open_is_an_error_and_not_an_answer(opened: Open, tmp_path: Path) -> None:
    path = await filled_file(opened, tmp_path)
    store = opened()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with pytest.raises(StoreError, match="damaged"):
        await store.read([Ref("seen", event_key("e1")), Ref("claim", "x"), Ref("profile", "x")])
    with pytest.raises(StoreError, match="damaged"):
        await store.find(Query("event"))
    with pytest.raises(StoreError, match="damaged"):
        await store.commit(change(events=[event_row("new")]))
    assert await store.ready() == "store-damaged"


async def test_steps_are_taken_once_and_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "x.db")
    (tmp_path / "x.db").touch()
    connection = connect(path, busy_seconds=1, cache_kib=100)
    assert migrate(connection, path) == len(STEPS)
    assert migrate(connection, path) == 0
    assert connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    more = (*STEPS, ("CREATE TABLE extra (x)",), ("CREATE TABLE more (x)", "CREATE TABLE more (x)"))
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, path, more)
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    assert not tables & {"extra", "more"}
    assert migrate(connection, path, more[:-1]) == 1
    connection.close()


async def test_two_may_open_a_new_file_at_the_same_time(tmp_path: Path) -> None:
    stores = await asyncio.gather(
        *(asyncio.to_thread(open_store, "sqlite:", data=tmp_path) for _ in range(6))
    )
    outcomes = await asyncio.gather(
        *(store.commit(change(profile=profile_write(f"p{n}"))) for n, store in enumerate(stores))
    )
    assert outcomes == [Committed()] * 6
    for store in stores:
        await store.close()


# Who may write


def run_as_nobody(code: str, *values: object) -> str:
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys\nfrom pathlib import Path\n{code}", *map(str, values)],
        env=os.environ | {"PYTHONPATH": str(WORKER.parent.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


OPEN_AS_NOBODY = """
from headrace.engine.errors import StoreRefused
from headrace.engine.store.open import open_store
import headrace.engine.store.sqlite
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    open_store("sqlite:" + sys.argv[1], data=Path("/"))
except StoreRefused as error:
    print("refused:", error)
"""


async def test_a_file_or_folder_that_may_not_be_written_is_refused(opened: Open, tmp_path: Path) -> None:
    await opened().close()
    path = tmp_path / "headrace.db"
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder != Path("/tmp"):  # noqa: S108 - pytest's own folders are made passable, not the machine's
            folder.chmod(0o755)
    for place, mode in ((tmp_path / "new.db", 0o644), (path, 0o600), (path, 0o644)):
        path.chmod(mode)
        message = run_as_nobody(OPEN_AS_NOBODY, place)
        assert message.startswith("refused:"), message
        assert "Let the server's user write" in message or "permissions" in message


async def test_a_lock_of_another_is_waited_for_and_then_an_error(opened: Open, tmp_path: Path) -> None:
    store = opened(busy_seconds=0.3)
    await store.commit(change(profile=profile_write("p")))
    other = sqlite3.connect(tmp_path / "headrace.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    results = await write_waits([store.commit(change(events=[event_row(f"e{n}")])) for n in range(5)])
    assert all(isinstance(result, StoreError) and "locked" in str(result) for result in results)
    assert (await read_profile(store, "p")).doc["id"] == "p"
    assert await store.ready() == "store-locked"
    waiting = asyncio.ensure_future(store.commit(change(events=[event_row("e1")])))
    await asyncio.sleep(0.1)
    other.execute("COMMIT")
    other.close()
    assert has_committed(await waiting)
    assert await store.ready() == ""


async def test_a_file_that_is_locked_at_the_start_is_refused(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "headrace.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert "another process has locked it" in refusal("sqlite:", tmp_path, busy_seconds=0.2)
    other.close()


async def test_a_file_that_was_moved_away_takes_no_more(opened: Open, tmp_path: Path) -> None:
    store = opened()
    (tmp_path / "headrace.db").rename(tmp_path / "elsewhere.db")
    with pytest.raises(StoreError, match="moved or deleted"):
        await store.commit(change(profile=profile_write("p")))
    assert await store.ready() == "file-gone"
    (tmp_path / "elsewhere.db").rename(tmp_path / "headrace.db")
    assert await store.ready() == ""
    assert has_committed(await store.commit(change(profile=profile_write("p"))))


async def test_the_log_of_a_file_that_was_moved_away_is_kept_for_it(opened: Open, tmp_path: Path) -> None:
    """Whoever comes meanwhile makes no new file there, since SQLite deletes the log of an empty one."""
    store, place = opened(), tmp_path / "headrace.db"
    assert has_committed(await store.commit(change(profile=profile_write("before"))))
    place.rename(tmp_path / "elsewhere.db")
    with pytest.raises(StoreError, match="moved or deleted"):
        await store.find(Query("profile"))
    with pytest.raises(StoreError, match="may still stand"):
        await wipe_file(str(place), 1, 1)
    assert "Put the file back beside it" in refusal("sqlite:", tmp_path)
    assert not place.exists()
    (tmp_path / "elsewhere.db").rename(place)
    assert has_committed(await store.commit(change(profile=profile_write("after"))))
    # What a kill leaves: the files as they are now.
    later = tmp_path / "later"
    later.mkdir()
    for name in ("headrace.db", "headrace.db-wal"):
        (later / name).write_bytes(bytes_of(tmp_path / name))
    again = open_store("sqlite:", data=later)
    for name in ("before", "after"):
        assert (await read_profile(again, name)).doc["id"] == name
    await again.close()


# Room


async def test_a_full_disk_refuses_and_goes_on_when_there_is_room(opened: Open, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 500_000)
    store = opened(f"sqlite:{small_disk}/x.db")
    taken: list[str] = []
    # A failed write may make room by emptying the log; it is full when even the probe finds none.
    while await store.ready() == "":
        more, error = await fill(store, len(taken))
        taken += more
    assert "full" in str(error)
    assert "Free some space" in str(error)
    assert taken
    assert await store.ready() == "disk-full"
    assert all(await store.read([Ref("seen", key) for key in taken]))
    ballast.unlink()
    assert await store.ready() == ""
    assert has_committed(await store.commit(change(events=[big_event("after")])))
    await store.close()
    again = opened(f"sqlite:{small_disk}/x.db")
    assert all(await again.read([Ref("seen", key) for key in (*taken, event_key("after"))]))
    assert await one(again, "seen", event_key(f"e{len(taken)}")) is None
    await again.close()


LIMITED = """
import asyncio, resource, signal
from tests.store_contract import change, event_row
from headrace.engine.errors import StoreError
from headrace.engine.store.open import open_store

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    store = open_store("sqlite:", data=Path(sys.argv[1]))
    taken = 0
    try:
        while True:
            await store.commit(change(events=[event_row(f"e{taken}", properties={"x": "x" * 5000})]))
            taken += 1
    except StoreError as error:
        print("RESULT", taken, await store.ready() != "", error, flush=True)
    os._exit(0)

asyncio.run(main())
"""


async def test_a_limit_on_the_size_of_files_is_an_error(opened: Open, tmp_path: Path) -> None:
    done = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"import os, sys\nfrom pathlib import Path\n{LIMITED}", str(tmp_path)),
        env=os.environ | {"PYTHONPATH": str(WORKER.parent.parent)},
        stdout=subprocess.PIPE,
    )
    out, _ = await done.communicate()
    _, taken, failing, *_ = next(x for x in out.decode().splitlines() if x.startswith("RESULT")).split()
    assert failing == "True"
    store = opened()
    found = await store.read([Ref("seen", event_key(f"e{n}")) for n in range(int(taken) + 1)])
    assert int(taken) > 5
    assert all(found[: int(taken)])


async def test_one_bad_change_does_not_harm_its_batch(opened: Open) -> None:
    store = opened()
    good = [store.commit(change(events=[event_row(f"e{n}")])) for n in range(20)]
    bad = [
        store.commit(change(events=[event_row(name, type=kind)]))
        for name, kind in (("x", "\ud800"), ("y", ["l"]))
    ]
    results = await write_waits([*good[:10], *bad, *good[10:]])
    assert [has_committed(result) for result in results] == [True] * 10 + [False] * 2 + [True] * 10
    assert all(isinstance(result, StoreError) for result in results[10:12])
    assert await store.ready() == ""


async def test_tables_that_are_gone_are_a_fault_of_the_store(opened: Open, tmp_path: Path) -> None:
    store = opened()
    other = sqlite3.connect(tmp_path / "headrace.db", isolation_level=None)
    other.execute("ALTER TABLE events RENAME TO elsewhere")
    waits = [store.commit(change(events=[event_row(f"e{n}")])) for n in range(3)]
    assert all(isinstance(result, StoreError) for result in await write_waits(waits))
    assert store.describe()["failure"] == "store-failed"
    other.execute("ALTER TABLE elsewhere RENAME TO events")
    other.close()
    assert has_committed(await store.commit(change(events=[event_row("e")])))
    assert await store.ready() == ""


async def test_too_many_waiting_changes_are_turned_away(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING", 10)
    store = opened()
    results = await write_waits([store.commit(change(events=[event_row(f"e{n}")])) for n in range(30)])
    assert sum(isinstance(result, BusyError) for result in results) == 20
    assert sum(isinstance(result, Committed) for result in results) == 10
    assert store.describe()["waiting"] == 0
    assert has_committed(await store.commit(change(events=[event_row("after")])))


async def test_one_who_stopped_waiting_holds_up_nobody(opened: Open) -> None:
    store = opened()
    gone = asyncio.ensure_future(store.commit(change(events=[event_row("e1")])))
    await asyncio.sleep(0)
    gone.cancel()
    assert has_committed(await store.commit(change(events=[event_row("e2")])))
    assert await one(store, "seen", event_key("e1")) is not None


async def test_a_question_that_takes_too_long_is_ended(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    await store.commit(
        change(events=[event_row(f"e{n}", properties={"list": list(range(500))}) for n in range(200)])
    )
    monkeypatch.setattr("headrace.engine.store.sqlite.ASK_SECONDS", -1)
    with pytest.raises(BusyError, match="shorter time"):
        await store.count(Query("event", where={"properties.list": "x"}))
    monkeypatch.undo()
    assert await store.count(Query("event")) == 200


# Plans and rows


def test_keys_are_packed_and_come_back() -> None:
    for key in ("0" * 32, "ab" * 16, "AB" * 16, "x", "", "é" * 32, "0 " * 16, "_" * 32):
        assert unpack_key(pack_key(key)) == key
    assert pack_key("ab" * 16) == b"\xab" * 16


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query("event"), "events_listed"),
        (Query("event", type="a", since=NOW), "events_listed"),
        (Query("event", profile="p"), "events_by_profile"),
        (Query("event", profile="p", type="a", happened_since=NOW), "events_by_profile"),
        (Query("event", session="s"), "events_by_session"),
        (Query("session", profile="p"), "sessions_by_profile"),
        (Query("session"), "sessions_listed"),
        (Query("profile"), "profiles_listed"),
        (Query("effect", event="e"), "effects_by_event"),
        (Query("failed"), "failed_listed"),
    ],
)
async def test_questions_use_their_index(opened: Open, tmp_path: Path, query: Query, index: str) -> None:
    opened()
    connection = connect(str(tmp_path / "headrace.db"), busy_seconds=1, cache_kib=100)
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    find_page(connection, query)
    connection.set_trace_callback(None)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked[-1]}")]
    connection.close()
    assert any(index in line for line in plan), plan
    assert not any(line.startswith("SCAN") and "LIST" not in line for line in plan), plan


def contents(folder: Path) -> list[bytes]:
    return [bytes_of(file) for file in folder.iterdir()]


async def test_erased_text_is_not_left_in_the_file(opened: Open, tmp_path: Path) -> None:
    store = opened()
    secret = "find me if you can"
    await store.commit(change(profile=profile_write("p", traits={"name": secret}), events=[big_event("e")]))
    await store.erase("main", "p")
    assert not any(secret.encode() in data for data in await asyncio.to_thread(contents, tmp_path))


async def test_what_is_pruned_is_many_transactions(opened: Open) -> None:
    store = opened()
    old = NOW - timedelta(days=100)
    await asyncio.gather(*(store.commit(change(events=[event_row(f"e{n}", "p", old)])) for n in range(1200)))
    writing = asyncio.ensure_future(store.prune({"event": 30}, NOW))
    assert has_committed(await store.commit(change(profile=profile_write("p"))))
    assert await writing == {"event": 1200, "mark": 1200}
    assert await store.count(Query("event")) == 0


# Being killed


def test_crash_points_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    monkeypatch.setattr(crash, "_name", "")
    set_crash_point("store.before_commit:3")
    for _ in range(2):
        crash_point("store.before_commit")
        crash_point("store.after_commit")
    assert killed == []
    crash_point("store.before_commit")
    assert killed == [(os.getpid(), signal.SIGKILL)]
    for bad in ("nowhere", "store.before_commit:0", "store.before_commit:x", "store.before_commit:²"):
        with pytest.raises(ValueError, match="HEADRACE_CRASH_AT"):
            set_crash_point(bad)
    set_crash_point("")
    assert len(set(CRASH_POINTS)) == len(CRASH_POINTS)


async def write_until_killed(tmp_path: Path, start: str, point: str = "", seconds: float = 0) -> list[str]:
    """Return the names of the events that a killed process was told are durable."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(WORKER), "write", "sqlite:", str(tmp_path), start, point),
        env=os.environ | {"PYTHONPATH": str(WORKER.parent.parent)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline()] if not point else []
    if not point:
        await asyncio.sleep(seconds)
        process.kill()
    lines += (await process.stdout.read()).splitlines(keepends=True)
    assert await process.wait() == -signal.SIGKILL
    return [line.decode().strip() for line in lines if line.endswith(b"\n")]


async def check_after_kill(store: Store, start: str, names: list[str]) -> None:
    """Every acknowledged event is there, and each profile's count equals its events."""
    assert all(await store.read([Ref("seen", event_key(name)) for name in names]))
    for who in range(8):
        profile = await one(store, "profile", key_of("profile", f"{start} {who}"))
        events = await store.count(Query("event", profile=f"{start} {who}"))
        assert events == (profile.doc["value"] if profile else 0)


async def test_nothing_acknowledged_is_lost_when_killed(opened: Open, tmp_path: Path) -> None:
    for turn in range(4):
        names = await write_until_killed(tmp_path, f"t{turn}", seconds=0.05 + 0.11 * turn)
        assert names
        store = opened()
        await check_after_kill(store, f"t{turn}", names)
        await store.close()


@pytest.mark.parametrize("point", ["store.before_commit", "store.after_commit"])
@pytest.mark.parametrize("times", [1, 30])
async def test_nothing_is_half_when_killed_at_a_point(
    opened: Open, tmp_path: Path, point: str, times: int
) -> None:
    names = await write_until_killed(tmp_path, "t", f"{point}:{times}")
    store = opened()
    await check_after_kill(store, "t", names)
    await store.commit(change(profile=profile_write("p")))
    await add_one(store, "p")
    assert (await store.prune({"event": 0}, NOW - timedelta(days=9)))["event"] == 0


async def test_a_copy_taken_by_sqlite_opens(opened: Open, tmp_path: Path) -> None:
    store = opened()
    await store.commit(change(profile=profile_write("p", seen=iso(NOW))))
    source = sqlite3.connect(tmp_path / "headrace.db")
    copy = sqlite3.connect(tmp_path / "copy.db")
    source.backup(copy)
    source.close()
    copy.close()
    shutil.copyfile(tmp_path / "copy.db", tmp_path / "again.db")
    assert (await read_profile(opened(f"sqlite:{tmp_path}/again.db"), "p")).doc["seen"] == iso(NOW)


async def test_a_question_about_one_profile_does_not_wait_for_reports(opened: Open) -> None:
    store = opened()
    ended = threading.Event()
    long = [asyncio.create_task(store._ask(lambda _: ended.wait(60))) for _ in range(4)]
    try:
        await asyncio.sleep(0.05)
        async with asyncio.timeout(30):
            assert await store.count(Query("event", profile="p")) == 0
    finally:
        ended.set()
        await asyncio.gather(*long)


# How changes come together


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many changes each transaction takes, and let steps be long enough to see them."""
    found: list[int] = []

    def noting(connection: sqlite3.Connection, batch: Sequence[Any], known: Any) -> Any:
        found.append(len(batch))
        return apply.apply_batch(connection, batch, known)

    monkeypatch.setattr(writer, "apply_batch", noting)
    monkeypatch.setattr(writer, "STEP_SECONDS", 0.3)
    return found


async def test_many_changes_wait_for_those_that_come_just_after(opened: Open, batches: list[int]) -> None:
    store = opened()

    async def late(name: str) -> Any:
        await asyncio.sleep(0.1)
        return await store.commit(change(events=[event_row(name)]))

    at_once = [store.commit(change(events=[event_row(f"e{n}")])) for n in range(4)]
    assert all(map(has_committed, await asyncio.gather(*at_once, late("f0"), late("f1"))))
    assert batches == [6]


async def test_few_changes_wait_for_nobody(opened: Open, batches: list[int]) -> None:
    store = opened()
    began = asyncio.get_running_loop().time()
    for number in range(3):
        writes = [store.commit(change(events=[event_row(f"e{number}-{n}")])) for n in range(3)]
        assert all(map(has_committed, await asyncio.gather(*writes)))
    assert batches == [3, 3, 3]
    assert asyncio.get_running_loop().time() - began < 0.3


async def test_a_store_that_closes_gathers_no_more(opened: Open, batches: list[int]) -> None:
    store = opened()
    writes = [asyncio.ensure_future(store.commit(change(events=[event_row(f"e{n}")]))) for n in range(10)]
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    await store.close()
    assert all(map(has_committed, await asyncio.gather(*writes)))
    assert asyncio.get_running_loop().time() - began < 2 * 0.3
    assert sum(batches) == 10
