"""log, stop, respond and fail: what they do beside the ports."""

from typing import Any

import pytest

from headrace.engine.plugin import Example
from headrace.engine.testing.example import run_example


async def test_log_lines_have_level_and_place() -> None:
    ran = await run_example("log", Example({"message": "hi {{ profile.id }}", "level": "warning"}, "done"))
    (line,) = ran.passage.log
    assert (line["level"], line["message"], line["node"]) == ("warning", "hi p-1", "example")


@pytest.mark.parametrize("event", [True, False])
async def test_stop_ends_the_run_and_the_event_if_asked(event: bool) -> None:
    ran = await run_example("stop", Example({"event": event}, "stopped"))
    assert ran.passage.runs[0].stopped is True
    assert ran.passage.stopped is event


async def test_respond_replaces_members() -> None:
    ran = await run_example("respond", Example({"members": {"a": [1], "b": "{{ event.type }}"}}, "done"))
    assert ran.passage.response == {"a": [1], "b": "example"}


async def test_a_failed_node_leaves_nothing() -> None:
    example = Example({"members": {"a": 1, "b": "{{ 'x' * 9 }}"}}, "error")
    with pytest.raises(ValueError, match="expression"):
        await run_example("respond", example)
    ran = await run_example("fail", Example({"message": ""}, "error"))
    assert (ran.port, ran.passage.edits, ran.passage.response) == ("error", [], {})


@pytest.mark.parametrize(
    ("plugin", "config"),
    [
        ("log", {"message": "a", "level": "fatal"}),
        ("load_profile", {}),
        ("load_profile", {"id": "a", "session": "b"}),
        ("switch", {"cases": {}}),
        ("switch", {"cases": {"otherwise": "true"}}),
        ("switch", {"cases": {"error": "true"}}),
        ("switch", {"cases": {"a": "event.properties.total >"}}),
        ("branch", {"when": 1}),
        ("once", {"name": "a.b"}),
        ("once", {"name": "a", "period": "soon"}),
        ("set_consent", {"consent": "a b", "given": True}),
        ("set_consent", {"consent": "a", "given": "yes"}),
        ("has_consent", {"consents": []}),
        ("map_value", {"value": 1, "table": {"a": 1, "A": 2}, "ignore_case": True}),
        ("mask_value", {"value": "a", "mask": "--"}),
        ("previous_event", {"back": 0}),
        ("hash_value", {"value": "a", "key": "plain"}),
        ("hash_value", {"value": "a", "algorithm": "crc32"}),
    ],
)
async def test_configs_that_are_refused(plugin: str, config: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message differs with each row
        await run_example(plugin, Example(config, ""))
