"""A cluster that refuses, hangs, forgets to answer or answers by half: the right status in time, then recovery."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from headrace.engine.store.elastic.place import read_place
from tests.live.server import Server, track_body, write_workspace
from tests.live.traffic import Sent, Traffic, check_place
from tests.parts import faults
from tests.parts.elasticsearch import ElasticsearchNode
from tests.parts.faults import BulkItem
from tests.parts.proxy import Fault, FaultProxy
from tests.store_fixtures import own_place
from tests.stores import ElasticPlace

DEADLINE_SECONDS = 10.0
"""Of a request, by default."""

QUICK_SECONDS, QUICK_DEADLINE_SECONDS = 1.0, 3.0
"""What one request to the cluster, and one to a door, may take where the cluster hangs: to wait less for it."""

TOO_LATE_SECONDS = 1.5 * QUICK_SECONDS
"""An answer that nobody waits for any more."""

BACK_WITHIN_SECONDS = 10.0
TAKEN_WITHIN_SECONDS = 20.0
"""Until some requests are taken where nothing is amiss."""
MOST_MIB = 250


class Rig:
    """One server for all faults, behind a proxy: it must be as good as new after each, with no help.

    `deadline` is its requests'. No attempt begins after that, and one takes the place's `timeout` at most: within both,
    and a second for the rest, everybody is answered.
    """

    def __init__(self, server: Server, proxy: FaultProxy, place: ElasticPlace, deadline: float) -> None:
        self.server = server
        self.proxy = proxy
        self.place = place
        self.timeout = read_place(server.place.url).timeout
        self.answered_within = deadline + self.timeout + 1.0
        self.sent: list[Traffic] = []

    @asynccontextmanager
    async def load(self, name: str) -> AsyncIterator[Traffic]:
        """Send from before a fault until after it; then everything must be well again, and nothing be lost."""
        traffic = Traffic(name, seed=len(self.sent))
        self.sent.append(traffic)
        sending = asyncio.create_task(traffic.send(self.server.port))
        try:
            await traffic.reach(20, TAKEN_WITHIN_SECONDS)
            yield traffic
            self.proxy.clear()
            await self._recovers(traffic)
        finally:
            self.proxy.clear()
            traffic.stopping = True
            await sending
        assert traffic.slowest < self.answered_within
        await self._check(traffic)

    async def _recovers(self, traffic: Traffic) -> None:
        await traffic.reach(len(traffic.acknowledged) + 100, BACK_WITHIN_SECONDS)
        busy = traffic.busy
        await traffic.reach(len(traffic.acknowledged) + 100, TAKEN_WITHIN_SECONDS)
        assert traffic.busy == busy, "it still refuses"

    async def _check(self, traffic: Traffic) -> None:
        """Nothing is lost or doubled, and nothing is held any more."""
        await asyncio.to_thread(self.server.wait_until_written)
        status, ready = await asyncio.to_thread(self.server.get, "/readyz")
        assert status == 200
        facts = ready["facts"]
        assert (facts["failure"], facts["waiting"], facts["waiting_bytes"]) == ("", 0, 0)
        assert self.server.resident_mib() < MOST_MIB
        await self.place.finish()
        check_place(self.place, *self.sent)
        await traffic.send_again(self.server.port, traffic.unanswered)
        traffic.acknowledged += traffic.unanswered
        traffic.unanswered = []
        await asyncio.to_thread(self.server.wait_until_written)
        before = self.place.contents()
        await traffic.send_again(self.server.port, traffic.acknowledged)
        await asyncio.to_thread(self.server.wait_until_written)
        assert self.place.contents() == before
        check_place(self.place, *self.sent)


@contextmanager
def rigged(node: ElasticsearchNode, path: Path, options: str, deadline: float) -> Iterator[Rig]:
    """Start a server; `options` are added to its store's URL."""
    host, _, port = node.host.partition(":")
    with own_place(node) as place, FaultProxy(host, int(port)) as proxy:
        behind = ElasticPlace(node, place.url.replace(node.host, proxy.host) + options)
        server = Server(
            write_workspace(path / "workspace"),
            path / "data",
            place=behind,
            HEADRACE_REQUEST_DEADLINE_SECONDS=f"{deadline:g}",
        )
        try:
            yield Rig(server.wait_until_ready(), proxy, place, deadline)
            assert server.stop() == 0
            assert "Traceback" not in server.text()
        finally:
            server.end()


