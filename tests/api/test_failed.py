"""Failed events by HTTP: listed, read, mended and sent again."""

from typing import Any

from tests.api.conftest import READ, Opens, Server, body_of


async def refuse(server: Server, *properties: Any) -> list[str]:
    """Send orders that are refused, with the ids o0, o1 …; returns the paths of the failed events."""
    events = [
        {"type": "order", "properties": each, "id": f"o{number}"} for number, each in enumerate(properties)
    ]
    sent = await server.track(body_of("view", session="s") | {"events": events})
    assert [error["code"] for error in sent.json()["errors"]] == ["schema"] * len(properties)
    found = (await server.read("/api/failed")).json()["items"]
    paths = {doc["event"]: f"/api/failed/{doc['id']}" for doc in found}
    return [paths[f"o{number}"] for number in range(len(properties))]


async def test_failed_events_are_read(open_server: Opens) -> None:
    async with open_server() as server:
        (path,) = await refuse(server, {"total": "much"})
        found = (await server.read(path)).json()
        assert (found["event"], found["code"], found["status"]) == ("o0", "schema", "failed")
        assert found["raw"]["properties"] == {"total": "much"}
        assert (await server.read(f"{path}?tenant=other")).json()["code"] == "no_failed"
        assert (await server.read("/api/failed/none")).status_code == 404
        answer = await server.read(f"{path}/resend", token=READ, method="POST")
        assert (answer.status_code, answer.json()["code"]) == (403, "admin_only")
        assert (await server.read("/api/failed/none/resend", method="POST")).status_code == 404


async def test_a_mended_event_is_taken_once_under_its_id(open_server: Opens) -> None:
    async with open_server() as server:
        (path,) = await refuse(server, {"total": "much"})
        answer = await server.read(f"{path}/resend", method="POST")
        assert (answer.status_code, answer.json()["code"]) == (409, "refused_again")
        assert "/properties/total" in answer.json()["detail"]
        assert len((await server.read("/api/failed")).json()["items"]) == 1
        mended = {"properties": {"total": 5}}
        answer = await server.read(f"{path}/resend", method="POST", json=mended)
        assert (answer.status_code, answer.json()["status"]) == (200, "resent")
        (event,) = (await server.read("/api/events?type=order")).json()["items"]
        assert (event["id"], event["properties"], event["source"]) == ("o0", {"total": 5}, "web")
        assert answer.json()["resent"]["event"] == event["key"]
        assert answer.json()["raw"]["properties"] == {"total": "much"}
        assert (await server.read("/api/failed")).json()["items"] == []
        (kept,) = (await server.read("/api/failed?all=true")).json()["items"]
        assert kept == answer.json()
        # Once more is harmless.
        assert (await server.read(f"{path}/resend", method="POST", json=mended)).status_code == 200
        assert len((await server.read("/api/events?type=order")).json()["items"]) == 1
        (refusal,) = (await server.read(f"/api/events/{event['key']}/story")).json()["refused"]
        assert refusal["resent"] == kept["resent"]


async def test_one_that_is_refused_as_something_else_is_another_failed_event(open_server: Opens) -> None:
    async with open_server() as server:
        (path,) = await refuse(server, {"total": "much"})
        answer = await server.read(f"{path}/resend", method="POST", json={"properties": {"total": "more"}})
        assert (answer.status_code, answer.json()["code"]) == (409, "refused_again")
        (left,) = (await server.read("/api/failed")).json()["items"]
        assert (left["event"], left["raw"]["properties"]) == ("o0", {"total": "more"})
        assert len((await server.read("/api/failed?all=true")).json()["items"]) == 2


async def test_what_cannot_be_a_mended_event_is_refused(open_server: Opens) -> None:
    async with open_server(body_limit_bytes=2000) as server:
        (path,) = await refuse(server, {"total": "much"})
        wrong: dict[str, Any] = {
            "id": "other",
            "type": " ",
            "properties": [],
            "version": 5,
            "propertys": {},
            "time": 5,
        }
        answer = await server.read(f"{path}/resend", method="POST", json=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_fields")
        assert {error["pointer"] for error in answer.json()["errors"]} == {f"/{name}" for name in wrong}
        for body, status in ((b"[]", 422), (b"{", 400), (b" " * 3000, 413), (b'{"time": "soon"}', 422)):
            answer = await server.client.post(
                f"{path}/resend", content=body, headers={"Authorization": "Bearer admin-token"}
            )
            assert answer.status_code == status, body
        answer = await server.read(f"{path}/resend", method="POST", json={"time": "soon"})
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/time"]
        assert answer.json()["detail"].startswith("/time ")
        assert (await server.read(path)).json()["status"] == "failed"


async def test_an_event_whose_source_is_gone_cannot_be_sent_again(open_server: Opens) -> None:
    async with open_server() as server:
        (path,) = await refuse(server, {})
        sources = server.engine.workspace.sources
        del sources["web"]  # type: ignore[attr-defined]
        answer = await server.read(f"{path}/resend", method="POST")
        assert (answer.status_code, answer.json()["code"]) == (409, "no_source")
