"""Every store can be copied to every store."""

import pytest

from headrace.engine.store.copying import Copying
from headrace.engine.store.moving import MOVED, Moving
from tests.moving_contract import MovingContract, ended_at

ONE = "sqlite:"


def second(url: str) -> str:
    """Return the URL of another store on the same cluster."""
    return url.replace("?", "-two?")


class TestFileToFile(MovingContract):
    @pytest.fixture
    def url(self) -> str:
        return ONE

    @pytest.fixture
    def other_url(self, tmp_path_factory: pytest.TempPathFactory) -> str:
        return f"sqlite:{tmp_path_factory.mktemp('other') / 'other.db'}"

    async def test_the_progress_of_a_copy_that_goes_on_is_that_of_everything(
        self, source: Moving, target: Moving
    ) -> None:
        await ended_at("event", source, target)
        job = Copying(source, target)
        await job.begin()
        steps = [at async for at in job.run()]
        assert {at.kind: (at.done, at.total) for at in reversed(steps)} == dict.fromkeys(MOVED, (0, 36))
        assert {at.kind: (at.done, at.total) for at in steps} == dict.fromkeys(MOVED, (36, 36))


class TestFileToCluster(MovingContract):
    @pytest.fixture
    def url(self) -> str:
        return ONE

    @pytest.fixture
    def other_url(self, elastic_url: str) -> str:
        return elastic_url


class TestClusterToFile(MovingContract):
    @pytest.fixture
    def url(self, elastic_url: str) -> str:
        return elastic_url

    @pytest.fixture
    def other_url(self) -> str:
        return ONE


class TestClusterToCluster(MovingContract):
    @pytest.fixture
    def url(self, elastic_url: str) -> str:
        return elastic_url

    @pytest.fixture
    def other_url(self, elastic_url: str) -> str:
        return second(elastic_url)
