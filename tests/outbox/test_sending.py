"""One attempt: what is sent, what an answer means, how long to wait, what a lane lets through."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from headrace.engine.calls.client import Reply
from headrace.engine.errors import CallError, UnsetSecretError
from headrace.engine.metrics import Metrics
from headrace.engine.model import Doc, from_iso
from headrace.engine.outbox.breaker import FAILURES, Breaker
from headrace.engine.outbox.lanes import Item, Lane, Lanes
from headrace.engine.outbox.retry import LONGEST_SECONDS, Outcome, asked_wait, backoff, judge
from headrace.engine.outbox.sending import Limits, Sending, host_of, said, told
from headrace.engine.store.protocol import Leased
from tests.outbox.conftest import effect

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
LIMITS = Limits(20, 3 * 86_400)
DOWN = Outcome("again", 1.0, error="no answer", down=True)
WELL = Outcome("sent", 1.0, status=200)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeCalls:
    """Notes what is sent, and answers."""

    def __init__(self, answer: Reply | CallError) -> None:
        self.answer = answer
        self.sent: list[Any] = []

    async def send(self, call: Mapping[str, Any], *, key: str, traceparent: str | None = None) -> Reply:
        self.sent.append((call, key, traceparent))
        if isinstance(self.answer, CallError):
            raise self.answer
        return self.answer


class FakeMails:
    """Takes every mail."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, mail: Mapping[str, Any], *, key: str, seconds: float) -> None:
        self.sent.append((mail, key, seconds))


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 204, 299), "sent"),
        ((408, 409, 425, 429, 500, 501, 503, 599), "again"),
        ((301, 304, 400, 401, 404, 410, 422), "dead"),
    ],
)
def test_what_a_status_means(statuses: tuple[int, ...], verdict: str) -> None:
    assert {judge(status) for status in statuses} == {verdict}


def test_waits_double_and_end() -> None:
    dice = random.Random(1)
    for tries in range(1, 40):
        longest = min(2.0 ** (tries - 1), LONGEST_SECONDS)
        assert longest / 2 <= backoff(tries, dice) <= longest


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Thu, 15 Jan 2026 12:01:00 GMT", 60.0),
        ("Thu, 15 Jan 2026 11:00:00 GMT", 0.0),
        ("99999999999", 86_400.0),
        ("soon", None),
        ("-5", None),
        ("1e9999", None),
        ("Thu, 15 Jan 2026", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str, seconds: float | None) -> None:
    assert asked_wait({"retry-after": text}, NOW) == seconds


async def test_a_call_is_sent_with_its_key_and_within_its_time() -> None:
    calls, mails = FakeCalls(Reply(202, {}, b"ok", 3.0)), FakeMails()
    send = Sending(calls, mails, 30)
    doc = effect("a", traceparent="00-1-2-3").doc
    doc["request"]["timeout_seconds"] = 60
    assert await send(doc) == Outcome("sent", 3.0, status=202, body="ok")
    ((call, key, parent),) = calls.sent
    assert (call["timeout_seconds"], key, parent) == (30, doc["id"], "00-1-2-3")
    outcome = await send(doc | {"request": {"mail": {"to": ["a@b.c"]}}})
    assert (outcome.verdict, outcome.status) == ("sent", None)
    assert mails.sent == [({"to": ["a@b.c"]}, doc["id"], 10.0)]


@pytest.mark.parametrize(("again", "verdict"), [(True, "again"), (False, "dead")])
async def test_no_answer_is_an_error(again: bool, verdict: str) -> None:
    send = Sending(FakeCalls(CallError("why", retryable=again)), FakeMails(), 30)
    outcome = await send(effect("a").doc)
    assert (outcome.verdict, outcome.error, outcome.down) == (verdict, "why", again)


async def test_a_secret_that_is_not_set_is_not_the_hosts_fault() -> None:
    send = Sending(FakeCalls(UnsetSecretError("why", retryable=True)), FakeMails(), 30)
    outcome = await send(effect("a").doc)
    assert (outcome.verdict, outcome.down) == ("again", False)


def test_an_answer_that_cannot_be_read_was_one() -> None:
    outcome = said(Reply(200, {}, b"", 1.0, "the answer was cut off"))
    assert (outcome.verdict, outcome.error) == ("sent", "the answer was cut off")
    assert len(said(Reply(500, {}, "ä".encode() * 9000, 1.0)).body) == 1024
    assert said(Reply(429, {"retry-after": "9"}, b"", 1.0)).wait == 9.0
    assert said(Reply(200, {"retry-after": "9"}, b"", 1.0)).wait is None
    assert not said(Reply(409, {}, b"", 1.0)).down


