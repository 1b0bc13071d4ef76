"""What lints clean fails in a request for its data only, whatever events come."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from headrace.engine.catalog import find_plugins, port_names
from headrace.engine.files.workspace import load_workspace
from headrace.engine.model import Doc, EventInput
from tests.conftest import OpenLab
from tests.makers import Lab

CATALOG = find_plugins(())
USES = [(name, dict(example.config)) for name, info in CATALOG.items() for example in info.examples]
# What the examples look for in their events, so that something is often there.
KEYS = sorted(
    {
        key
        for info in CATALOG.values()
        for example in info.examples
        for key in example.event.get("properties", {})
    }
)
NEAR = [
    value
    for info in CATALOG.values()
    for example in info.examples
    for value in example.event.get("properties", {}).values()
]


@pytest.fixture
def store_kind() -> str:
    """Use one store: this is about nodes."""
    return "embedded"


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
JSON = st.recursive(
    SCALARS | st.sampled_from(NEAR),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
PROPERTIES = st.dictionaries(st.sampled_from([*KEYS, "session", "items", "a.b"]), JSON, max_size=6)

ODD = re.compile(r"[A-Z]\w*(Error|Exception|Interrupt|Iteration): |plugin '")
"""How errors of plugins begin that are not said on purpose."""


@st.composite
def workflows(draw: st.DrawFn) -> Doc:
    """Draw a workflow of the built-in plugins that often lints clean."""
    uses = draw(st.lists(st.sampled_from(USES), min_size=1, max_size=5))
    names = [f"n{number}" for number in range(len(uses))]
    nodes: Doc = {}
    for index, (name, (plugin, config)) in enumerate(zip(names, uses, strict=True)):
        kind = CATALOG[plugin]
        ports = port_names(kind, kind.plugin.config_type.model_validate(config))
        later = names[index + 1 :]
        then = {
            port: draw(st.lists(st.sampled_from(later), max_size=2, unique=True)) for port in ports if later
        }
        join = draw(st.sampled_from(["any", "any", "any", "all"]))
        nodes[name] = {"plugin": plugin, "config": config, "then": then, "join": join}
    return {"on": {"event": ["*"]}, "nodes": nodes}


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(workflow=workflows(), sent=st.lists(PROPERTIES, min_size=1, max_size=3), profile_less=st.booleans())
async def test_failures_are_of_the_data(
    open_lab: OpenLab, tmp_path: Path, workflow: Doc, sent: list[Doc], profile_less: bool
) -> None:
    segments = {node["config"].get("segment", "vip") for node in workflow["nodes"].values()}
    files: Doc = {
        "segments.json": {"segments": {name: {} for name in segments if re.fullmatch(r"[\w-]+", str(name))}}
    }
    if not lints_clean(tmp_path / "lint", {"made": workflow} | files):
        event("has errors")
        return
    event("lints clean")
    async with open_lab({"made": workflow} | files, fresh=True) as lab:
        events = [EventInput("made", properties) for properties in sent]
        session = None if profile_less else "s1"
        for _ in range(2):
            answer = await lab.track(*events, profile_less=profile_less, session_id=session)
            assert answer.errors == []
        await check(lab, 2 * len(events))


def lints_clean(folder: Path, files: Doc) -> bool:
    (folder / "workflows").mkdir(parents=True, exist_ok=True)
    (folder / "sources.json").write_text('{"sources": {"shop": {}}}')
    (folder / "segments.json").write_text(json.dumps(files["segments.json"]))
    (folder / "workflows/made.json").write_text(json.dumps(files["made"]))
    return bool(load_workspace(folder, CATALOG, lambda _: "secret").workflows)


async def check(lab: Lab, number: int) -> None:
    await lab.engine.parts.keeper.flush()
    events: list[Any] = await lab.all("event")
    # A workflow may have made more.
    assert len([one for one in events if "emitted_by" not in one]) == number
    for trace in await lab.all("trace"):
        for node in trace["nodes"].values():
            assert not ODD.match(node.get("error", "")), node
