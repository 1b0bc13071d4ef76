"""The read API: who may ask, and what is answered."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from headrace.api.stories import Identity, Story
from headrace.api.tokens import Tokens, load_tokens
from headrace.engine.settings import Settings
from headrace.engine.variables import SettingsError
from tests.api.conftest import ADMIN, READ, Opens, Server, body_of


@pytest.mark.parametrize(
    "path",
    ["profiles/x", "profiles", "sessions/x", "events/x", "events/x/story", "events", "effects", "failed"],
)
async def test_every_path_asks_for_a_token(server: Server, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer nonsense"}, {"authorization": ADMIN}):
        answer = await server.client.get(f"/api/{path}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_token")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for token in (ADMIN, READ):
        assert (await server.read(f"/api/{path}", token)).status_code in (200, 404)


async def test_no_token_at_all_is_503_with_the_reason(open_server: Opens) -> None:
    async with open_server(Tokens(None)) as server:
        answer = await server.read("/api/events")
        assert (answer.status_code, answer.json()["code"]) == (503, "no_token")
        assert "HEADRACE_ADMIN_TOKEN" in answer.json()["detail"]


async def test_profiles(server: Server) -> None:
    ids = [
        (await server.track(body_of("purchase-order", session=f"s{n}"))).json()["profile"]["id"]
        for n in range(3)
    ]
    await server.track(body_of("page-view", session="plain"))
    one = await server.read(f"/api/profiles/{ids[0]}")
    assert one.json()["traits"]["product"] == "Nike shoes"
    found = (await server.read("/api/profiles?traits.product=Nike+shoes&segment=vip&traits.name=Ada")).json()
    assert {profile["id"] for profile in found["items"]} == set(ids)
    assert (await server.read("/api/profiles?traits.name=Bob")).json()["items"] == []
    assert len((await server.read("/api/profiles")).json()["items"]) == 4


async def test_tenants_are_apart(server: Server) -> None:
    profile = (await server.track(body_of("x", source="other"))).json()["profile"]["id"]
    event = (await server.read("/api/events?tenant=other")).json()["items"][0]
    for path in (f"profiles/{profile}", "sessions/s1", f"events/{event['key']}", f"events/{event['id']}"):
        assert (await server.read(f"/api/{path}")).status_code == 404
        assert (await server.read(f"/api/{path}?tenant=other")).status_code == 200
    assert (await server.read("/api/events")).json()["items"] == []
    gone = await server.read(f"/api/profiles/{profile}", method="DELETE")
    assert gone.status_code == 404


async def test_events_are_listed_by_what_is_asked(server: Server) -> None:
    profile = (await server.track(body_of("a", "b"))).json()["profile"]["id"]
    await server.track(body_of("a", source="chatty", session="s2"))
    for query, count in {
        "": 3,
        "?type=a": 2,
        "?source=chatty": 1,
        "?session=s1": 2,
        f"?profile={profile}": 2,
        f"?profile={profile}&type=b": 1,
        "?from=2020-01-01": 3,
        "?from=2020-01-01T00:00:00%2B02:00": 3,
        "?to=2020-01-01T00:00:00Z": 0,
        "?type=": 3,
        "?tenant=nobody": 0,
    }.items():
        answer = await server.read(f"/api/events{query}")
        assert len(answer.json()["items"]) == count, (query, answer.text)


async def test_pages_follow_one_another(server: Server) -> None:
    await server.track(body_of(*[f"t{n}" for n in range(7)]))
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await server.read(f"/api/events?limit=3&cursor={cursor}")).json()
        seen += [event["type"] for event in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert sorted(seen) == [f"t{n}" for n in range(7)]


async def test_a_cursor_of_another_list_is_refused(server: Server) -> None:
    await server.track(body_of("a", "b"))
    cursor = (await server.read("/api/events?limit=1")).json()["cursor"]
    for name in ("profiles", "effects", "failed"):
        answer = await server.read(f"/api/{name}?cursor={cursor}")
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_cursor")


@pytest.mark.parametrize("id", ["x/story", "/story", "story", "a%2Fstory", "%2e%2e/é ?#"])
async def test_an_id_is_read_whatever_is_in_it(server: Server, id: str) -> None:
    body: dict[str, Any] = body_of() | {"events": [{"type": "purchase-order", "id": id}]}
    assert (await server.track(body)).status_code == 200
    where = f"/api/events/{quote(id, safe='')}"
    assert (await server.read(where)).json()["id"] == id
    assert (await server.read(f"{where}/story")).json()["runs"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("from=yesterday", "from"),
        ("from=2026", "from should be a day as 2026-01-31"),
        ("to=20261122", "to should be a day as 2026-01-31"),
        ("to=-1", "to should be a day as 2026-01-31"),
        ("from=1763769600.5", "from should be a day as 2026-01-31"),
        ("from=2026-01-31&from=2026-02-01", "from"),
        ("zz=", "zz is not known here"),
        ("profile=", "profile has no value: give one, or leave it out"),
        ("type=a&session=", "session has no value"),
        ("tenant=", "tenant has no value"),
        ("cursor=nonsense", "cursor"),
        ("tpye=a", "Did you mean 'type'?"),
        ("type=a&type=b", "type"),
        ("traits.a=1", "traits.a"),
        ("a=%ff", "UTF-8"),
    ],
)
async def test_a_bad_query_is_422(server: Server, query: str, said: str) -> None:
    answer = await server.read(f"/api/events?{query}")
    assert answer.status_code == 422, answer.text
    assert said in answer.text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("effects?status=failed", "there is no 'failed'"),
        ("effects?status=Pending", "Did you mean 'pending'?"),
        ("effects?event=", "event has no value"),
        ("timers?status=done", "there is no 'done'"),
        ("timers?status=fired&status=dead", "status"),
        ("timers?profile=&status=fired", "profile has no value"),
    ],
)
async def test_a_filter_that_finds_nothing_ever_is_422(server: Server, query: str, said: str) -> None:
    answer = await server.read(f"/api/{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_query")
    assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    "query",
    [
        "profiles?traits.=1",
        "profiles?traits.a..b=1",
        "profiles?traits['x']=1",
        "profiles?traits.a%27%22%5D%5B=1",
        "profiles?traits.%00=%00",
        "profiles?traits.a.b.c.d=" + "x" * 2000,
        "profiles?segment=%00",
        "profiles?limit=99999999999999999999999999",
        "profiles?" + "&".join(f"traits.t{n}=1" for n in range(999)),
        "events?from=0001-01-01T00:00:00%2B14:00",
        "events?to=9999-12-31T23:59:59-14:00",
        "events?from=9999-99-99",
        "events?type=%F0%9F%98%80&session=%00&profile=%27",
        "events?cursor=WyJhIiwgMV0",
        "events?tenant=%00",
        "events/%00",
        "events/%F0%9F%98%80?source=%00",
        "events/" + "f" * 32,
        "profiles/%ff",
        "sessions/" + "x" * 5000,
        "sessions/a%2Fb%3Fc",
    ],
)
async def test_hostile_questions_are_no_fault(server: Server, query: str) -> None:
    await server.track(body_of("purchase-order"))
    answer = await server.read(f"/api/{query}")
    assert answer.status_code in (200, 404, 422), answer.text
    assert answer.headers["content-type"] in ("application/json", "application/problem+json")


async def test_one_event_by_key_or_id(server: Server) -> None:
    body: dict[str, Any] = body_of() | {
        "events": [{"type": "purchase-order", "id": "e/1", "properties": {"product": "P"}}]
    }
    await server.track(body)
    one = (await server.read("/api/events/e/1")).json()
    assert one["id"] == "e/1"
    assert (await server.read(f"/api/events/{one['key']}")).json() == one
    story = (await server.read("/api/events/e/1/story")).json()
    assert story["runs"][0]["workflow"] == "remember"
    assert msgspec.convert(story, Story).identity == Identity(
        one["profile"], one["session"], "new", story["identity"]["why"]
    )
    await server.track(body | {"source": {"id": "chatty"}, "session": {"id": "s2"}})
    both = await server.read("/api/events/e/1")
    assert (both.status_code, both.json()["code"]) == (409, "many_events")
    assert [error["message"] for error in both.json()["errors"]] == ["web", "chatty"]
    assert (await server.read("/api/events/e/1/story")).status_code == 409
    assert (await server.read("/api/events/e/1?source=chatty")).json()["source"] == "chatty"
    assert (await server.read("/api/events/e/1?source=nobody")).status_code == 404


async def test_an_event_that_was_refused_has_a_story(server: Server) -> None:
    await server.track(body_of() | {"events": [{"type": "order", "id": "no", "properties": {"total": "x"}}]})
    assert (await server.read("/api/events/no")).status_code == 404
    story = msgspec.convert((await server.read("/api/events/no/story")).json(), Story)
    assert story.event is None
    assert [(one["code"], one["source"]) for one in story.refused] == [("schema", "web")]
    assert (await server.read("/api/events/no/story?source=chatty")).status_code == 404
    assert (await server.read("/api/events/never/story")).status_code == 404


async def test_failed_events_are_listed_with_the_reasons(server: Server) -> None:
    await server.track(body_of() | {"events": [{"type": "order", "properties": {"total": "x"}}]})
    (failed,) = (await server.read("/api/failed?source=web&type=order")).json()["items"]
    assert "total" in str(failed)
    assert (await server.read("/api/failed?source=chatty")).json()["items"] == []
    assert (await server.read("/api/effects?status=pending")).json() == {"items": [], "cursor": None}


async def test_erasing_needs_the_admin_and_erases_everywhere(server: Server) -> None:
    profile = (await server.track(body_of("purchase-order"))).json()["profile"]["id"]
    refused = await server.read(f"/api/profiles/{profile}", READ, "DELETE")
    assert (refused.status_code, refused.json()["code"]) == (403, "admin_only")
    erased = await server.read(f"/api/profiles/{profile}", method="DELETE")
    assert erased.status_code == 200
    assert erased.json()["erased"]["profile"] == 1
    for path in (f"profiles/{profile}", "sessions/s1"):
        assert (await server.read(f"/api/{path}")).status_code == 404
    assert (await server.read("/api/events")).json()["items"] == []
    assert (await server.read(f"/api/profiles/{profile}", method="DELETE")).status_code == 404


async def test_a_person_is_exported_line_by_line(server: Server) -> None:
    profile = (await server.track(body_of("a", "b"))).json()["profile"]["id"]
    await server.track(body_of("a", session="s2"))
    answer = await server.read(f"/api/profiles/{profile}/export", READ)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["kind"] for line in lines] == ["profile", "event", "event", "session"]
    assert lines[0]["doc"]["id"] == profile
    for path in ("/api/profiles/nobody/export", f"/api/profiles/{profile}/export?tenant=other"):
        gone = await server.read(path)
        assert (gone.status_code, gone.json()["code"]) == (404, "no_profile")
    assert (await server.read(f"/api/profiles/{profile}/export", "")).status_code == 401


async def test_answers_are_not_for_caches(server: Server) -> None:
    answer = await server.read("/api/events")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/api/events", "GET, HEAD"),
        ("PUT", "/api/profiles/x", "DELETE, GET, HEAD"),
        ("DELETE", "/healthz", "GET, HEAD"),
    ],
)
async def test_other_methods_are_405(server: Server, method: str, path: str, allow: str) -> None:
    answer = await server.read(path, method=method)
    assert answer.status_code == 405
    assert sorted(answer.headers["allow"].split(", ")) == allow.split(", ")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_other_paths_are_404_problems(server: Server) -> None:
    for path in (
        "/",
        "/api",
        "/api/nothing",
        "/track/",
        "/docs/",
        "/docs/../x",
        "/api/events/",
        "/%2e%2e/etc",
    ):
        answer = await server.read(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_token_is_made_once_and_kept_for_the_owner_only(tmp_path: Path) -> None:
    settings = Settings.load({}, data=tmp_path / "data")
    first = load_tokens(settings)
    assert first.made == tmp_path / "data" / "token"
    assert first.made.stat().st_mode & 0o777 == 0o600
    assert first.admin is not None
    assert len(first.admin) > 30
    again = load_tokens(settings)
    assert (again.admin, again.made) == (first.admin, None)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["token"]
    assert again.level(f"Bearer {first.admin}".encode()) == "admin"


def test_a_token_that_is_set_is_the_one(tmp_path: Path) -> None:
    settings = Settings.load({"HEADRACE_ADMIN_TOKEN": "a", "HEADRACE_READ_TOKENS": "r,q"}, data=tmp_path)
    tokens = load_tokens(settings)
    assert [tokens.level(f"Bearer {token}".encode()) for token in ("a", "r", "q", "x", "")] == [
        "admin",
        "read",
        "read",
        None,
        None,
    ]
    assert not (tmp_path / "token").exists()


def test_a_token_file_that_is_empty_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("")
    with pytest.raises(SettingsError, match="empty"):
        load_tokens(Settings.load({}, data=tmp_path))
