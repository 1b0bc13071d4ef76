"""After an erasure the cluster is asked to drop deleted documents from its segments."""

import pytest

from headrace.engine.store.elastic import erasing
from headrace.engine.store.elastic.cluster import RefusedError
from tests.elastic.conftest import Rig
from tests.store_contract import change, profile_write


async def allowed(rig: Rig) -> set[str | None]:
    """Return how many deletes each index may keep when it is asked to drop them."""
    found = await rig.cluster.ask_json("GET", f"/{rig.alias('profiles')}/_settings?flat_settings=true")
    name = "index.merge.policy.expunge_deletes_allowed"
    return {index["settings"].get(name) for index in found.values()}


async def test_it_is_asked_once_when_the_store_closes_at_the_latest(rig: Rig) -> None:
    for name in ("p", "q"):
        await rig.store.commit(change(profile=profile_write(name)))
    await rig.store.erase("main", "nobody")
    assert rig.store._expunger._task is None
    await rig.store.erase("main", ["p", "q"])
    assert await allowed(rig) == {None}
    await rig.store.close()
    assert await allowed(rig) == {"0"}


async def test_it_is_asked_a_while_after(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "EXPUNGE_AFTER_SECONDS", 0.05)
    await rig.store.commit(change(profile=profile_write("p")))
    await rig.store.erase("main", "p")
    task = rig.store._expunger._task
    assert task is not None
    await task
    assert await allowed(rig) == {"0"}


async def test_a_refusal_harms_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RefusedError(403, "security_exception", "you may not")

    monkeypatch.setattr(rig.cluster, "ask_json", refuse)
    await erasing.expunge(rig.cluster)
