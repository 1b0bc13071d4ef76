"""A disk that is full, a file that is locked or damaged: 503, then recovery."""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.live.conftest import Starts
from tests.live.server import Doc, Server, track_body

BUSY_SECONDS = 5.0
"""How long the store waits for a lock."""


@pytest.fixture
def store_kind() -> str:
    """Use one store: this is about its file and disk."""
    return "embedded"


def big(number: int, size: int = 30_000) -> Doc:
    """Return a request with one large event; each is of a visit of its own."""
    body = track_body("count", session=f"s{number}", ids=[f"e{number}"])
    body["events"][0]["properties"] = {"text": "x" * size}
    return body


def post(server: Server, body: Doc) -> int:
    """Post, and look at a refusal closely: it must say when to come again, and nothing about our files."""
    status, headers, answer = server.request("POST", "/track", json.dumps(body).encode())
    if status != 200:
        assert status == 503, answer
        assert int(headers["retry-after"]) >= 1
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(answer)["code"] in ("store_unavailable", "busy")
        assert str(server.data).encode() not in answer
    return status


def fill(server: Server, first: int, most: int = 400) -> list[int]:
    """Post large events until one is refused; returns the numbers of those that were taken."""
    for number in range(first, first + most):
        if post(server, big(number)) != 200:
            return list(range(first, number))
    raise AssertionError("the disk is never full")


def has_all(server: Server, numbers: list[int]) -> bool:
    """Say whether the events can be read, and are the only ones."""
    found: set[str] = set()
    cursor: str | None = ""
    while cursor is not None:
        status, page = server.get(f"/api/events?limit=500&cursor={cursor}")
        assert status == 200, page
        found |= {event["id"] for event in page["items"]}
        cursor = page["cursor"]
    return found == {f"e{number}" for number in numbers}


