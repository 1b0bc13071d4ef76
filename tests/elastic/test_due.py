"""Leases in a cluster, beyond what every store promises."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from headrace.engine.model import iso
from headrace.engine.store.elastic.bulk import Bulk, Done, Operation
from headrace.engine.store.elastic.cluster import Cluster
from headrace.engine.store.elastic.due import Leases
from headrace.engine.store.elastic.gets import Gets
from headrace.engine.store.protocol import Leased, Row
from tests.elastic.conftest import Rig
from tests.store_contract import HOSTILE, NOW, change, effect_row, key_of


class LossyBulk(Bulk):
    """Loses the first answer of each write and sends it again, as after a broken connection."""

    async def write(self, operations: Sequence[Operation], **kwargs: Any) -> list[Done]:
        await super().write(operations, **kwargs)
        return await super().write(operations, **kwargs)


class Counting(Cluster):
    """Notes what it was asked for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[str] = []

    async def ask(self, method: str, path: str, *args: Any, **kwargs: Any) -> bytes:
        self.asked.append(path.partition("?")[0])
        return await super().ask(method, path, *args, **kwargs)


async def test_a_lost_answer_loses_no_lease(rig: Rig) -> None:
    await rig.store.commit(change(effects=[effect_row("f", NOW)]))
    leases = Leases(rig.cluster, LossyBulk(rig.cluster), rig.gets)
    leases.wrote("effect")
    (leased,) = await leases.claim_due("effect", 5, 30, NOW)
    assert await leases.done("effect", leased, leased.doc | {"status": "sent"})
    assert not await leases.done("effect", leased, leased.doc | {"status": "dead"})
    got = await rig.questions.get("effect", leased.key)
    assert got == leased.doc | {"status": "sent"}


async def test_looking_when_nothing_is_due_is_one_search(rig: Rig) -> None:
    cluster = Counting(rig.cluster.place)
    leases = Leases(cluster, Bulk(cluster), Gets(cluster))
    for _ in range(3):
        assert await leases.claim_due("timer", 5, 30, NOW) == []
    leases.wrote("timer")
    for _ in range(2):
        assert await leases.claim_due("timer", 5, 30, NOW) == []
    name = f"/{rig.alias('timers')}"
    assert cluster.asked == [f"{name}/_search"] * 3 + [f"{name}/_refresh"] + [f"{name}/_search"] * 2
    await cluster.close()


async def test_two_processes_never_hold_the_same(rig: Rig) -> None:
    await rig.store.commit(change(effects=[effect_row(f"f{n}", NOW) for n in range(60)]))
    taken: list[str] = []

    async def work() -> None:
        cluster = Cluster(rig.cluster.place)
        leases = Leases(cluster, Bulk(cluster), Gets(cluster))
        idle = 0
        while idle < 2:
            leases.wrote("effect")
            found = await leases.claim_due("effect", 7, 60, NOW)
            idle = 0 if found else idle + 1
            taken.extend(one.key for one in found)
            done = [leases.done("effect", one, one.doc | {"status": "sent"}) for one in found]
            assert all(await asyncio.gather(*done))
        await cluster.close()

    await asyncio.gather(work(), work(), work())
    assert len(taken) == len(set(taken)) == 60


@pytest.mark.parametrize("name", ["big integer", "lone surrogate", "awkward keys", "hundred digits", "deep"])
async def test_a_document_goes_through_its_leases_unharmed(rig: Rig, name: str) -> None:
    row = effect_row("f", NOW, body=HOSTILE[name])
    await rig.store.commit(change(effects=[row]))
    rig.leases.wrote("effect")
    for turn in range(2):
        (leased,) = await rig.leases.claim_due("effect", 5, 1, NOW + timedelta(seconds=turn * 10))
        assert leased.doc == row.doc
        assert leased.key == row.key
    again = leased.doc | {"due": iso(NOW + timedelta(seconds=60)), "answer": HOSTILE[name]}
    assert await rig.leases.done("effect", leased, again)
    assert await rig.leases.claim_due("effect", 5, 1, NOW + timedelta(seconds=59)) == []
    (leased,) = await rig.leases.claim_due("effect", 5, 1, NOW + timedelta(seconds=60))
    assert leased.doc == again


async def test_what_is_gone_is_not_written_again(rig: Rig) -> None:
    assert not await rig.leases.done("effect", Leased(key_of("effect", "none"), {}, "lease"), {})
    assert await rig.questions.get("effect", key_of("effect", "none")) is None


async def test_a_document_without_a_due_time_is_due_from_its_creation(rig: Rig) -> None:
    row = Row("a key/of any kind?", {"id": "t", "time": {"created": iso(NOW)}})
    await rig.store.commit(change(timers=[row]))
    rig.leases.wrote("timer")
    assert await rig.leases.claim_due("timer", 5, 1, NOW - timedelta(seconds=1)) == []
    (leased,) = await rig.leases.claim_due("timer", 5, 1, NOW)
    assert (leased.key, leased.doc) == (row.key, row.doc)
