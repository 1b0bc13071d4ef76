"""A claim stays as long as somebody has what it says."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from headrace.engine.model import Doc, utc_now
from headrace.engine.store.elastic import ElasticStore
from headrace.engine.store.elastic.commit import Committer
from headrace.engine.store.elastic.settle import Settler
from headrace.engine.store.elastic.sweep import Sweeper
from headrace.engine.store.protocol import (
    Change,
    Claim,
    Committed,
    Conflict,
    Outcome,
    Query,
    Ref,
    Stored,
    Write,
)
from tests.elastic.conftest import DEDUP_DAYS, Rig
from tests.store_contract import change, event_key, event_row, has_committed, key_of, profile_write

CLAIM = "c" * 32


class Slow(Committer):
    """Writes a record only when it is told to; its claims are made before."""

    def __init__(self, committer: Committer) -> None:
        vars(self).update(vars(committer))
        self.has_claims, self.goes_on = asyncio.Event(), asyncio.Event()

    async def _write_record(self, work: Any) -> Any:
        self.has_claims.set()
        await self.goes_on.wait()
        return await super()._write_record(work)


async def read(store: ElasticStore, kind: Any, key: str) -> Stored | None:
    (found,) = await store.read([Ref(kind, key)])
    return found


@pytest.mark.parametrize("wins", ["first", "second"])
async def test_two_servers_claim_a_value_for_one_profile(rig: Rig, wins: str) -> None:
    """Who loses does not take the claim away from who has written the profile with the value."""
    await rig.store.commit(change(profile=profile_write("p")))
    key = key_of("profile", "p")
    stored = await read(rig.store, "profile", key)
    assert stored is not None
    doc: Doc = stored.doc | {"identities": {"email": ["a"]}}
    other = ElasticStore(rig.cluster.place, dedup_days=DEDUP_DAYS, request_seconds=10)
    slow = rig.store._committer = Slow(rig.store._committer)
    waiting = other._committer = Slow(other._committer)

    def saying() -> Any:
        return change(profile=Write(key, dict(doc), stored.version), claims=[Claim(CLAIM, "p")])

    try:
        first = asyncio.create_task(rig.store.commit(saying()))
        await slow.has_claims.wait()
        second = asyncio.create_task(other.commit(saying()))
        await waiting.has_claims.wait()
        for committer, task in [(slow, first), (waiting, second)][:: 1 if wins == "first" else -1]:
            committer.goes_on.set()
            await task
        assert {type(first.result()), type(second.result())} == {Committed, Conflict}
        claim = await read(rig.store, "claim", CLAIM)
        assert claim is not None
        assert claim.doc["profile"] == "p"
    finally:
        await other.close()


def other_server(rig: Rig) -> ElasticStore:
    return ElasticStore(rig.cluster.place, dedup_days=DEDUP_DAYS, request_seconds=10)


def first_contact(name: str) -> Change:
    """A new profile without a session, and always the same event."""
    return change(profile=profile_write(name), events=[event_row("order-1", name)])


async def commit_elsewhere(rig: Rig, *changes: Change) -> list[Outcome]:
    """Commit changes at once, each on a server of its own that remembers nothing."""
    stores = [other_server(rig) for _ in changes]
    try:
        return await asyncio.gather(
            *(store.commit(made) for store, made in zip(stores, changes, strict=True))
        )
    finally:
        for store in stores:
            await store.close()


async def forget(rig: Rig) -> None:
    """Let the event go, as retention does, but not its claim."""
    await rig.refresh()
    await Sweeper(rig.cluster, rig.bulk, Settler(rig.bulk)).sweep(timedelta(0))
    where = f"/{rig.cluster.place.prefix}-events-*"
    query = b'{"query":{"term":{"key":"%s"}}}' % event_key("order-1").encode()
    await rig.cluster.ask("POST", f"{where}/_delete_by_query?refresh=true", query)
    assert await read(rig.store, "seen", event_key("order-1")) is None


async def test_an_event_that_was_forgotten_may_come_again(rig: Rig) -> None:
    assert has_committed(await rig.store.commit(first_contact("first")))
    await forget(rig)
    (outcome,) = await commit_elsewhere(rig, first_contact("second"))
    assert has_committed(outcome)
    (again,) = await commit_elsewhere(rig, first_contact("third"))
    assert not has_committed(again)
    seen = await read(rig.store, "seen", event_key("order-1"))
    assert seen is not None
    assert seen.doc["profile"] == "second"


async def test_an_event_that_was_forgotten_comes_again_once(rig: Rig) -> None:
    """Some servers get it at the same moment: one profile has it, at the latest when it is sent again."""
    assert has_committed(await rig.store.commit(first_contact("first")))
    await forget(rig)
    outcomes = await commit_elsewhere(rig, *(first_contact(f"again{n}") for n in range(4)))
    outcomes += await commit_elsewhere(rig, first_contact("last"))
    assert sum(has_committed(outcome) for outcome in outcomes) == 1
    await rig.refresh()
    assert await rig.questions.count(Query("event")) == 1


async def test_an_event_that_waits_in_its_profile_is_not_forgotten(rig: Rig, monkeypatch: Any) -> None:
    """Its server died before it wrote it."""
    monkeypatch.setattr(rig.store._committer._backlog, "add", lambda _: None)
    assert has_committed(await rig.store.commit(first_contact("first")))
    for name in ("second", "third"):
        assert await commit_elsewhere(rig, first_contact(name)) == [Conflict()]
        assert await read(rig.store, "profile", key_of("profile", name)) is None


async def test_claims_of_events_go_when_they_need_not_be_known(rig: Rig) -> None:
    made = first_contact("p")
    value = Claim(CLAIM, "p")
    await rig.store.commit(change(profile=made.profile, events=made.events, claims=[value]))

    async def claims_after(now: datetime) -> list[bool]:
        await rig.refresh()
        await rig.store.prune({}, now)
        keys = (event_key("order-1"), CLAIM)
        return [await read(rig.store, "claim", key) is not None for key in keys]

    now = utc_now()
    assert await claims_after(now + timedelta(days=DEDUP_DAYS - 1)) == [True, True]
    # A month goes when all of it is old.
    assert await claims_after(now + timedelta(days=DEDUP_DAYS + 32)) == [False, True]
