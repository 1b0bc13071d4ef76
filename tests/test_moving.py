"""Every store can be copied to every store."""

import pytest

from tests.moving_contract import MovingContract

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
