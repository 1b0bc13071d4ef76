"""Every store keeps the contract."""

import pytest

from tests.store_contract import StoreContract
from tests.stores import Place


class TestEmbedded(StoreContract):
    @pytest.fixture
    def url(self) -> str:
        return "sqlite:"


class TestElasticsearch(StoreContract):
    @pytest.fixture
    def store_kind(self) -> str:
        return "elastic"

    @pytest.fixture
    def url(self, room: Place) -> str:
        return room.url
