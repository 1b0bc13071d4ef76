"""The outbox: sent, tried again, dead, in order, and nobody waits for others."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from headrace.engine.errors import StoreError
from headrace.engine.model import Doc, from_iso, make_key, utc_now
from headrace.engine.outbox import worker
from headrace.engine.outbox.retry import Outcome
from headrace.engine.store.protocol import Leased, Row, Store
from tests.outbox.conftest import SENT, Bench, ago, effect


async def sends(_: Doc) -> Outcome:
    await asyncio.sleep(0.001)
    return SENT


async def hangs(_: Doc) -> Outcome:
    await asyncio.sleep(3600)
    return SENT


async def test_an_effect_is_sent_once_and_says_so(store: Store) -> None:
    async def answers(_: Doc) -> Outcome:
        return Outcome("sent", 12.5, status=202, body="thanks")

    bench = Bench(store, answers)
    async with bench.running():
        await bench.put(effect("a"))
        doc = await bench.until("a", status="sent")
    (attempt,) = doc["attempts"]
    assert (attempt["status"], attempt["ms"]) == (202, 12.5)
    assert doc["response"] == {"status": 202, "text": "thanks"}
    assert bench.sent == ["a"]
    assert bench.metrics.effects == {("one.example", "sent"): 1}


async def test_a_failure_is_tried_again_later_each_time(store: Store) -> None:
    answers = [
        Outcome("again", 1.0, status=500, down=True),
        Outcome("again", 1.0, error="no answer", down=True),
        SENT,
    ]

    async def says(_: Doc) -> Outcome:
        return answers.pop(0)

    bench = Bench(store, says)
    async with bench.running():
        await bench.put(effect("a"))
        once = await bench.until("a", tries=1)
        wait = (from_iso(once["due"]) - utc_now()).total_seconds()
        assert 0.3 < wait <= 1.0
        twice = await bench.until("a", tries=2)
        wait = (from_iso(twice["due"]) - utc_now()).total_seconds()
        assert 0.8 < wait <= 2.0
        done = await bench.until("a", status="sent")
    assert [one.get("status", one.get("error")) for one in done["attempts"]] == [500, "no answer", 200]
    assert bench.metrics.effects == {("one.example", "retried"): 2, ("one.example", "sent"): 1}


async def test_what_cannot_be_sent_is_dead_and_is_told_once(store: Store) -> None:
    async def refuses(_: Doc) -> Outcome:
        return Outcome("dead", 1.0, status=404, body="nobody here")

    bench = Bench(store, refuses)
    async with bench.running():
        await bench.put(effect("a"))
        doc = await bench.until("a", status="dead")
    assert doc["reason"] == "status 404"
    assert "ending" not in doc
    assert [told["id"] for told in bench.dead] == [doc["id"]]
    assert bench.sent == ["a"]


@pytest.mark.parametrize(
    ("settings", "created", "reason"),
    [
        ({"outbox_attempts": 1}, 0, "status 503, after 1 attempts"),
        ({"outbox_max_age_hours": 1}, 3600 - 0.3, "status 503, and no more time is left"),
    ],
)
async def test_an_effect_is_given_up_after_attempts_or_time(
    store: Store, settings: dict[str, Any], created: float, reason: str
) -> None:
    async def fails(_: Doc) -> Outcome:
        return Outcome("again", 1.0, status=503, down=True)

    bench = Bench(store, fails, **settings)
    async with bench.running():
        await bench.put(effect("a", created=ago(created)))
        doc = await bench.until("a", status="dead")
    assert doc["reason"] == reason


async def test_too_old_an_effect_is_not_sent(store: Store) -> None:
    bench = Bench(store, sends, outbox_max_age_hours=1)
    async with bench.running():
        await bench.put(effect("a", created=ago(7200)))
        await bench.until("a", status="dead")
    assert bench.sent == []


async def test_what_cannot_be_told_yet_is_not_dead_yet(store: Store) -> None:
    async def refuses(_: Doc) -> Outcome:
        return Outcome("dead", 1.0, status=410)

    bench = Bench(store, refuses)
    tell, refusals = bench.outbox._tell, [StoreError("away")]

    async def fails_once(doc: Doc) -> None:
        if refusals:
            raise refusals.pop()
        await tell(doc)

    bench.outbox._tell = fails_once
    async with bench.running():
        await bench.put(effect("a"))
        await bench.until("a", ending="status 410")
        await bench.until("a", status="dead")
    assert len(bench.dead) == 1
    assert bench.sent == ["a"]


async def test_two_outboxes_share_the_work(store: Store) -> None:
    bench = Bench(store, sends)
    async with bench.running(bench.another()):
        await bench.put(*(effect(f"e{n}") for n in range(600)))
        await bench.until("e599", status="sent")
        await asyncio.sleep(0.1)
    assert Counter(bench.sent) == Counter(f"e{n}" for n in range(600))
    assert bench.most["one.example"] <= 32


async def test_a_host_that_hangs_holds_up_only_itself(store: Store) -> None:
    async def says(doc: Doc) -> Outcome:
        return await (hangs if "slow" in doc["request"]["url"] else sends)(doc)

    bench = Bench(store, says)
    async with bench.running():
        await bench.put(*(effect(f"s{n}", "slow.example") for n in range(2_000)))
        await bench.put(*(effect(f"f{n}", "fast.example") for n in range(50)))
        await bench.until("f49", status="sent")
        assert bench.most["slow.example"] == 4
        # What there was no room for comes again later, and is not kept in memory.
        async with asyncio.timeout(20):
            while True:
                put_off = from_iso((await bench.doc("s1500"))["due"]) - utc_now()
                if bench.outbox._holding < 100 and put_off.total_seconds() > 0.5:
                    break
                await asyncio.sleep(0.05)
        worker.STOP_SECONDS, before = 0.1, worker.STOP_SECONDS
        await bench.outbox.stop()
        worker.STOP_SECONDS = before
    # A stop gave back what was under way, too: nobody holds any of them.
    assert len(await store.claim_due("effect", 3000, 60, utc_now() + timedelta(seconds=400))) == 2_000


async def test_nobody_waits_behind_a_host_that_has_much_to_take(store: Store) -> None:
    async def says(doc: Doc) -> Outcome:
        await asyncio.sleep(0.1 if "slow" in doc["request"]["url"] else 0.001)
        return Outcome("sent", 100.0 if "slow" in doc["request"]["url"] else 1.0, status=200)

    bench = Bench(store, says)
    async with bench.running():
        # It takes 160 a second: 25 s of work.
        await bench.put(*(effect(f"s{n}", "slow.example") for n in range(4_000)))
        await asyncio.sleep(1.0)
        await bench.put(*(effect(f"f{n}", "fast.example") for n in range(40)))
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(bench.until(f"f{n}", status="sent") for n in range(40)))
        assert asyncio.get_running_loop().time() - began < 2.0
        sent = len(bench.sent)
        await asyncio.sleep(1.0)
        # And the other one goes on as it can.
        assert len(bench.sent) - sent > 80


async def test_a_fault_with_one_effect_leaves_the_others_alone(store: Store) -> None:
    bench = Bench(store, sends)
    bad = effect("bad")
    bad.doc["created"] = "no time at all"
    async with bench.running():
        await bench.put(bad, effect("good"))
        await bench.until("good", status="sent")
    assert (await bench.doc("bad"))["status"] == "pending"
    assert bench.outbox._holding == 0


async def test_a_host_that_fails_is_left_alone_and_probed(store: Store) -> None:
    is_down = True
    calls = 0

    async def says(_: Doc) -> Outcome:
        nonlocal calls
        calls += 1
        return Outcome("again", 1.0, error="refused", down=True) if is_down else SENT

    bench = Bench(store, says)
    async with bench.running():
        await bench.put(*(effect(f"e{n}") for n in range(40)))
        await asyncio.sleep(0.5)
        assert calls <= 12
        is_down = False
        await asyncio.gather(*(bench.until(f"e{n}", seconds=20, status="sent") for n in range(40)))
    assert bench.most["one.example"] <= 16


async def test_more_go_at_a_time_when_all_is_well(store: Store) -> None:
    bench = Bench(store, sends, outbox_per_host=12)
    async with bench.running():
        await bench.put(*(effect(f"e{n}") for n in range(300)))
        await bench.until("e299", status="sent")
    assert bench.most["one.example"] == 12


def chain(count: int) -> list[Row]:
    """Return effects of which each names the one before."""
    rows: list[Row] = []
    for number in range(count):
        after: dict[str, Any] = (
            {"after": {"key": rows[-1].key, "at": rows[-1].doc["created"]}} if rows else {}
        )
        rows.append(effect(f"c{number}", ordered=True, **after))
    return rows


async def test_ordered_effects_go_one_after_the_other(store: Store) -> None:
    fails = {"c2": 2}

    async def says(doc: Doc) -> Outcome:
        name = doc["request"]["url"].rpartition("/")[2]
        await asyncio.sleep(0.002)
        if fails.get(name):
            fails[name] -= 1
            return Outcome("again", 1.0, status=409)
        return Outcome("dead", 1.0, status=400) if name == "c3" else SENT

    bench = Bench(store, says)
    # Two of them, as in two processes: neither knows what the other holds.
    async with bench.running(bench.another()):
        for row in reversed(chain(6)):
            await bench.put(row)
        await bench.until("c5", seconds=20, status="sent")
    assert bench.sent == [f"c{n}" for n in (0, 1, 2, 2, 2, 3, 4, 5)]
    assert bench.most["one.example"] == 1


async def test_a_long_line_behind_one_that_fails_is_given_back_whole(store: Store) -> None:
    """Longer than calls may be deep, three for each; all of it is in the hands of one process when the first fails."""
    said = asyncio.Event()

    async def says(doc: Doc) -> Outcome:
        if doc["request"]["url"].endswith("/c0") and not said.is_set():
            await said.wait()
            return Outcome("again", 1.0, status=500)
        return SENT

    bench = Bench(store, says)
    line = chain(500)
    async with bench.running():
        await bench.put(*line)
        async with asyncio.timeout(30):
            while len(bench.outbox._held) < len(line):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        said.set()
        await bench.put(effect("other", host="two.example"))
        await bench.until("other", seconds=20, status="sent")
        await bench.until("c499", seconds=60, status="sent")
    assert [name for name in bench.sent if name != "other"] == ["c0", *(f"c{n}" for n in range(500))]


async def test_an_ordered_effect_waits_for_one_that_is_not_written_yet(store: Store) -> None:
    first, second = chain(2)
    bench = Bench(store, sends)
    async with bench.running():
        await bench.put(second)
        await asyncio.sleep(0.3)
        assert bench.sent == []
        await bench.put(first)
        await bench.until("c1", status="sent")
    assert bench.sent == ["c0", "c1"]


async def test_an_ordered_effect_does_not_wait_for_one_that_is_gone(store: Store) -> None:
    row = effect(
        "a", ordered=True, after={"key": make_key("effect", "gone"), "at": "2026-01-01T00:00:00.000Z"}
    )
    bench = Bench(store, sends)
    async with bench.running():
        await bench.put(row)
        await bench.until("a", status="sent")


async def test_a_store_that_is_away_for_a_moment_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(store, sends)
    done_many, left = store.done_many, [1, 1]

    async def sometimes(kind: Any, done: list[tuple[Leased, Doc]]) -> list[bool]:
        if left:
            left.pop()
            raise StoreError("away")
        return await done_many(kind, done)

    monkeypatch.setattr(store, "done_many", sometimes)
    async with bench.running():
        await bench.put(effect("a"))
        await bench.until("a", status="sent")
    assert bench.sent == ["a"]
    assert not left


async def test_a_fault_of_the_sender_loses_no_effect(store: Store) -> None:
    async def breaks(_: Doc) -> Outcome:
        raise KeyError("x")

    bench = Bench(store, breaks)
    async with bench.running():
        await bench.put(effect("a"))
        doc = await bench.until("a", tries=1)
    assert doc["status"] == "pending"
    assert "KeyError" in doc["attempts"][0]["error"]


async def test_a_stop_waits_for_what_is_under_way(store: Store) -> None:
    begun = asyncio.Event()

    async def slow(_: Doc) -> Outcome:
        begun.set()
        await asyncio.sleep(0.2)
        return SENT

    bench = Bench(store, slow)
    async with bench.running():
        await bench.put(effect("a"))
        await begun.wait()
    assert (await bench.doc("a"))["status"] == "sent"
