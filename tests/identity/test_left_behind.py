"""An event that a server left half written counts once, wherever its session has gone since."""

from contextlib import AsyncExitStack
from typing import Any

import pytest

from headrace.engine.model import EventInput
from headrace.engine.store.elastic import ElasticStore
from tests.conftest import OpenLab
from tests.identity.people import counted, files, sign_in
from tests.identity.test_races import engines, settle
from tests.makers import Lab

VIEW = EventInput("page-view", {"page": 1}, id="view")


def dies(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a server write nothing more than it must before it answers, as one that is killed then."""
    if isinstance(lab.store, ElasticStore):
        monkeypatch.setattr(lab.store._backlog, "add", lambda _: None)


@pytest.mark.parametrize("then", ["moves", "is merged"])
async def test_it_is_sent_again_after_its_session_went_on(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    customers: dict[str, Any] = {"customer": {}}
    async with AsyncExitStack() as stack:
        labs = await engines(stack, open_lab, 2, files(**customers))
        await sign_in(labs[0], "home", customer="ann")
        await sign_in(labs[0], "tablet", customer="bob" if then == "moves" else None)
        await settle(labs)
        dies(labs[1], monkeypatch)
        await labs[1].track(VIEW, session_id="tablet")
        await sign_in(labs[0], "tablet", customer="ann")
        await labs[0].track(VIEW, session_id="tablet")
        await settle(labs[:1])
        await labs[0].place.finish()
        assert await counted(labs[0]) == (4, 4)
