"""Changes that are larger than what the cluster takes in one request."""

from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from headrace.api.problems import problem_for
from headrace.engine.errors import TooLargeError
from headrace.engine.store.elastic import ElasticStore, settle
from headrace.engine.store.elastic.cluster import RefusedError
from headrace.engine.store.protocol import Query
from tests.elastic.conftest import DEDUP_DAYS, Rig
from tests.elastic.test_backlog import fail, of_events
from tests.store_contract import change, event_row, has_committed, key_of, one, profile_write, there
from tests.stores import written

MOST_BYTES = 300_000
TOO_LARGE = RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "error", "")
TEXT = "x" * 200_000


@pytest.fixture
async def other(rig: Rig) -> AsyncIterator[ElasticStore]:
    """Give another server's store on the same place."""
    store = ElasticStore(rig.cluster.place, dedup_days=DEDUP_DAYS, request_seconds=10)
    assert await store.ready() == ""
    yield store
    await store.close()


def take_little(store: ElasticStore) -> list[bytes]:
    """Let the cluster refuse large bulks of a store; returns those that it refused."""
    return fail(store, TOO_LARGE, lambda body: len(body) > MOST_BYTES)


async def test_a_change_that_is_too_large_is_refused_for_good_and_leaves_nothing(rig: Rig) -> None:
    take_little(rig.store)
    rows = [event_row(f"e{n}", "p", text=TEXT) for n in range(2)]
    with pytest.raises(TooLargeError) as caught:
        await rig.store.commit(change(profile=profile_write("p"), events=rows))
    answer = problem_for(caught.value)
    assert answer.status == 413
    assert b"too_large_to_keep" in answer.body
    assert not any(name == b"retry-after" for name, _ in answer.headers)
    assert await one(rig.store, "profile", key_of("profile", "p")) is None
    for row in rows:
        assert has_committed(await rig.store.commit(change(events=[row])))


async def test_what_a_record_carries_does_not_make_a_change_too_large(rig: Rig, other: ElasticStore) -> None:
    assert has_committed(
        await other.commit(change(profile=profile_write("p"), events=[event_row("a", "p", text=TEXT)]))
    )
    refused = take_little(rig.store)

    async def again() -> bool:
        before = await there(rig.store, "profile", key_of("profile", "p"))
        late = change(profile=profile_write("p", before), events=[event_row("b", "p", text=TEXT)])
        return has_committed(await rig.store.commit(late))

    # First what the other server's change left in the record is written, then the record is read anew.
    assert [await again(), await again()] == [False, True]
    assert len(refused) == 1
    await rig.refresh()
    await written(other)
    await rig.refresh()
    assert await rig.questions.count(Query("event")) == 2


async def test_the_documents_of_a_large_change_are_written_in_portions(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "PORTION_BYTES", MOST_BYTES)
    refused = fail(rig.store, TOO_LARGE, lambda body: of_events(body) and len(body) > MOST_BYTES)
    rows = [event_row(f"e{n}", "p", text=TEXT) for n in range(3)]
    assert has_committed(await rig.store.commit(change(profile=profile_write("p"), events=rows)))
    await rig.refresh()
    assert not refused
    assert await rig.questions.count(Query("event")) == 3
