"""Traces are gathered and written together, as long as they are not too many."""

from collections.abc import Sequence
from typing import Any, cast

from headrace.engine import keeper
from headrace.engine.keeper import Keeper
from headrace.engine.store.protocol import Row, Store


class Writes:
    """A store that notes what it is given."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def keep_traces(self, traces: Sequence[Row]) -> None:
        self.batches.append([row.key for row in traces])


def rows(*keys: Any) -> list[Row]:
    return [Row(str(key), {}) for key in keys]


async def test_traces_of_several_requests_are_one_write() -> None:
    store = Writes()
    kept = Keeper(cast("Store", store))
    kept.add(rows("a"))
    kept.add(rows("b", "c"))
    assert store.batches == []
    await kept.close()
    assert store.batches == [["a", "b", "c"]]


async def test_too_many_traces_are_dropped() -> None:
    store = Writes()
    kept = Keeper(cast("Store", store))
    kept.add(rows(*range(keeper.MOST)))
    kept.add(rows("one too many"))
    await kept.close()
    assert [len(batch) for batch in store.batches] == [keeper.MOST]
