"""The rights that the page names are enough for all that the store does, and no more is taken."""

import json
import re
from collections.abc import AsyncIterator, Iterator

import pytest

from headrace.engine.model import utc_now
from headrace.engine.store.elastic import ElasticStore
from headrace.engine.store.elastic.ageing import prune
from headrace.engine.store.elastic.ask import Questions
from headrace.engine.store.elastic.bulk import Bulk
from headrace.engine.store.elastic.cluster import Cluster, RefusedError
from headrace.engine.store.elastic.erasing import erase
from headrace.engine.store.elastic.gets import Gets
from headrace.engine.store.elastic.keeping import reown
from headrace.engine.store.elastic.migrate import abandon, migrate, plan
from headrace.engine.store.elastic.place import read_place
from headrace.engine.store.elastic.search import refresh
from headrace.engine.store.elastic.settle import Settler
from headrace.engine.store.elastic.sweep import Sweeper
from headrace.engine.store.protocol import Query
from tests.elastic.page import run, section, shell_blocks
from tests.elastic.secured import SECURITY, SecuredNode, secured_node
from tests.store_contract import change, event_row, has_committed, profile_write, session_write


@pytest.fixture(scope="module")
def node() -> Iterator[SecuredNode]:
    """Start a node on which users need rights."""
    with pytest.MonkeyPatch.context() as patch, secured_node(patch) as node:
        yield node


@pytest.fixture(scope="module")
def ways(node: SecuredNode, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Do what the page says, and return the URLs of a store for the user and for the API key."""
    path = tmp_path_factory.mktemp("rights")
    by_user, by_key = shell_blocks("Rights")
    run(by_user, path, node.admin_url, "headrace")
    key = json.loads(run(by_key, path, node.admin_url, "headrace"))["encoded"]
    return {
        "user": f"elasticsearch://headrace:a-long-password@{node.host}/headrace",
        "key": f"elasticsearch://{node.host}/headrace?api_key={key.replace('=', '%3D')}",
    }


@pytest.fixture(params=["user", "key"])
async def cluster(request: pytest.FixtureRequest, ways: dict[str, str]) -> AsyncIterator[Cluster]:
    """Reach the node with the rights of the page."""
    cluster = Cluster(read_place(ways[request.param]))
    yield cluster
    await cluster.close()


def test_the_page_names_the_indices_that_this_node_lets_be_made() -> None:
    (shown,) = re.findall(
        r"^action.auto_create_index: .*$", section("A cluster for production"), re.MULTILINE
    )
    assert shown in SECURITY


async def test_they_are_enough_for_everything(cluster: Cluster) -> None:
    store = ElasticStore(cluster.place, dedup_days=28, request_seconds=10)
    assert await store.ready() == "", store.describe()
    for name in ("ann", "bob"):
        committed = change(
            profile=profile_write(name),
            session=session_write(f"{name}'s visit", name),
            events=[event_row(f"{name}'s event", name)],
        )
        assert has_committed(await store.commit(committed))
    await store.close()
    bulk, gets = Bulk(cluster), Gets(cluster)
    await refresh(cluster, "headrace-*")
    assert await Questions(cluster, gets, 28).count(Query("event")) == 2
    await Sweeper(cluster, bulk, Settler(bulk)).sweep()
    assert await reown(cluster, bulk, gets, "main", "ann", "bob") == 2
    assert (await erase(cluster, bulk, gets, "main", ["bob"]))["profile"] == 1
    assert (await erase(cluster, bulk, gets, "main", ["ann"]))["profile"] == 1
    await prune(cluster, bulk, {"event": 1, "session": 1, "failed": 1}, utc_now(), 28)


async def test_they_are_enough_to_migrate_and_to_give_that_up(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ElasticStore(cluster.place, dedup_days=28, request_seconds=10)
    assert await store.ready() == ""
    await store.close()
    about = await cluster.ask_json("GET", "/headrace-about/_doc/store")
    monkeypatch.setattr("headrace.engine.store.elastic.layout.VERSION", about["_source"]["version"] + 1)
    steps = await plan(cluster)
    assert steps
    assert sorted(await abandon(cluster)) == sorted(step.old for step in steps)
    done = [progress.name async for progress in migrate(cluster, grace_seconds=0)]
    assert {step.old for step in steps} <= set(done)
    assert await plan(cluster) == []
    # For the next test, which knows only the version of the program.
    monkeypatch.undo()
    for index in await cluster.ask_json("GET", "/headrace-*"):
        await cluster.ask("DELETE", f"/{index}")


async def test_others_indices_cannot_be_reached(cluster: Cluster) -> None:
    for method, path in (("GET", "/others/_search"), ("PUT", "/others"), ("GET", "/_security/user")):
        with pytest.raises(RefusedError) as refused:
            await cluster.ask(method, path)
        assert refused.value.status == 403


async def test_a_wrong_password_is_denied_and_said(node: SecuredNode) -> None:
    place = read_place(f"elasticsearch://headrace:wrong-hush@{node.host}/headrace")
    store = ElasticStore(place, dedup_days=28, request_seconds=10)
    assert await store.ready() == "store-denied"
    assert store.describe()["failure"] == "store-denied"
    assert "hush" not in str(store.describe())
    await store.close()
