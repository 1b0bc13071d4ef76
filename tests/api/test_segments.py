"""Segments by HTTP: listed, and why a profile is in one."""

import json

from tests.api.conftest import READ, Opens, body_of


async def test_segments_are_listed_and_explained(open_server: Opens) -> None:
    async with open_server(timers=False) as server:
        when = "events('purchase-order').count >= 2"
        segments = {"vip": {}, "buyer": {"when": when}}
        (server.live.current.path / "segments.json").write_text(json.dumps({"segments": segments}))
        assert await server.live.check()
        answer = await server.track(body_of("purchase-order", "purchase-order"))
        profile = answer.json()["profile"]["id"]
        vip, buyer = (await server.read("/api/segments", token=READ)).json()["items"]
        assert "when" not in vip
        assert (buyer["when"], buyer["members"]) == (when, 1)
        told = (await server.read(f"/api/segments/buyer/explain?profile={profile}", token=READ)).json()
        assert (told["is_member"], told["holds"]) == (True, True)
        assert told["parts"] == [
            {"text": when, "value": True, "reads": {"events('purchase-order').count": 2}}
        ]


async def test_wrong_questions(open_server: Opens) -> None:
    async with open_server(timers=False) as server:
        for path, status, code in (
            ("/api/segments/none/explain?profile=p", 404, "no_segment"),
            ("/api/segments/vip/explain?profile=p", 404, "no_condition"),
            ("/api/segments/vip/explain", 422, "bad_query"),
            ("/api/segments?segment=vip", 422, "bad_query"),
        ):
            answer = await server.read(path)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert (await server.client.get("/api/segments")).status_code == 401
