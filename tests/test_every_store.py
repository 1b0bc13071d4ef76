"""Every store keeps the contract."""

import pytest

from tests.store_contract import StoreContract


class TestEmbedded(StoreContract):
    @pytest.fixture
    def url(self) -> str:
        return "sqlite:"


class TestElasticsearch(StoreContract):
    @pytest.fixture
    def url(self, elastic_url: str) -> str:
        return elastic_url
