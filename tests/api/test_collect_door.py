"""POST and GET /collect/{event type}/{source id}."""

from typing import Any

import pytest

from tests.api.conftest import SECRET, Server, body_of


async def events(server: Server) -> Any:
    return (await server.read("/api/events")).json()["items"]


@pytest.mark.requirement("004-37")
@pytest.mark.requirement("004-45")
@pytest.mark.requirement("004-47")
@pytest.mark.requirement("004-48")
@pytest.mark.requirement("004-39")
async def test_a_body_becomes_the_properties_of_an_event(server: Server) -> None:
    answer = await server.client.post("/collect/voucher-received/web", json={"coupon": "X1", "n": 2**70})
    assert answer.status_code == 200
    assert set(answer.json()) == {"event"}
    (event,) = await events(server)
    assert event["id"] == answer.json()["event"]["id"]
    assert (event["type"], event["properties"]) == ("voucher-received", {"coupon": "X1", "n": 2**70})
    assert event["session"] is None
    assert event["profile"] is None
    assert (await server.read("/api/profiles")).json()["items"] == []


@pytest.mark.requirement("004-46")
@pytest.mark.parametrize("source", ["nobody", "closed", "backend"])
async def test_the_same_401_as_track(server: Server, source: str) -> None:
    answer = await server.client.post(f"/collect/x/{source}", json={})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    headers = {"authorization": f"Bearer {SECRET}"}
    assert (await server.client.post("/collect/x/backend", json={}, headers=headers)).status_code == 200


@pytest.mark.parametrize("body", [b"", b"  ", b"{}"])
async def test_an_empty_body_is_an_empty_object(server: Server, body: bytes) -> None:
    assert (await server.client.post("/collect/x/web", content=body)).status_code == 200
    assert (await events(server))[0]["properties"] == {}


@pytest.mark.parametrize(
    ("body", "status"), [(b"[]", 422), (b"1", 422), (b'"x"', 422), (b"null", 422), (b"{", 400), (b"a=1", 400)]
)
async def test_only_an_object_is_taken(server: Server, body: bytes, status: int) -> None:
    assert (await server.client.post("/collect/x/web", content=body)).status_code == status
    assert await events(server) == []


@pytest.mark.requirement("004-4")
@pytest.mark.parametrize(
    ("path", "event_type"),
    [
        ("login%20attempt", "login attempt"),
        ("a%2Fb", "a/b"),
        ("%C3%A9t%C3%A9", "été"),
        ("%20x", " x"),
        ("items", "items"),
    ],
)
async def test_path_parts_are_decoded(server: Server, path: str, event_type: str) -> None:
    assert (await server.client.post(f"/collect/{path}/web", json={})).status_code == 200
    assert (await events(server))[0]["type"] == event_type


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/collect/%20/web", 422),
        ("/collect/" + "x" * 129 + "/web", 422),
        ("/collect/x/%00", 422),
        ("/collect/%ff/web", 422),
        ("/collect/x", 404),
        ("/collect/x/", 404),
        ("/collect//web", 404),
        ("/collect/", 404),
        ("/collect", 404),
        ("/collect/x/web/", 404),
        ("/collect/1/1/event", 404),
        ("/collect/x/web/s1", 404),
    ],
)
async def test_other_paths(server: Server, path: str, status: int) -> None:
    answer = await server.client.post(path, json={})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await events(server) == []


async def test_a_query_string_becomes_the_properties(server: Server) -> None:
    answer = await server.client.get("/collect/mail-opened/web?mail=a%40b.c&n=1&n=2&empty=&%C3%A9=%20")
    assert answer.status_code == 200
    expected = {"mail": "a@b.c", "n": ["1", "2"], "empty": "", "é": " "}
    assert (await events(server))[0]["properties"] == expected
    assert (await server.client.get("/collect/x/web?a=%ff")).status_code == 422
    assert (await server.client.get("/collect/x/web?" + "a=1&" * 1001)).status_code == 422
    assert (await server.client.get("/collect/x/web")).status_code == 200


@pytest.mark.parametrize("header", ["webhook-id", "idempotency-key"])
async def test_a_resend_is_harmless(server: Server, header: str) -> None:
    answers = [
        await server.client.post("/collect/x/web", json={"a": 1}, headers={header: "k1"}) for _ in range(3)
    ]
    assert {answer.text for answer in answers} == {answers[0].text}
    assert len(await events(server)) == 1


async def test_do_not_track_keeps_nothing(server: Server) -> None:
    for headers in ({"dnt": "1"}, {"dnt": "1 "}, {"sec-gpc": "1\t"}):
        answer = await server.client.post("/collect/x/web", json={}, headers=headers)
        assert (answer.status_code, answer.json()["not_kept"]) == (200, "dnt")
    assert await events(server) == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD"])
async def test_other_methods(server: Server, method: str) -> None:
    answer = await server.client.request(method, "/collect/x/web")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST, OPTIONS")


async def test_a_preflight(server: Server) -> None:
    headers = {"origin": "https://a.example", "access-control-request-method": "POST"}
    answer = await server.client.options("/collect/x/web", headers=headers)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "content-type" in answer.headers["access-control-allow-headers"]


@pytest.mark.requirement("004-40")
@pytest.mark.requirement("004-49")
async def test_a_workflow_links_a_profile_to_the_event(server: Server) -> None:
    known = (await server.track(body_of("page-view"))).json()["profile"]["id"]
    answer = await server.client.post(
        "/collect/coupon-received/web", json={"profile": known, "coupon": "X1", "visit": None}
    )
    told = answer.json()
    assert told["profile"] == {"id": known}
    assert told["response"] == {"empty": True}
    stored = (await server.read(f"/api/events/{told['event']['id']}")).json()
    assert stored["profile"] == known
    assert (await server.read(f"/api/profiles/{known}")).json()["traits"]["coupon"] == "X1"


@pytest.mark.requirement("004-49")
async def test_a_workflow_makes_a_profile_for_the_event(server: Server) -> None:
    answer = await server.client.post("/collect/coupon-received/web", json={"profile": "nobody"})
    told = answer.json()
    assert (await server.read(f"/api/profiles/{told['profile']['id']}")).status_code == 200
