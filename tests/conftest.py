"""What all tests share."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from headrace.engine.store import elastic
from headrace.engine.store.open import open_store
from headrace.engine.store.protocol import Store
from tests.makers import Files, Lab, make_engine, write_workspace
from tests.stores import Place

pytest_plugins = ["tests.parts.fixtures", "tests.store_fixtures"]

# How long it takes says something of the machine only.
settings.register_profile("headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("headrace-ci", settings.get_profile("headrace"), derandomize=True, database=None)
settings.load_profile("headrace-ci" if "CI" in os.environ else "headrace")

# Assertions in the suites that several test files use explain themselves too.
pytest.register_assert_rewrite("tests.store_contract")

MADE_SECONDS = 60.0
"""Until a cluster's indices are made: a request waits less, but here three parts of the suite share a machine."""

OpenLab = Callable[..., AbstractAsyncContextManager[Lab]]


@pytest.fixture(autouse=True, scope="session")
def _patience() -> Iterator[None]:
    """Let who comes first to a cluster wait until it is made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elastic, "FIRST_SECONDS", MADE_SECONDS)
        yield


@pytest.fixture
def open_lab(tmp_path: Path, room: Place) -> OpenLab:
    """Return what opens an engine on a new workspace, and on a store that all labs of a test share or an empty one."""
    opened = 0

    @asynccontextmanager
    async def opening(
        files: Files | None = None,
        wrap: Callable[[Store], Store] | None = None,
        *,
        fresh: bool = False,
        **settings: Any,
    ) -> AsyncIterator[Lab]:
        nonlocal opened
        opened += 1
        workspace = write_workspace(tmp_path / f"workspace{opened}", files or {})
        data = tmp_path / (f"data{opened}" if fresh else "data")
        place = room.emptied(data) if fresh else room
        store = open_store(place.url, data=data)
        engine = make_engine(workspace, data, store=wrap(store) if wrap else store, **settings)
        await engine.start()
        try:
            yield Lab(engine, store, place)
        finally:
            await engine.stop()

    return opening
