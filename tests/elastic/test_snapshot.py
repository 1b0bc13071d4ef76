"""Backup and restore by a snapshot, with the very commands of the page."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.engine.store.elastic import ElasticStore
from headrace.engine.store.elastic.place import Place, read_place
from headrace.engine.store.protocol import Ref
from tests.elastic.page import run, shell_blocks
from tests.parts.elasticsearch import ElasticsearchNode
from tests.store_contract import (
    change,
    event_key,
    event_row,
    has_committed,
    key_of,
    profile_write,
    read_profile,
    session_write,
)
from tests.stores import written

Names = dict[str, str]


@pytest.fixture
def names(elasticsearch_node: ElasticsearchNode) -> Iterator[Names]:
    """Return what stands for the page's names of the repository and its folder; both are gone afterwards."""
    _, found = elasticsearch_node.ask("GET", "/_nodes/settings?filter_path=**.path.repo")
    (node,) = found["nodes"].values()
    repository = f"test-{uuid.uuid4().hex[:8]}"
    yield {
        "_snapshot/headrace": f"_snapshot/{repository}",
        "/var/backups/elasticsearch/headrace": f"{node['settings']['path']['repo'][0]}/{repository}",
    }
    elasticsearch_node.ask("DELETE", f"/_snapshot/{repository}/monday")
    elasticsearch_node.ask("DELETE", f"/_snapshot/{repository}")


def opened(place: Place) -> ElasticStore:
    return ElasticStore(place, dedup_days=28, request_seconds=10)


async def test_a_restored_store_goes_on_where_the_snapshot_was_made(
    elastic_url: str, elasticsearch_node: ElasticsearchNode, names: Names, tmp_path: Path
) -> None:
    place = read_place(elastic_url)
    repository, snapshot, restore = shell_blocks("Backup and restore")
    store = opened(place)
    await store.commit(
        change(
            profile=profile_write("ann"),
            session=session_write("visit", "ann"),
            events=[event_row("kept", "ann")],
        )
    )
    await written(store)
    run(repository, tmp_path, elasticsearch_node.url, place.prefix, **names)
    said = json.loads(run(snapshot, tmp_path, elasticsearch_node.url, place.prefix, **names))
    assert (said["snapshot"]["state"], said["snapshot"]["failures"]) == ("SUCCESS", [])
    late = change(profile=profile_write("ann", await read_profile(store, "ann")), events=[event_row("late")])
    assert has_committed(await store.commit(late))
    await store.close()

    said = run(restore, tmp_path, elasticsearch_node.url, place.prefix, **names)
    # Before it, what the deletions answered.
    (restored,) = json.loads(said[said.index('{"snapshot"') :]).values()
    assert restored["shards"]["failed"] == 0
    again = opened(place)
    assert await again.ready() == ""
    kept, lost, session = await again.read(
        [
            Ref("seen", event_key("kept")),
            Ref("seen", event_key("late")),
            Ref("session", key_of("session", "visit")),
        ]
    )
    assert kept is not None
    assert session is not None
    # What came after the snapshot is not known any more: sent again it counts once.
    assert lost is None
    anew = change(profile=profile_write("ann", await read_profile(again, "ann")), events=[event_row("late")])
    assert has_committed(await again.commit(anew))
    await again.close()
    _, found = elasticsearch_node.ask("GET", f"/_alias/{place.prefix}-*")
    assert f"{place.prefix}-events" in str(found)
