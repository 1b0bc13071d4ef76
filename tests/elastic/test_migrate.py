"""Indices of an older version are brought to this one while the cluster runs."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from headrace.engine.errors import StoreError, StoreRefused
from headrace.engine.model import iso
from headrace.engine.store.elastic import layout, migrate
from headrace.engine.store.elastic.ageing import months
from headrace.engine.store.elastic.cluster import RefusedError
from headrace.engine.store.elastic.migrate import Progress, abandon, plan
from headrace.engine.store.elastic.setup import Setup
from headrace.engine.store.protocol import Claim, Query, Ref
from tests.elastic.conftest import Rig
from tests.store_contract import (
    NOW,
    change,
    effect_row,
    event_row,
    has_committed,
    key_of,
    profile_write,
    session_write,
)
from tests.stores import written

EARLIER = NOW - timedelta(days=40)


async def fill(rig: Rig) -> None:
    """Write some of every kind, in the indices of the version that there is."""
    made = change(
        profile=profile_write("p", traits={"n": 2**80}),
        session=session_write("s", "p"),
        claims=[Claim("c", "p")],
        events=[event_row("e1", "p"), event_row("e2", "p", EARLIER, properties={"n": [2**80, "\ud800"]})],
        effects=[effect_row(f"f{n}", NOW) for n in range(25)],
    )
    assert has_committed(await rig.store.commit(made))
    await written(rig.store)


@pytest.fixture
async def older(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Give a store whose indices have the version before this one."""
    await fill(rig)
    monkeypatch.setattr(layout, "VERSION", layout.VERSION + 1)
    monkeypatch.setattr("headrace.engine.store.elastic.setup.VERSION", layout.VERSION)
    monkeypatch.setattr(migrate, "POLL_SECONDS", 0.05)
    return rig


async def run(rig: Rig) -> list[Progress]:
    return [one async for one in migrate.migrate(rig.cluster, grace_seconds=0)]


async def state(rig: Rig) -> dict[str, Any]:
    """Return the indices with their version, aliases and whether they take writes."""
    path = f"/{rig.cluster.place.prefix}-*?features=mappings,aliases,settings"
    found = await rig.cluster.ask_json("GET", path)
    cut = len(rig.cluster.place.prefix) + 1
    return {
        name[cut:]: (
            about["mappings"]["_meta"]["version"],
            sorted(alias[cut:] for alias in about["aliases"]),
            "blocks" in about["settings"]["index"],
        )
        for name, about in found.items()
    }


async def test_nothing_is_done_when_all_is_of_this_version(rig: Rig) -> None:
    await fill(rig)
    before = await state(rig)
    assert await plan(rig.cluster) == []
    assert await run(rig) == []
    assert await state(rig) == before


async def test_every_index_is_made_anew_and_nothing_is_lost(older: Rig) -> None:
    rig = older
    before = await rig.store.read([Ref("profile", key_of("profile", "p"))])
    steps = await plan(rig.cluster)
    month, earlier = iso(NOW)[:7].replace("-", "."), iso(EARLIER)[:7].replace("-", ".")
    assert {(step.kind, step.old[-7:], step.docs) for step in steps if step.docs} == {
        ("profiles", "-000001", 1),
        ("sessions", "-000001", 1),
        ("claims", "-000001", 1),
        ("effects", "-000001", 25),
        ("events", month, 1),
        ("events", earlier, 1),
        ("about", "-000001", 1),
    }
    progress = await run(rig)
    assert {(one.kind, one.done, one.total) for one in progress if one.kind == "effects"} >= {
        ("effects", 25, 25)
    }
    assert await state(rig) == {
        **{
            f"{kind}-000002": (2, [kind], False)
            for kind in ("about", "profiles", "sessions", "claims", "effects", "timers")
        },
        **{f"events-{name}-000002": (2, ["events", f"events-{name}"], False) for name in (month, earlier)},
    }
    assert await plan(rig.cluster) == []
    assert await run(rig) == []
    after = await rig.store.read([Ref("profile", key_of("profile", "p"))])
    assert before[0] is not None
    assert after[0] is not None
    assert after[0].doc == before[0].doc
    assert await rig.questions.count(Query("effect")) == 25
    events = (await rig.questions.find(Query("event"))).items
    assert events == [
        event_row("e1", "p").doc,
        event_row("e2", "p", EARLIER, properties={"n": [2**80, "\ud800"]}).doc,
    ]
    assert await Setup(rig.cluster).run()


