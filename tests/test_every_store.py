"""Every store keeps the contract."""

import pytest

from tests.store_contract import StoreContract


class TestEveryStore(StoreContract):
    @pytest.fixture(params=["embedded"])
    def url(self, request: pytest.FixtureRequest) -> str:
        return {"embedded": "sqlite:"}[request.param]
