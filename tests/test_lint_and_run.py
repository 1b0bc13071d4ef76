"""What lints clean does not fail in a run for names or ports."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from headrace.engine.catalog import Catalog, find_plugins
from headrace.engine.files.workspace import load_workspace
from headrace.engine.plugin import Example
from headrace.engine.run import run_workflow
from headrace.engine.testing.example import _passage

CATALOG = find_plugins(())
# These give the event another profile or session, which starts the whole request again.
START_AGAIN = {"load_profile", "create_profile", "attach_session"}
USES = [
    (name, example) for name, info in CATALOG.items() if name not in START_AGAIN for example in info.examples
]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return CATALOG


@st.composite
def workflows(draw: st.DrawFn) -> tuple[dict[str, Any], Example]:
    uses = draw(st.lists(st.sampled_from(USES), min_size=1, max_size=5))
    names = [f"n{number}" for number in range(len(uses))]
    nodes = {}
    for index, (name, (plugin, example)) in enumerate(zip(names, uses, strict=True)):
        info = CATALOG[plugin]
        config = info.plugin.config_type.model_validate(dict(example.config))
        ports = [*info.plugin.ports_for(config), "error", "eror"][: draw(st.integers(1, 9))]
        later = st.lists(st.sampled_from([*names[index + 1 :], "n4"]), max_size=2)
        then = {port: draw(later) for port in ports}
        join = draw(st.sampled_from(["any", "all"]))
        nodes[name] = {"plugin": plugin, "config": dict(example.config), "then": then, "join": join}
    return {"on": {"event": ["*"]}, "nodes": nodes}, uses[0][1]


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(made=workflows())
async def test_clean_workflows_run(tmp_path: Path, catalog: Catalog, made: tuple[Any, Example]) -> None:
    workflow, example = made
    (tmp_path / "workflows").mkdir(exist_ok=True)
    (tmp_path / "sources.json").write_text('{"sources": {"shop": {}}}')
    (tmp_path / "segments.json").write_text(
        json.dumps({"segments": {name: {} for name in segments(workflow)}})
    )
    (tmp_path / "workflows/made.json").write_text(json.dumps(workflow))
    workspace = load_workspace(tmp_path, catalog, lambda _: "secret")
    event("lints clean" if workspace.workflows else "has errors")
    for compiled in workspace.workflows:
        run = await run_workflow(compiled, _passage(example, {}))
        for done in run.done:
            # Data may fail a node; a name, a port, a type of config or a bug of the plugin may not.
            assert not re.match(r"[A-Z]\w*(Error|Exception): |plugin '", done.error), done.error
            assert done.out.port in done.node.ports


def segments(workflow: dict[str, Any]) -> set[str]:
    found = {node["config"].get("segment", "vip") for node in workflow["nodes"].values()}
    return {name for name in found if isinstance(name, str) and "{" not in name}
