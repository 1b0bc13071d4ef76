"""Stores that are only looked into."""

import shutil
from pathlib import Path

import pytest

from headrace.engine.errors import StoreRefused
from headrace.engine.model import EventInput, make_key
from headrace.engine.store.looking import open_looking
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Change, Committed, Query, Ref, Row
from tests.conftest import OpenLab
from tests.replay.conftest import Replayer


async def test_it_answers_as_the_store_does(open_lab: OpenLab, replay: Replayer) -> None:
    async with open_lab() as lab:
        answer = await lab.track(EventInput("x", id="e1"), EventInput("y", id="e2"))
        assert answer.profile is not None
        keys = [make_key("profile", "main", answer.profile["id"]), make_key("session", "main", "s1")]
        refs = [Ref("profile", keys[0]), Ref("session", keys[1]), Ref("seen", "0" * 32)]
        async with replay.looking(lab) as look:
            for query in (Query("event"), Query("event", type="y"), Query("profile"), Query("failed")):
                assert (await look.find(query)).items == (await lab.store.find(query)).items
                assert await look.count(query) == await lab.store.count(query)
            assert [one and one.doc for one in await look.read(refs)] == [
                one and one.doc for one in await lab.store.read(refs)
            ]
            assert await look.get("event", "0" * 32) is None
            # What is written meanwhile is seen.
            await lab.track(EventInput("z", id="e3"))
            await lab.settle()
            key = make_key("event", "main", "shop", "e3")
            assert await look.get("event", key) == await lab.store.get("event", key)


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="There is no database"):
        await open_looking("sqlite:", data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


async def test_what_a_killed_server_left_in_its_log_stays_there(tmp_path: Path) -> None:
    store = open_store("sqlite:", data=tmp_path / "live")
    change = Change(
        "c1", "main", events=[Row("0" * 32, {"id": "e1", "type": "x", "tenant": "main", "key": "0" * 32})]
    )
    assert isinstance(await store.commit(change), Committed)
    left = tmp_path / "left"
    left.mkdir()
    files = [left / name for name in ("headrace.db", "headrace.db-wal")]
    for file in files:
        shutil.copy(tmp_path / "live" / file.name, file)
    await store.close()
    before = [file.read_bytes() for file in files]
    assert len(before[1]) > 0
    look = await open_looking("sqlite:", data=left)
    assert (await look.get("event", "0" * 32) or {})["id"] == "e1"
    await look.close()
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b""])
async def test_a_file_that_is_no_store_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "headrace.db"
    file.write_bytes(content)
    with pytest.raises(StoreRefused):
        await open_looking("sqlite:", data=tmp_path)
    assert file.read_bytes() == content


async def test_indices_that_are_not_there_are_not_made(elastic_url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="there is no store"):
        await open_looking(elastic_url, data=tmp_path)
    with pytest.raises(StoreRefused, match="there is no store"):
        await open_looking(elastic_url, data=tmp_path)
