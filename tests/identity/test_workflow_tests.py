"""Identity in tests of workflows: in memory, without a store."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.catalog import find_plugins
from headrace.engine.files.workflow_test import TestCase
from headrace.engine.files.workspace import Workspace, load_workspace
from headrace.engine.model import Doc
from headrace.engine.testing.runner import TestResult, run_test

ANN: Doc = {
    "id": "ann",
    "identities": {"email": ["ann@example.com"]},
    "traits": {"name": "Ann"},
    "time": {"created": "2025-01-01T00:00:00.000Z"},
}
BOB: Doc = {"id": "bob", "identities": {"email": ["bob@example.com"]}, "traits": {"name": "Bob"}}
BY_MAIL = {"kind": "email", "value": "{{ event.properties.email }}"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "workflows").mkdir()
    types = {"sign-in": {"identify": {"email": {"path": "event.properties.email"}}}, "say": {}}
    files: Doc = {
        "sources.json": {"sources": {"back": {"keys": [{"secret": "BACK"}]}, "web": {}}},
        "event_types.json": {"event_types": types},
        "workflows/mine.json": {
            "on": {"event": ["*"]},
            "nodes": {
                "which": {
                    "plugin": "switch",
                    "config": {
                        "cases": {
                            "identify": "event.properties.by == 'identify'",
                            "merge": "event.properties.by == 'merge'",
                            "load": "event.properties.by == 'load'",
                        }
                    },
                    "then": {
                        "identify": ["identify"],
                        "merge": ["merge"],
                        "load": ["load"],
                        "otherwise": ["count"],
                    },
                },
                "identify": {"plugin": "identify", "config": BY_MAIL, "then": {"done": ["count"]}},
                "merge": {
                    "plugin": "merge_profiles",
                    "config": {"profile": "{{ event.properties.id }}"},
                    "then": {"done": ["count"]},
                },
                "load": {"plugin": "load_profile", "config": BY_MAIL, "then": {"found": ["count"]}},
                "count": {"plugin": "increment", "config": {"field": "profile.stats.counters.n"}},
            },
        },
    }
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    loaded = load_workspace(tmp_path, find_plugins(()), lambda _: "x")
    assert not loaded.problems
    return loaded


async def check(workspace: Workspace, event: Doc, expect: Doc, **more: Any) -> TestResult:
    test = {"name": "a test", "profiles": [ANN, BOB], "events": [event], "expect": expect} | more
    return await run_test(workspace, workspace.workflows[0], TestCase.model_validate(test))


SIGN_IN: Doc = {"type": "sign-in", "properties": {"email": "Ann@example.com"}}
COUNTED: Doc = {"stats": {"counters": {"n": 1}}}
IS_ANN: Doc = {"id": "ann", "traits": {"name": "Ann"}, **COUNTED}


@pytest.mark.parametrize(
    ("about", "event", "expect", "more"),
    [
        ("a new visitor", SIGN_IN, IS_ANN, {}),
        ("a visitor who was there before", SIGN_IN, IS_ANN, {"profile": {"id": "visitor"}}),
        (
            "somebody else on the device",
            SIGN_IN,
            IS_ANN,
            {"profile": BOB, "profiles": [ANN], "session": {"id": "s"}},
        ),
        (
            "a source without a key",
            SIGN_IN,
            {"claimed": {"email": ["ann@example.com"]}, **COUNTED},
            {"source": "web"},
        ),
        ("a node", {"type": "say", "properties": {"by": "identify", "email": "ann@example.com"}}, IS_ANN, {}),
        ("a merge by a node", {"type": "say", "properties": {"by": "merge", "id": "ann"}}, IS_ANN, {}),
        (
            "a profile that is loaded",
            {"type": "say", "properties": {"by": "load", "email": "ann@example.com"}},
            IS_ANN,
            {"profile": None, "session": None},
        ),
    ],
)
async def test_who_it_is(workspace: Workspace, about: str, event: Doc, expect: Doc, more: Doc) -> None:
    result = await check(workspace, event, {"profile": expect}, **more)
    assert result.differences == [], about


async def test_the_clock_goes_on_after_a_merge(workspace: Workspace) -> None:
    events = [SIGN_IN, {"advance": "3650d"}, SIGN_IN]
    test = {"name": "a test", "profiles": [ANN], "profile": {"id": "visitor"}, "events": events}
    expect = {"profile": {"id": "ann", "stats": {"counters": {"n": 2}}}, "waits": []}
    result = await run_test(
        workspace, workspace.workflows[0], TestCase.model_validate(test | {"expect": expect})
    )
    assert result.differences == []


async def test_values_of_a_profile_that_nobody_can_have(workspace: Workspace) -> None:
    nobody = {"id": "x", "identities": {"email": ["null"]}}
    result = await check(workspace, SIGN_IN, {}, profiles=[nobody])
    assert "identifies nobody" in result.differences[0].text
    wrong = {"id": "x", "identities": {"email": "ann@example.com"}}
    result = await check(workspace, SIGN_IN, {}, profiles=[wrong])
    assert "must be a list" in result.differences[0].text
