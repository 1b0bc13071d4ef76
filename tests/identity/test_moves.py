"""A session goes to a profile that is still to be made, whatever its request named before."""

from typing import Any

from headrace.engine.model import Caller, EventInput
from tests.conftest import OpenLab
from tests.identity.people import FILES, counted, living, session_of, sign_in, view, who

TRUSTED: dict[str, Any] = {"source": "backend", "caller": Caller(secret="hush")}


async def test_somebody_known_and_then_somebody_new_in_one_request(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        ann = who(await sign_in(lab, "home", email="ann@example.com"))
        answer = await lab.track(
            EventInput("sign-in", {"email": "ann@example.com"}),
            EventInput("sign-in", {"email": "bob@example.com"}),
            "page-view",
            session_id="tablet",
            **TRUSTED,
        )
        bob = who(answer)
        assert ann != bob
        assert (await living(lab, ann))["identities"] == {"email": ["ann@example.com"]}
        assert (await living(lab, bob))["identities"] == {"email": ["bob@example.com"]}
        assert [event["profile"] for event in await lab.all("event")] == [ann, ann, bob, bob]
        assert (await session_of(lab, "tablet"))["profile"] == bob
        assert await counted(lab) == (4, 4)


async def test_somebody_new_where_the_client_names_who_sat_there_before(open_lab: OpenLab) -> None:
    async with open_lab(FILES) as lab:
        ann = who(await sign_in(lab, "tablet", email="ann@example.com"))
        answer = await lab.track(
            EventInput("sign-in", {"email": "bob@example.com"}),
            session_id="tablet",
            profile_id=ann,
            **TRUSTED,
        )
        bob = who(answer)
        assert ann != bob
        assert await view(lab, "tablet") == bob
        assert await counted(lab) == (3, 3)