def test_attempts_are_kept_up_to_a_number() -> None:
    doc, dice = effect("a", created=NOW).doc, random.Random(1)
    for number in range(30):
        doc = told(doc, DOWN, Limits(99, 10**9), NOW + timedelta(seconds=number), dice)
    assert (doc["tries"], len(doc["attempts"])) == (30, 20)
    assert doc["attempts"][-1]["error"] == "no answer"


def test_a_receiver_may_ask_for_time() -> None:
    busy = Outcome("again", 1.0, status=429, wait=100.0, down=True)
    doc = told(effect("a", created=NOW).doc, busy, LIMITS, NOW, random.Random(1))
    assert from_iso(doc["due"]) == NOW + timedelta(seconds=100)


@pytest.mark.parametrize(
    ("request_", "host"),
    [
        ({"url": "https://CRM.example:8443/x?y@z"}, "crm.example:8443"),
        ({"url": "http://[::1]/"}, "[::1]"),
        ({"url": {"secret": "HOOK"}}, "secret HOOK"),
        ({"mail": {}}, "mail"),
        ({"url": "nonsense"}, "?"),
        ({}, "?"),
    ],
)
def test_the_host_of_a_request(request_: Doc, host: str) -> None:
    assert host_of(request_) == host


def test_a_breaker_opens_probes_and_closes() -> None:
    breaker, now = Breaker(random.Random(1)), 0.0
    for _ in range(FAILURES):
        assert breaker.room(9, now) == 9
        breaker.failed(now)
    assert breaker.room(9, now) == 0
    pauses = []
    for _ in range(9):
        pauses.append(breaker.until - now)
        # Others that were under way say nothing new.
        breaker.failed(now)
        now = breaker.until
        assert breaker.room(9, now) == 1
        breaker.failed(now)
    assert pauses[0] < 1.3
    assert all(later > sooner for sooner, later in pairwise(pauses[:5]))
    assert pauses[-1] <= 75
    breaker.succeeded()
    now = breaker.until
    assert breaker.room(9, now) == 9
    breaker.hold(5, now)
    assert breaker.room(9, now + 4.9) == 0
    breaker.succeeded()
    assert breaker.room(9, now + 4.9) == 0
    assert breaker.room(9, now + 5) == 9


def item(number: int) -> Item:
    row = effect(f"e{number}")
    return Item(Leased(row.key, row.doc, "lease"), "one.example", 0.0)


def test_a_lane_sheds_what_waits_when_nothing_comes_back() -> None:
    clock = Clock()
    lane = Lane("one.example", 16, clock, random.Random(1))
    for number in range(300):
        if lane.takes():
            lane.queue.append(item(number))
    assert 200 <= len(lane.queue) <= 256
    assert len(list(lane.ready())) == 4
    assert lane.shed() == []
    clock.now += 3
    assert len(lane.shed()) > 200
    assert len(lane.queue) == 8
    assert not lane.takes()
    # Those that have to wait come again at different times, and first soon.
    waits = [lane.put_off(0) for _ in range(50)]
    assert max(waits) <= 2.0
    assert max(lane.put_off(9) for _ in range(200)) > 20.0
    for _ in range(4):
        lane.ended(WELL)
    assert lane.is_moving


def test_a_busy_host_is_left_alone_for_as_long_as_it_asks() -> None:
    clock = Clock()
    lane = Lane("one.example", 16, clock, random.Random(1))
    lane.queue.append(item(1))
    assert len(list(lane.ready())) == 1
    lane.ended(Outcome("again", 1.0, status=429, wait=30.0, down=True))
    lane.queue.append(item(2))
    assert list(lane.ready()) == []
    clock.now += 30
    assert len(list(lane.ready())) == 1


def test_hosts_of_which_nothing_waits_are_forgotten() -> None:
    lanes = Lanes(16, Clock(), random.Random(1))
    kept = lanes.of("kept")
    kept.queue.append(item(1))
    for number in range(3_000):
        lanes.of(f"h{number}")
    assert len(list(lanes)) <= 1_001
    assert lanes.of("kept") is kept


def test_many_hosts_are_counted_together() -> None:
    metrics = Metrics()
    for number in range(500):
        metrics.effect(f"h{number}", "sent")
    assert len(metrics.effects) == 101
    assert metrics.effects["other", "sent"] == 400
