"""Profiles by HTTP: merged, read by every id, taken apart."""

import json
from typing import Any

import httpx

from headrace.engine.model import EventInput
from tests.api.conftest import ADMIN, READ, Opens, Server
from tests.makers import make_request
from tests.stores import written


async def visit(server: Server, session: str, **properties: Any) -> str:
    """Buy something in a session and return whose it is."""
    event = EventInput("purchase-order", properties)
    answer = await server.engine.track(make_request(event, source="web", session_id=session))
    assert answer.profile is not None
    return str(answer.profile["id"])


async def merge(server: Server, one: str, body: object, token: str = ADMIN) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {token}"}
    return await server.client.post(f"/api/profiles/{one}/merge", content=content, headers=headers)


async def test_two_profiles_are_merged_and_taken_apart(open_server: Opens) -> None:
    async with open_server(timers=False) as server:
        a, b = await visit(server, "s-a", product="lamp"), await visit(server, "s-b", product="desk")
        dry = await merge(server, b, {"with": a, "dry_run": True})
        assert dry.status_code == 200
        would = dry.json()
        assert (would["survivor"], would["merged"], would["dry_run"]) == (a, b, True)
        assert would["profile"]["traits"]["product"] == "desk"
        product = next(one for one in would["changes"] if one["path"] == ["traits", "product"])
        assert (product["before"], product["after"], product["strategy"]) == ("lamp", "desk", "newest")
        assert (await server.read(f"/api/profiles/{b}")).json()["id"] == b
        done = (await merge(server, b, {"with": a})).json()
        assert (done["survivor"], done["profile"]["ids"], done["dry_run"]) == (a, [a, b], False)
        assert (await server.read(f"/api/profiles/{b}")).json()["id"] == a
        await written(server.engine.store)
        server.place.show()
        for profile in (a, b):
            events = (await server.read(f"/api/events?profile={profile}")).json()["items"]
            assert {event["profile"] for event in events} == {a, b}
            sessions = (await server.read(f"/api/sessions?profile={profile}")).json()["items"]
            assert {session["id"] for session in sessions} == {"s-a", "s-b"}
        apart = (await server.read(f"/api/profiles/{b}/unmerge", token=ADMIN, method="POST")).json()
        assert (apart["profile"]["id"], apart["survivor"]["id"]) == (b, a)
        assert apart["survivor"]["traits"]["product"] == "lamp"
        assert (await server.read(f"/api/profiles/{b}")).json()["traits"]["product"] == "desk"


async def test_what_cannot_be_merged_is_told(open_server: Opens) -> None:
    async with open_server(timers=False) as server:
        a, b = await visit(server, "s-a", product="lamp"), await visit(server, "s-b", product="desk")
        refused = await merge(server, a, {"with": b}, token=READ)
        assert (refused.status_code, refused.json()["code"]) == (403, "admin_only")
        for body, status, code in (
            ({"with": "nobody"}, 404, "no_profile"),
            ({"with": a}, 409, "is_one"),
            ({"wiht": b}, 422, "bad_fields"),
            ({"with": b, "dry_run": "yes"}, 422, "bad_fields"),
            (b"{", 400, "bad_json"),
            (b'{"with": "%s"}' % (b"x" * 20_000), 413, "body_too_large"),
        ):
            answer = await merge(server, a, body)
            assert (answer.status_code, answer.json()["code"]) == (status, code), body
        answer = await merge(server, a, {"wiht": b, "dry_run": "yes"})
        pointers = [error["pointer"] for error in answer.json()["errors"]]
        assert pointers == ["/wiht", "/with", "/dry_run"]
        assert "did you mean 'with'" in answer.text.lower()
        answer = await server.read(f"/api/profiles/{a}/unmerge", token=ADMIN, method="POST")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_merged")
        answer = await server.read("/api/profiles/nobody/unmerge", token=ADMIN, method="POST")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_profile")
        assert (await server.read("/api/profiles/nobody")).status_code == 404