def soon(check: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until
        time.sleep(0.05)


def is_ready(server: Server) -> bool:
    """Say whether requests can be taken."""
    return server.get("/readyz")[0] == 200


def fill_until_it_says_so(server: Server) -> list[int]:
    """Fill the disk until /readyz says so; a failed write may have made room by emptying the log."""
    taken: list[int] = []
    for _ in range(50):
        first = taken[-1] + 1 if taken else 0
        taken += fill(server, first)
        if not is_ready(server):
            return taken
    raise AssertionError("it is always ready again")


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(
    start: Starts, launch: Starts, small_disk: Path
) -> None:
    data = small_disk / "data"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    server = start(data=data)
    taken = fill_until_it_says_so(server)
    assert len(taken) > 5
    ready = server.get("/readyz")[1]
    assert (ready["status"], ready["store"]) == ("not_ready", "disk-full")
    assert server.said("store.write_failed")[-1]["code"] == "disk-full"
    assert has_all(server, taken)
    assert server.request("GET", "/healthz")[0] == 200

    # Killed now, it starts again or says what to do; what was acknowledged is there either way.
    server.kill()
    (small_disk / "more").write_bytes(b"x" * max(0, free(small_disk) - 8192))
    full = launch(data=data)
    soon(lambda: full.process.poll() is not None or bool(full.said("listening")))
    if full.process.poll() is not None:
        assert full.process.returncode == 3
        assert "Free some space" in full.text()
        assert "Traceback" not in full.text()
    full.end()

    ballast.unlink()
    server = start(data=data)
    assert has_all(server, taken)
    after = taken[-1] + 1
    assert post(server, big(after)) == 200
    assert has_all(server, [*taken, after])


def free(disk: Path) -> int:
    """Return the bytes that are free on a disk."""
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def test_a_full_disk_is_left_behind_without_a_restart(start: Starts, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    server = start(data=small_disk / "data")
    taken = fill_until_it_says_so(server)
    refused = taken[-1] + 1
    assert post(server, big(refused)) == 503
    ballast.unlink()
    soon(lambda: is_ready(server))
    assert post(server, big(refused)) == 200
    assert has_all(server, [*taken, refused])
    assert server.stop() == 0


def test_a_limit_on_the_size_of_files(start: Starts) -> None:
    server = start(before=["sh", "-c", 'ulimit -f 2000; exec "$@"', "sh"])
    taken = fill(server, 0)
    assert len(taken) > 5
    server.kill()
    server = start()
    assert has_all(server, taken)
    assert post(server, big(len(taken))) == 200


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the file as another process would that writes for long."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_a_lock_that_is_short_is_waited_for(start: Starts) -> None:
    server = start()
    with locked(server.data / "headrace.db"):
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(post(server, big(1))))
        thread.start()
        time.sleep(0.7)
        assert answers == []
        assert server.request("GET", "/healthz")[0] == 200
    thread.join()
    assert answers == [200]
    assert has_all(server, [1])


def test_a_lock_that_is_long_is_503_and_nothing_is_kept(start: Starts) -> None:
    server = start()
    assert post(server, big(0)) == 200
    with locked(server.data / "headrace.db"):
        answers: list[int] = []
        began = time.monotonic()
        threads = [
            threading.Thread(target=lambda n=n: answers.append(post(server, big(n)))) for n in range(1, 20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [503] * 19
        assert BUSY_SECONDS - 1 < time.monotonic() - began < 40
        assert server.get("/readyz")[1]["store"] == "store-locked"
        # Who only reads is not held up.
        assert has_all(server, [0])
    soon(lambda: is_ready(server))
    assert has_all(server, [0])
    assert [post(server, big(n)) for n in range(1, 20)] == [200] * 19
    assert has_all(server, list(range(20)))


def test_a_lock_at_the_start_holds_up_writing_only(start: Starts) -> None:
    server = start()
    assert post(server, big(0)) == 200
    assert server.stop() == 0
    with locked(server.data / "headrace.db"):
        server = start()
        assert has_all(server, [0])
        assert post(server, big(1)) == 503
    assert post(server, big(1)) == 200
    assert has_all(server, [0, 1])


def test_a_new_file_that_is_locked_is_a_refusal(launch: Starts, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with locked(data / "headrace.db"):
        refused = launch(data=data)
        assert refused.wait_until_ended() == 3
    assert "another process has locked it" in refused.text()
    assert "Traceback" not in refused.text()


def overwrite(file: Path, start: int, length: int = 60_000) -> None:
    """Damage a file from one place on."""
    with file.open("r+b") as damaged:
        damaged.seek(start)
        damaged.write(b"\xa5" * length)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file: overwrite(file, 0), "not a SQLite database"),
        (lambda file: overwrite(file, 4096), "damaged"),
        (lambda file: os.truncate(file, 4096 * 5 + 17), "damaged"),
        (lambda file: file.write_text("hello"), "not a SQLite database"),
    ],
)
def test_a_damaged_file_is_a_refusal(
    start: Starts, launch: Starts, damage: Callable[[Path], None], says: str
) -> None:
    server = start()
    assert [post(server, big(n)) for n in range(10)] == [200] * 10
    assert server.stop() == 0
    file = server.data / "headrace.db"
    damage(file)
    content = file.read_bytes()
    refused = launch()
    assert refused.wait_until_ended() == 3
    assert says in refused.text()
    assert "backup" in refused.text()
    assert "Traceback" not in refused.text()
    assert file.read_bytes() == content


def test_damage_while_it_runs_is_503_and_then_a_refusal(start: Starts, launch: Starts) -> None:
    server = start()
    assert [post(server, big(n)) for n in range(40)] == [200] * 40
    file = server.data / "headrace.db"
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite(file, 4096, file.stat().st_size - 4096)
    statuses = {post(server, big(n)) for n in range(40, 100)}
    assert 503 in statuses
    assert server.get("/api/events?limit=500")[0] == 503
    assert server.get("/readyz")[1]["store"] == "store-damaged"
    assert server.request("GET", "/healthz")[0] == 200
    server.stop()
    refused = launch()
    assert refused.wait_until_ended() == 3
    assert "restore a backup" in refused.text().lower()


def test_a_file_that_was_moved_away_takes_no_more(start: Starts, tmp_path: Path) -> None:
    server = start()
    assert post(server, big(0)) == 200
    file = server.data / "headrace.db"
    file.rename(tmp_path / "aside.db")
    assert [post(server, big(n)) for n in (1, 2)] == [503, 503]
    assert server.get("/readyz")[1]["store"] == "file-gone"
    (tmp_path / "aside.db").rename(file)
    soon(lambda: is_ready(server))
    assert [post(server, big(n)) for n in (1, 2)] == [200, 200]
    server.kill()
    assert has_all(start(), [0, 1, 2])


@pytest.mark.parametrize("kind", ["a file", "a folder for a file"])
def test_a_data_folder_that_is_none(launch: Starts, tmp_path: Path, kind: str) -> None:
    data = tmp_path / "data"
    if kind == "a file":
        data.write_text("x")
    else:
        (data / "headrace.db").mkdir(parents=True)
    refused = launch(data=data)
    assert refused.wait_until_ended() == 3
    assert "HEADRACE_STORE" in refused.text()
    assert "Traceback" not in refused.text()
