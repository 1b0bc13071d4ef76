"""Versions and mappings of event types, through the door."""

from typing import Any

import pytest

from tests.api.conftest import Server, body_of


def body(**members: Any) -> dict[str, Any]:
    """Return the body of a request with one event."""
    return body_of(session="s") | {"events": [{"type": "note", "id": "e1"} | members]}


# With an object of times a body goes the long way.
WAYS: list[dict[str, Any]] = [{}, {"time": {"create": "2026-01-15T12:00:00Z"}}]


@pytest.mark.parametrize("more", WAYS)
@pytest.mark.parametrize(("given", "kept"), [("2", "2"), ("x" * 64, "x" * 64), ("", None), (None, None)])
async def test_a_version_is_kept_with_the_event(
    server: Server, more: dict[str, Any], given: str | None, kept: str | None
) -> None:
    assert (await server.track(body(version=given, **more))).status_code == 200
    (event,) = (await server.read("/api/events?type=note")).json()["items"]
    assert event.get("version") == kept


@pytest.mark.parametrize("more", WAYS)
@pytest.mark.parametrize("given", [2, 1.5, True, [], {}, "x" * 65])
async def test_what_is_no_version_is_a_bad_field(server: Server, more: dict[str, Any], given: Any) -> None:
    answer = await server.track(body(version=given, **more))
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_fields")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/events/0/version"]
