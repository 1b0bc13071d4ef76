"""Copying out of a cluster: what waits in records, and keys that stand in two months."""

from pathlib import Path

from headrace.engine.store.copying import Copying
from headrace.engine.store.elastic.bulk import Operation
from headrace.engine.store.elastic.moving import ElasticMoving
from headrace.engine.store.elastic.parts import create_line, pending_members
from headrace.engine.store.elastic.work import Work
from headrace.engine.store.moving import MOVED, Kept
from headrace.engine.store.protocol import Claim, Ref
from headrace.engine.store.upkeep import open_moving
from tests.elastic.conftest import Rig
from tests.moving_contract import a_change, everything
from tests.store_contract import change, has_committed, key_of, profile_write


def doc(received: str) -> Kept:
    """Return an event that has the same key as others."""
    data = b'{"id":"e","type":"page-view","time":{"received":"%s"}}' % received.encode()
    return Kept("0" * 32, "main", data, {"received": received})


async def test_what_waits_in_a_record_is_copied_too(rig: Rig) -> None:
    work = Work(a_change("x", 1), rig.cluster.place)
    assert work.record is not None
    whole = work.record.source + pending_members([work.part()]) + b"}"
    # As a process left it that died after its commit.
    (done,) = await rig.bulk.write([Operation(create_line(work.record.where, work.record.id), whole)])
    assert done.status == 201
    moving = ElasticMoving(rig.cluster.place)
    await moving.settle()
    counts = await moving.tally()
    await moving.close()
    # Its claims are made before the commit.
    assert counts == dict.fromkeys(MOVED, 1) | {"workflow": 0, "claim": 0, "trace": 0}


async def test_a_file_keeps_the_newest_of_a_key_that_came_again(rig: Rig, tmp_path: Path) -> None:
    first, second = doc("2026-01-15T12:00:00.000Z"), doc("2026-03-15T12:00:00.000Z")
    moving = ElasticMoving(rig.cluster.place)
    assert await moving.load("event", [second, first], replace=False) == 2
    file = await open_moving("sqlite:", data=tmp_path, make=True)
    for _ in range(2):
        job = Copying(moving, file)
        await job.begin()
        async for _progress in job.run():
            pass
        mine, theirs, found = await job.compare(10)
        assert (mine["event"], theirs["event"]) == (2, 1)
        assert found.differences == []
        assert "A file keeps the newest" in found.remarks[0]
        assert (await everything(file))["event"] == {first.key: second}
    await file.close()
    await moving.close()


async def test_a_claim_that_a_server_gave_to_another_stays(rig: Rig) -> None:
    key = key_of("claim", "mail")

    def saying(profile: str) -> Kept:
        return Kept(key, "main", b'{"kind":"email"}', {"profile": profile})

    async def owner() -> str:
        (claim,) = await rig.store.read([Ref("claim", key)])
        assert claim is not None
        return str(claim.doc["profile"])

    moving = ElasticMoving(rig.cluster.place)
    assert await moving.load("claim", [saying("old")], replace=True) == 1
    assert await moving.load("claim", [saying("older")], replace=True) == 1
    assert await owner() == "older"
    claim = Claim(key, "new", {"kind": "email"}, instead="older")
    assert has_committed(await rig.store.commit(change(profile=profile_write("new"), claims=[claim])))
    assert await moving.load("claim", [saying("older")], replace=True) == 0
    assert await owner() == "new"
    await moving.close()
