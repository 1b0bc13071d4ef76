"""Questions to a cluster, beyond what every store promises."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from headrace.engine.errors import BusyError, InputError
from headrace.engine.model import iso
from headrace.engine.store.elastic import ask, search
from headrace.engine.store.elastic.cluster import AwayError, Cluster
from headrace.engine.store.elastic.search import EVERYTHING, scan
from headrace.engine.store.protocol import Query
from tests.elastic.conftest import Rig
from tests.store_contract import NOW, change, event_key, event_row, key_of, profile_write, session_write


async def test_what_is_only_claimed_is_not_found(rig: Rig) -> None:
    key = key_of("session", "s")
    await rig.put(
        rig.alias("sessions"), key, key=key, tenant="main", change="c", profile="p", hidden=True, n=0
    )
    await rig.refresh()
    assert await rig.questions.get("session", key) is None
    assert (await rig.questions.find(Query("session"))).items == []
    assert await rig.questions.count(Query("session", profile="p")) == 0


async def test_nothing_is_found_where_nothing_was_written(rig: Rig) -> None:
    for kind in ("event", "failed", "trace"):
        assert (await rig.questions.find(Query(kind))).items == []
        assert await rig.questions.count(Query(kind)) == 0
        assert await rig.questions.get(kind, "0" * 32) is None
    assert await rig.questions.report(Query("event"), "type") == []
    assert [hit async for hit in scan(rig.cluster, rig.alias("events"), EVERYTHING)] == []


async def test_an_event_is_got_at_once_and_after_years(rig: Rig) -> None:
    new, old = event_row("new"), event_row("old", at=NOW - timedelta(days=800))
    await rig.store.commit(change(events=[new, old]))
    assert await rig.store.get("event", new.key) == new.doc
    await rig.refresh()
    assert await rig.store.get("event", old.key) == old.doc


async def test_what_no_value_is_known_of_is_not_asked_in_vain(rig: Rig) -> None:
    for query, known in (
        (Query("profile", where={"time.created": "x"}), "traits, segments"),
        (Query("event", where={"type": "x"}), "properties"),
        (Query("effect", where={"request.url": "x"}), "other filters"),
    ):
        with pytest.raises(InputError, match=known) as raised:
            await rig.questions.find(query)
        assert (raised.value.status, raised.value.code) == (422, "bad_path")


@pytest.mark.parametrize(
    "query",
    [
        Query("profile", profile="\ud800"),
        Query("profile", where={"traits['\ud800']": "x"}),
        Query("event", event="\ud800"),
        Query("event", tenant="\ud800"),
    ],
)
async def test_half_a_character_is_the_askers_fault(rig: Rig, query: Query) -> None:
    with pytest.raises(InputError) as raised:
        await rig.questions.count(query)
    assert (raised.value.status, raised.value.code) == (422, "bad_text")


async def test_a_document_whose_time_is_none_is_in_the_pages_too(rig: Rig) -> None:
    for n, created in enumerate([iso(NOW), "long ago", None, iso(NOW), "+999999999"]):
        await rig.put(
            rig.alias("effects"), f"k{n}", key=f"k{n}", tenant="main", created=created, doc={"id": n}
        )
    await rig.refresh()
    found: list[int] = []
    cursor: str | None = None
    while True:
        page = await rig.questions.find(Query("effect", limit=1, cursor=cursor))
        found += [doc["id"] for doc in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert found[:2] == [3, 0]


async def test_reports_have_every_bucket(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [event_row(f"e{n}", f"p{n % 3}", type=f"t{n % 7}", source=None) for n in range(20)]
    await rig.store.commit(change(events=rows))
    await rig.refresh()
    few = await rig.questions.report(Query("event"), "type")
    monkeypatch.setattr(ask, "BUCKETS", 2)
    assert await rig.questions.report(Query("event"), "type") == few
    assert [one["bucket"] for one in few] == [f"t{n}" for n in range(7)]
    assert [one["events"] for one in few] == [3] * 6 + [2]
    assert few[0] == {"bucket": "t0", "events": 3, "profiles": 3}
    nameless = [{"bucket": None, "events": 20, "profiles": 3}]
    assert await rig.questions.report(Query("event"), "source") == nameless


async def test_counting_stops_where_it_was_told_to(rig: Rig) -> None:
    await rig.store.commit(change(events=[event_row(f"e{n}") for n in range(5)]))
    await rig.refresh()
    counted = [await rig.questions.count(Query("event"), most) for most in (None, 0, 1, 5, 6, 1 << 40)]
    assert counted == [5, 0, 1, 5, 5, 5]


async def test_a_walk_meets_every_document_once_as_it_was(rig: Rig) -> None:
    await rig.store.commit(change(events=[event_row(f"e{n}") for n in range(7)]))
    await rig.refresh()
    seen: list[str] = []
    async for hit in scan(rig.cluster, rig.alias("events"), EVERYTHING, 2):
        if not seen:
            await rig.store.commit(change(events=[event_row("later")]))
            await rig.refresh()
        seen.append(hit.id)
        assert hit.seq_no >= 0
        assert hit.term > 0
        assert bytes(hit.source).startswith(b'{"key":')
    assert sorted(seen) == sorted(event_key(f"e{n}") for n in range(7))


async def test_profiles_and_sessions_are_asked_by_their_values(rig: Rig) -> None:
    profile = profile_write("p", consents={"mail": {"given": True}}, interests={"tea": 2.5})
    session = session_write("s", "p", properties={"ab": {"test": "B"}})
    await rig.store.commit(change(profile=profile, session=session))
    await rig.refresh()
    for path, value in (("consents.mail.given", "true"), ("interests.tea", "2.5")):
        assert await rig.questions.count(Query("profile", where={path: value})) == 1
    assert await rig.questions.count(Query("session", where={"properties.ab.test": "B"})) == 1


class Slow(Cluster):
    """Answers late, or not in time for Elasticsearch itself."""

    async def ask(self, *_: Any, **kwargs: Any) -> bytes:
        await asyncio.sleep(0.02)
        if kwargs["seconds"] > 10:
            return b'{"timed_out": true, "hits": {"hits": []}}'
        raise AwayError("504")


@pytest.mark.parametrize("seconds", [20.0, 1.01])
async def test_what_takes_too_long_is_told_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(search, "ASK_SECONDS", seconds)
    questions = ask.Questions(Slow(rig.cluster.place), rig.gets, 28)
    with pytest.raises(BusyError, match="shorter time"):
        await questions.count(Query("event"))


class Flaky(Cluster):
    """Is too busy for some requests."""

    def __init__(self, cluster: Cluster, times: int) -> None:
        super().__init__(cluster.place)
        self.times = times

    async def ask(self, *args: Any, **kwargs: Any) -> bytes:
        self.times -= 1
        if self.times >= 0:
            raise AwayError("503 no_shard_available_action_exception")
        return await super().ask(*args, **kwargs)


async def test_a_cluster_that_is_busy_for_a_moment_is_asked_again(rig: Rig) -> None:
    flaky = Flaky(rig.cluster, 3)
    questions = ask.Questions(flaky, rig.gets, 28)
    assert await questions.count(Query("event")) == 0
    flaky.times = 1000
    with pytest.raises(AwayError, match="no_shard_available"):
        await questions.count(Query("event"))
    await flaky.close()
