"""Fixtures that run a test over every store."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.parts.elasticsearch import ElasticsearchNode
from tests.parts.fixtures import OPTIONS, REFRESH, delete_all
from tests.stores import STORES, ElasticPlace, EmbeddedPlace, Place


@pytest.fixture(params=STORES)
def store_kind(request: pytest.FixtureRequest) -> str:
    """Run a test over every store. A module whose tests are about one store has a fixture of this name."""
    kind: str = request.param
    return kind


@pytest.fixture
def place(request: pytest.FixtureRequest, store_kind: str, tmp_path: Path) -> Place:
    """Give a place of the test's own, in which nobody else writes, not even a process that dies late."""
    if store_kind == "embedded":
        return EmbeddedPlace(tmp_path / "data")
    url: str = request.getfixturevalue("elastic_url")
    return ElasticPlace(request.getfixturevalue("elasticsearch_node"), url)


@contextmanager
def own_place(node: ElasticsearchNode, options: str = f"refresh={REFRESH}") -> Iterator[ElasticPlace]:
    """Give a place on a node, which is deleted in the end."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    yield ElasticPlace(node, f"elasticsearch://{node.host}/{prefix}?{options}")
    delete_all(node, prefix)


@pytest.fixture(scope="session")
def elastic_room(elasticsearch_node: ElasticsearchNode) -> Iterator[ElasticPlace]:
    """Make indices once for all tests whose engine ends with them; each finds them empty."""
    with own_place(elasticsearch_node, OPTIONS) as place:
        yield place


@pytest.fixture
def room(request: pytest.FixtureRequest, store_kind: str, tmp_path: Path) -> Place:
    """Give an empty place to a test whose engine runs, and ends, within it: quicker than `place`."""
    if store_kind == "embedded":
        return EmbeddedPlace(tmp_path / "data")
    shared: ElasticPlace = request.getfixturevalue("elastic_room")
    if not shared.node.ready():
        shared.node.restart()
    shared.clear()
    return shared
