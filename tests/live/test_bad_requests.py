"""Hostile headers, paths and queries against a real server."""

import json
from pathlib import Path

import pytest

from tests.live.checks import REFUSALS
from tests.live.server import Server, track_body

HEADERS = (
    "Idempotency-Key",
    "webhook-id",
    "traceparent",
    "Authorization",
    "Origin",
    "Referer",
    "User-Agent",
    "X-Forwarded-For",
    "Content-Type",
    "DNT",
    "X-Timestamp",
)


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_any_kind(unharmed: Server, name: str) -> None:
    values = (
        "",
        " ",
        "x",
        "\xff\xfe",
        "a" * 20_000,
        "Basic !!",
        "Basic /w==",
        "Bearer \xe9",
        "Basic Og==",
        "null",
        "*",
        "00-" + "0" * 32 + "-" + "0" * 16 + "-00",
        "::1",
        "1.2.3.4, x",
        "application/json; charset=utf-7",
        "\t",
    )
    for value in values:
        for path in ("/track", "/collect/x/web"):
            status, _, answer = unharmed.request(
                "POST", path, json.dumps(track_body("h", session="headers")).encode(), **{name: value}
            )
            assert status == 200 or status in REFUSALS, (value, answer)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/api/profiles/%00",
            "/api/profiles/..%2f..%2fetc",
            "/api/profiles/%ff",
            "/api/profiles/" + "x" * 5000,
        ),
        *(
            "/api/profiles?traits.a.b.c=1",
            "/api/profiles?traits.=1",
            "/api/profiles?traits.%00=1",
            "/api/profiles?limit=0",
        ),
        *(
            "/api/profiles?traits.a'b=1",
            '/api/profiles?traits.a"b=1',
            "/api/profiles?traits.$[*]=1",
            "/api/profiles?a",
        ),
        *(
            "/api/events?cursor=x",
            "/api/events?cursor=%00",
            "/api/events?cursor=" + "A" * 2000,
            "/api/events?limit=1e9",
        ),
        *(
            "/api/events?from=9999-99-99",
            "/api/events?from=0001-01-01&to=9999-12-31",
            "/api/events?from=2026-01-01T00:00",
        ),
        *("/api/events?from=9999-12-31T23:59:59-23:59", "/api/events?to=0001-01-01T00:00:00%2B23:59"),
        *(
            "/api/events?type=%00",
            "/api/events?type=%ff",
            "/api/events?tenant=%00",
            "/api/events?x=1&x=2&x=3",
        ),
        *(
            "/api/events/%00/story",
            "/api/events/x?source=%00",
            "/api/events/%2e%2e/story",
            "/api/sessions/'%20OR%201=1",
        ),
        *(
            "/api/failed?cursor=%F0%9F%98%80",
            "/api/effects?status=%00",
            "/docs/..%2f..%2fetc/passwd",
            "/docs/%00",
            "//",
            "/%",
        ),
        *(
            "/collect/%ff/web",
            "/collect/%00/web",
            "/collect/a%2fb/web",
            "/collect//web",
            "/collect/x",
            "/collect/x/web/y",
        ),
        *(
            "/track?profile_less=maybe",
            "/track?profile_less=%ff",
            "/collect/x/web?a=%ff",
            "/?" + "a=b&" * 5000,
        ),
    ],
)
def test_paths_and_queries_of_any_kind(unharmed: Server, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "PUT", "OPTIONS", "HEAD"):
        if method == "DELETE" and not path.startswith("/api/profiles/"):
            continue
        headers = {"Authorization": "Bearer a-token-for-tests"}
        status, _, answer = unharmed.request(
            method, path, b"{}" if method in ("POST", "PUT") else None, **headers
        )
        assert status in (200, 204) or status in REFUSALS, (method, answer)


def test_no_answer_tells_of_paths_or_code(unharmed: Server, tmp_path: Path) -> None:
    for body in (b"{", b'{"source": 1}', b'{"source":{"id":"no"},"session":{"id":"s"},"events":[]}'):
        _, _, answer = unharmed.request("POST", "/track", body)
        for secret in (str(unharmed.data), str(tmp_path.parent), ".py", "Traceback", "headrace."):
            assert secret.encode() not in answer