async def test_the_store_is_used_on_as_before(older: Rig) -> None:
    """Writers know the months by their names, sessions count on, and the next version follows."""
    rig = older
    path = f"/{rig.alias('sessions')}/_doc/{key_of('session', 's')}"
    before = await rig.cluster.ask_json("GET", path)
    assert before["_version"] == layout.SESSION_VERSIONS + before["_source"]["n"]
    await run(rig)
    after = await rig.cluster.ask_json("GET", path)
    assert (after["_version"], after["_source"]) == (before["_version"], before["_source"])
    assert has_committed(await rig.store.commit(change(events=[event_row("e3", "p")])))
    assert len(await months(rig.cluster, "event")) == len({iso(NOW)[:7], iso(EARLIER)[:7]})
    (seen, third) = await rig.store.read([Ref("seen", event_row(name).key) for name in ("e1", "e3")])
    assert seen is not None
    assert third is not None
    layout.VERSION += 1
    assert len(await plan(rig.cluster)) == 8
    await run(rig)
    assert all(name.endswith("-000003") for name in await state(rig))
    assert has_committed(await rig.store.commit(change(events=[event_row("e4", "p")])))
    await rig.refresh()
    assert await rig.questions.count(Query("event")) == 4


async def test_an_ended_run_is_taken_up_at_any_point(older: Rig) -> None:
    """It is ended after one more step each time, until it comes through."""
    rig = older
    for most in range(1, 60):
        walk = migrate.migrate(rig.cluster, grace_seconds=0)
        ended = False
        for _ in range(most):
            try:
                await anext(walk)
            except StopAsyncIteration:
                ended = True
                break
        await walk.aclose()
        if ended:
            break
    assert await plan(rig.cluster) == []
    await rig.refresh()
    assert await rig.questions.count(Query("effect")) == 25
    assert await rig.questions.count(Query("event")) == 2
    assert not any(blocked for _, _, blocked in (await state(rig)).values())


async def test_a_run_goes_on_after_the_switch_and_after_the_copy(
    older: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = older

    async def broken(*_: Any) -> None:
        raise StoreError("killed")

    for point, left in (("_delete", ["profiles"]), ("_switch", []), ("_make_new", []), ("_begin", [])):
        with monkeypatch.context() as patch:
            patch.setattr(migrate, point, broken)
            with pytest.raises(StoreError, match="killed"):
                await run(rig)
        assert [step.kind for step in await plan(rig.cluster) if step.switched] == left
    await run(rig)
    assert await plan(rig.cluster) == []
    assert len(await state(rig)) == 8
    assert (await rig.questions.get("profile", key_of("profile", "p")) or {})["id"] == "p"


async def test_writes_are_refused_and_not_lost_while_an_index_is_copied(older: Rig) -> None:
    rig = older
    async for progress in migrate.migrate(rig.cluster, grace_seconds=0):
        if progress.kind == "effects":
            path = f"/{rig.alias('effects')}/_doc/new"
            with pytest.raises(RefusedError, match="cluster_block_exception"):
                await rig.cluster.ask_json("PUT", path, {"key": "new"})
            assert await rig.questions.get("effect", effect_row("f1", NOW).key) is not None
            break
    await asyncio.sleep(0.2)
    assert "effects-000001" in await state(rig)
    given_up = await abandon(rig.cluster)
    assert f"{rig.alias('effects')}-000001" in given_up
    assert not any(blocked for _, _, blocked in (await state(rig)).values())
    assert has_committed(await rig.store.commit(change(effects=[effect_row("more", NOW)])))
    await run(rig)
    await rig.refresh()
    assert await rig.questions.count(Query("effect")) == 26


async def test_what_was_deleted_after_a_copy_is_not_brought_back(
    older: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = older

    async def broken(*_: Any) -> None:
        raise StoreError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(migrate, "_switch", broken)
        with pytest.raises(StoreError, match="killed"):
            await run(rig)
    old = f"{rig.alias('profiles')}-000001"
    await rig.cluster.ask_json("PUT", f"/{old}/_settings", {"index.blocks.write": None})
    await rig.cluster.ask_json("DELETE", f"/{old}/_doc/{key_of('profile', 'p')}")
    with pytest.raises(StoreError, match="run the migration again"):
        await run(rig)
    await run(rig)
    assert await rig.questions.get("profile", key_of("profile", "p")) is None


async def test_indices_of_a_newer_version_are_left_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await state(rig)
    monkeypatch.setattr(layout, "VERSION", 0)
    for job in (plan(rig.cluster), run(rig)):
        with pytest.raises(StoreRefused, match="made by a newer Headrace"):
            await job
    assert await state(rig) == before


async def test_indices_of_others_are_left_alone(older: Rig) -> None:
    rig = older
    prefix = rig.cluster.place.prefix
    for name in (f"{prefix}-profiles-backup", f"{prefix}-profiles-000000"):
        await rig.cluster.ask_json(
            "PUT", f"/{name}", {"settings": {"index.blocks.write": name.endswith("0")}}
        )
        await rig.cluster.ask_json(
            "POST",
            "/_aliases",
            {"actions": [{"remove": {"index": name, "alias": rig.alias("profiles")}}]},
        )
    assert {step.old for step in await plan(rig.cluster)}.isdisjoint(
        {f"{prefix}-profiles-backup", f"{prefix}-profiles-000000"}
    )
