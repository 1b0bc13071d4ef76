"""A claim stays as long as somebody has what it says."""

import asyncio
from typing import Any

import pytest

from headrace.engine.model import Doc
from headrace.engine.store.elastic import ElasticStore
from headrace.engine.store.elastic.commit import Committer
from headrace.engine.store.protocol import Claim, Committed, Conflict, Ref, Stored, Write
from tests.elastic.conftest import DEDUP_DAYS, Rig
from tests.store_contract import change, key_of, profile_write

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