@pytest.fixture(scope="module")
def usual(elasticsearch_node: ElasticsearchNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Start a server with the times that it has unless it is told others."""
    with rigged(elasticsearch_node, tmp_path_factory.mktemp("usual"), "", DEADLINE_SECONDS) as rig:
        yield rig


@pytest.fixture(scope="module")
def rig(elasticsearch_node: ElasticsearchNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Start a server that gives up sooner."""
    options, path = f"&timeout={QUICK_SECONDS:g}", tmp_path_factory.mktemp("quick")
    with rigged(elasticsearch_node, path, options, QUICK_DEADLINE_SECONDS) as rig:
        yield rig


def every(number: int) -> Callable[[int, BulkItem], bool]:
    return lambda position, _: position % number == 0


def is_of(kind: str) -> Callable[[int, BulkItem], bool]:
    """Return what picks the items of a kind."""
    return lambda _, item: f"-{kind}" in item.place["_index"]


BULK, MGET = "/_bulk$", "/_mget$"
SHORT: list[tuple[str, str, Fault, int]] = [
    ("a bulk is refused by 429", BULK, faults.answer(429), 20),
    ("a bulk is refused by 503", BULK, faults.answer(503, retry_after=1), 20),
    ("reads are refused by 429", MGET, faults.answer(429), 20),
    ("reads are refused by 503", MGET, faults.answer(503), 20),
    ("a bulk's connection drops before it", BULK, faults.drop_before, 20),
    ("a bulk's reply is dropped", BULK, faults.drop_after, 20),
    ("replies to reads are dropped", MGET, faults.drop_after, 20),
    ("a bulk's reply is cut", BULK, faults.cut_reply, 20),
    ("replies to reads are cut", MGET, faults.cut_reply, 20),
    ("a third of a bulk fails by 429", BULK, faults.fail_items(every(3)), 30),
    ("a third of a bulk fails by 503", BULK, faults.fail_items(every(3), status=503), 30),
    ("writes of profiles fail", BULK, faults.fail_items(is_of("profiles")), 20),
    ("writes of sessions and their claims fail", BULK, faults.fail_items(is_of("sessions")), 20),
    ("writes of events fail", BULK, faults.fail_items(is_of("events")), 20),
    ("a bulk takes a second", BULK, faults.delay(1.0), 10),
]


@pytest.mark.parametrize(
    ("path", "fault", "times"), [row[1:] for row in SHORT], ids=[row[0] for row in SHORT]
)
async def test_what_passes_soon_is_not_noticed(usual: Rig, path: str, fault: Fault, times: int) -> None:
    async with usual.load(f"short{len(usual.sent)}") as traffic:
        # With gaps, so that the cluster is seen to answer in between.
        rules = [usual.proxy.on(fault, path=path, times=1, skip=2 * number) for number in range(times)]
        for rule in rules:
            await asyncio.to_thread(rule.wait, 20)
    assert traffic.busy == 0


HANGS: list[tuple[str, str, Fault]] = [
    ("before the write", BULK, faults.hang_before),
    ("after the write was done", BULK, faults.hang_after),
    ("done when it was given up", BULK, faults.delay(TOO_LATE_SECONDS)),
    ("reads", MGET, faults.hang_before),
]


@pytest.mark.parametrize(("path", "fault"), [row[1:] for row in HANGS], ids=[row[0] for row in HANGS])
async def test_a_request_that_is_not_answered_is_sent_again(rig: Rig, path: str, fault: Fault) -> None:
    async with rig.load(f"hangs{len(rig.sent)}"):
        # Three after each other; each is given up after a second, and then sent again.
        for _ in range(3):
            rule = rig.proxy.on(fault, path=path, times=1)
            await asyncio.to_thread(rule.wait)
        await asyncio.sleep(TOO_LATE_SECONDS + 0.5)


Begin = Callable[[FaultProxy], object]
LONG: list[tuple[str, Begin, bool]] = [
    ("connections are refused", lambda proxy: proxy.refuse(), True),
    ("429 for everything", lambda proxy: proxy.on(faults.answer(429, retry_after=5)), True),
    ("503 for everything", lambda proxy: proxy.on(faults.answer(503)), True),
    ("nothing is answered", lambda proxy: proxy.on(faults.hang_before), True),
    ("everything is done and nothing answered", lambda proxy: proxy.on(faults.hang_after), True),
    ("every reply is dropped", lambda proxy: proxy.on(faults.drop_after), True),
    ("every reply is cut", lambda proxy: proxy.on(faults.cut_reply), True),
    ("every item is refused", lambda proxy: proxy.on(faults.fail_items(every(1)), path=BULK), True),
    (
        "every profile is refused",
        lambda proxy: proxy.on(faults.fail_items(is_of("profiles")), path=BULK),
        True,
    ),
    # A profile's write is the commit: what is to be written after it may come later.
    ("every event is refused", lambda proxy: proxy.on(faults.fail_items(is_of("events")), path=BULK), False),
    ("every write is done too late", lambda proxy: proxy.on(faults.delay(TOO_LATE_SECONDS), path=BULK), True),
]


@pytest.mark.parametrize(("begin", "refused"), [row[1:] for row in LONG], ids=[row[0] for row in LONG])
async def test_what_lasts_is_told_and_left_behind(rig: Rig, begin: Begin, *, refused: bool) -> None:
    await told_and_left_behind(rig, begin, refused=refused)


async def test_the_usual_times_are_kept_to(usual: Rig) -> None:
    await told_and_left_behind(usual, lambda proxy: proxy.on(faults.hang_after, path=BULK), refused=True)


async def told_and_left_behind(rig: Rig, begin: Begin, *, refused: bool) -> None:
    async with rig.load(f"long{len(rig.sent)}") as traffic:
        begin(rig.proxy)
        # Half of what a request to the cluster may take: those that hang are not given up yet.
        await asyncio.sleep(rig.timeout / 2)
        # Whoever asks now is told so, in time, and when to come again; what was refused may be done nevertheless.
        name = f"{traffic.name}-asks"
        body = json.dumps(track_body("count", session=name, ids=[name])).encode()
        traffic.unanswered.append(Sent("/track", "", body, (name,)))
        began = monotonic()
        status, headers, answer = await asyncio.to_thread(rig.server.request, "POST", "/track", body)
        assert monotonic() - began < rig.answered_within
        assert status == (503 if refused else 200), answer
        assert not refused or int(headers["retry-after"]) >= 1
        assert rig.server.resident_mib() < MOST_MIB
        assert (await asyncio.to_thread(rig.server.request, "GET", "/healthz"))[0] == 200


async def test_what_a_session_still_holds_is_not_written_over(rig: Rig) -> None:
    """Without a profile a session is the commit record: its events wait in it until they can be written."""
    rig.proxy.on(faults.fail_items(is_of("events")), path=BULK)
    first = track_body("page-view", session="holds", ids=["holds-1"])
    second = track_body("page-view", session="holds", ids=["holds-2"])
    try:
        assert (await asyncio.to_thread(rig.server.post, first, "/track?profile_less=true"))[0] == 200
        began = monotonic()
        status, _ = await asyncio.to_thread(rig.server.post, second)
        assert monotonic() - began < rig.answered_within
        assert status in (200, 503)
    finally:
        rig.proxy.clear()
    assert (await asyncio.to_thread(rig.server.post, second))[0] == 200
    await rig.place.finish()
    ids = [event["id"] for event in rig.place.docs("events") if event["session"] == "holds"]
    assert sorted(ids) == ["holds-1", "holds-2"]
