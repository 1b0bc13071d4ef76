"""Fixtures that give tests a real Elasticsearch node."""

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.parts.download import get_elasticsearch
from tests.parts.elasticsearch import NAMED_BY, ElasticsearchNode, node_of_tests
from tests.parts.errors import PartError

REFRESH = "50ms"
OPTIONS = f"refresh={REFRESH}&timeout=20"
"""Of a store that no test makes faults for: a node that is only slow is waited for."""
"""How soon a test sees in a search what it wrote."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get Elasticsearch before the first test when one needs it: the download is not in the time of a test."""
    wanted = any(map(_needs_a_node, session.items))
    if not wanted or session.config.option.collectonly or os.environ.get(NAMED_BY):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    # A PartError comes again, and is shown, at each test that needs the node; the others run.
    with suppress(PartError):
        get_elasticsearch(
            os.environ, lambda said: reporter.write_line(f"elasticsearch: {said}") if reporter else None
        )


def _needs_a_node(item: pytest.Item) -> bool:
    """Say whether a test runs over Elasticsearch: by a fixture, or by a parameter that asks for it."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return "elasticsearch_node" in getattr(item, "fixturenames", ()) or "elastic" in map(
        str, parameters.values()
    )


@pytest.fixture(scope="session")
def elasticsearch_node() -> Iterator[ElasticsearchNode]:
    """Start one node for all tests of the session, when the first one asks. A test that kills takes its own."""
    with node_of_tests() as node:
        yield node


@pytest.fixture
def elastic_url(elasticsearch_node: ElasticsearchNode) -> Iterator[str]:
    """Give the URL of a store of its own on the node; what it made there is deleted after the test."""
    node = elasticsearch_node
    # A node that a test broke, or that the system killed, is no reason for all others to fail.
    if not node.ready():
        node.restart()
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    yield f"elasticsearch://{node.host}/{prefix}?{OPTIONS}"
    delete_all(node, prefix)


def delete_all(node: ElasticsearchNode, prefix: str) -> None:
    """Delete the indices and templates whose names begin with `prefix-`."""
    for place in (
        f"{prefix}-*?expand_wildcards=all",
        f"_index_template/{prefix}-*",
        f"_component_template/{prefix}-*",
    ):
        status, said = node.ask("DELETE", f"/{place}")
        # A pattern that nothing matches is 404 for templates.
        assert status in {200, 404}, said
