"""Broken workspaces give their golden problems; nothing makes lint crash."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.engine.catalog import Catalog, find_plugins
from headrace.engine.errors import WorkspaceError
from headrace.engine.files.lint import lint, workspaces_in
from headrace.engine.files.problem import CODES, Problem, dotted
from headrace.engine.files.workspace import load_workspace
from tests.pace import timed

BROKEN = Path(__file__).parent / "broken"
CASES = sorted(folder.name for folder in BROKEN.iterdir() if folder.is_dir())
REGENERATE = "HEADRACE_REGENERATE"
"""Set it to write the golden files anew; then read the difference."""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return find_plugins(())


def unset(_: str) -> str | None:
    return None


def as_text(problems: list[Problem]) -> str:
    lines = [
        f"{one.severity} {one.line or '-'}:{one.column or '-'} {str(one).encode('ascii', 'replace').decode()}"
        for one in problems
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, catalog: Catalog) -> None:
    found = as_text(lint(BROKEN / case, catalog, unset))
    golden = BROKEN / f"{case}.txt"
    if os.environ.get(REGENERATE):
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 40
    assert {file.stem for file in BROKEN.glob("*.txt")} == set(CASES)


def test_every_code_has_a_case() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in BROKEN.glob("*.txt"))
    elsewhere = {"F01", "F09", "F14", "P01", "P02"}  # test_workspace, test_watch and test_catalog
    assert {code for code in CODES if f"[{code}]" not in text} <= elsewhere


@pytest.mark.parametrize("case", CASES)
def test_a_workspace_loads_whatever_is_good_in_it(case: str, catalog: Catalog) -> None:
    has_sources = not any(
        p.file == "sources.json" and p.is_error for p in lint(BROKEN / case, catalog, unset)
    )
    if has_sources:
        workspace = load_workspace(BROKEN / case, catalog, unset)
        files = {f"workflows/{workflow.name}.json" for workflow in workspace.workflows}
        assert not files & set(workspace.broken)
    else:
        with pytest.raises(WorkspaceError, match="cannot be used"):
            load_workspace(BROKEN / case, catalog, unset)


def test_a_problem_reads_as_a_sentence() -> None:
    problem = Problem(
        "workflows/welcome.json",
        "nodes.rate.plugin",
        "W03",
        "no plugin 'ad_segment'",
        "Did you mean 'add_segment'?",
    )
    said = (
        "workflows/welcome.json: nodes.rate.plugin: no plugin 'ad_segment'. Did you mean 'add_segment'? [W03]"
    )
    assert str(problem) == said


def test_places_are_dotted() -> None:
    assert dotted(("nodes", "a", "then", "true", 0)) == "nodes.a.then.true[0]"
    assert dotted(("fields", "profile.traits.x")) == "fields['profile.traits.x']"
    assert dotted(()) == ""


def test_a_folder_of_workspaces(tmp_path: Path) -> None:
    assert workspaces_in(tmp_path) == [tmp_path]
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sources.json").write_text("{}")
    (tmp_path / "c").mkdir()
    assert workspaces_in(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert workspaces_in(tmp_path / "a") == [tmp_path / "a"]


def test_a_clean_workspace(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", {"sources": {"shop": {}}})
    write(tmp_path, "workflows/hello.json", WORKFLOW)
    assert lint(tmp_path, catalog, unset) == []


WORKFLOW = {"on": {"event": ["order"]}, "nodes": {"a": {"plugin": "log", "config": {"message": "hello"}}}}
FILES = [
    "sources.json",
    "event_types.json",
    "segments.json",
    "goals.json",
    "workflows/hello.json",
    "workflows/hello.test.json",
]
PLUGINS = list(find_plugins(()))

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.sampled_from(["$ref", "type"]), inner, max_size=4)
    ),
    max_leaves=12,
)
node_names = st.sampled_from(["a", "b", "c", "B!", ""])
ports = st.sampled_from(["true", "false", "error", "done", "x"])
expressions = st.sampled_from(
    ["profile.id", "event.properties.x > 1", "{{ nodes.a.b }}", "{% if", "1 +", "nodes.z"]
)
nodes = st.fixed_dictionaries(
    {"plugin": st.sampled_from([*PLUGINS, "nope"])},
    optional={
        "config": st.dictionaries(
            st.sampled_from(["when", "message", "segment", "field", "fields", "value", "type", "cases"]),
            expressions | anything,
            max_size=3,
        ),
        "then": st.dictionaries(ports, st.lists(node_names, max_size=3), max_size=3) | anything,
        "join": st.sampled_from(["any", "all", 1]),
        "disabled": st.booleans(),
        "retry": anything,
        "timeout_seconds": anything,
    },
)
workflows = st.fixed_dictionaries(
    {
        "on": st.fixed_dictionaries({"event": st.lists(st.text(max_size=5), max_size=3) | anything})
        | anything,
        "nodes": st.dictionaries(node_names, nodes | anything, max_size=4),
    },
    optional={"order": anything, "$schema": anything, "x": anything},
)
entries = st.sampled_from(["sources", "event_types", "segments", "goals", "tests"])
schemas = st.dictionaries(
    st.sampled_from(["type", "properties", "$ref", "pattern", "items", "allOf", "$id", "$schema"]), anything
)
members = st.dictionaries(
    st.sampled_from(
        ["schema", "about", "keys", "origins", "rate_limit", "events", "mocks", "expect", "name"]
    ),
    anything | schemas,
    max_size=4,
)
declared = st.dictionaries(
    entries,
    st.dictionaries(st.text(max_size=6), members | anything, max_size=3) | st.lists(members),
    max_size=2,
)


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(file=st.sampled_from(FILES), value=anything | workflows | declared)
def test_lint_never_crashes_on_json(tmp_path: Path, catalog: Catalog, file: str, value: Any) -> None:
    check_all(tmp_path, catalog, file, json.dumps(value).encode())


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    file=st.sampled_from(FILES),
    data=st.binary(max_size=60) | st.text('{}[]":,\\ u0dtrue1eE+-.\n').map(str.encode),
)
def test_lint_never_crashes_on_bytes(tmp_path: Path, catalog: Catalog, file: str, data: bytes) -> None:
    check_all(tmp_path, catalog, file, data)


def check_all(folder: Path, catalog: Catalog, file: str, data: bytes) -> None:
    write(folder, "sources.json", {"sources": {"shop": {}}})
    write(folder, "workflows/hello.json", WORKFLOW)
    (folder / file).write_bytes(data)
    for problem in lint(folder, catalog, unset):
        assert problem.code in CODES
        assert str(problem)
    (folder / file).unlink()


def write(folder: Path, file: str, value: object) -> None:
    target = folder / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100 + b'"\\"' * 300_000,
        b'{"a": ' + b'"' + b"\\" * 900_001,
        b"{" * 500_000,
        b'{"a":' * 60 + b"1" + b"}" * 60,
        b'{"sources": {' + b",".join(b'"s%d": {"x": 1}' % number for number in range(20_000)) + b"}}",
        json.dumps({"on": {"event": ["*" * 100_000]}, "nodes": {}}).encode(),
        json.dumps({"on": {"event": ["x"], "when": "(" * 5_000}, "nodes": {}}).encode(),
        json.dumps({"on": {"event": ["x"], "when": "not " * 5_000 + "1"}, "nodes": {}}).encode(),
        json.dumps({"on": {"event": ["x"], "when": "1" + "+1" * 5_000}, "nodes": {}}).encode(),
        json.dumps({"on": {"event": ["x"]}, "nodes": {"a": {"plugin": "x" * 100_000}}}).encode(),
    ],
)
@pytest.mark.parametrize("file", FILES)
def test_hostile_files_take_no_time(tmp_path: Path, catalog: Catalog, file: str, data: bytes) -> None:
    with timed() as took:
        check_all(tmp_path, catalog, file, data)
    assert took.seconds < 8


@pytest.mark.parametrize(
    ("plugin", "config"),
    [
        ("branch", {"when": "event.properties.a | NAME"}),
        ("branch", {"when": "NAME(1) == NAME"}),
        ("branch", {"when": "days_since(now, NAME=1) > 1"}),
        ("log", {"message": "{% NAME %}"}),
        ("log", {"NAME": 1}),
        ("once", {"name": "a", "period": "NAME"}),
        ("add_segment", {"segment": "NAME"}),
        ("NAME", {}),
    ],
)
def test_what_is_very_long_is_cut(
    plugin: str, config: dict[str, str], tmp_path: Path, catalog: Catalog
) -> None:
    node = {"plugin": plugin, "config": config, "then": {"NAME": ["NAME"]}}
    text = json.dumps({"on": {"event": ["a"], "source": ["NAME"]}, "nodes": {"a": node, "NAME": node}})
    (tmp_path / "workflows").mkdir()
    (tmp_path / "sources.json").write_text('{"sources": {"shop": {}}}')
    (tmp_path / "segments.json").write_text('{"segments": {"vip": {}}}')
    (tmp_path / "workflows/a.json").write_text(text.replace("NAME", "x" * 7000))
    found = lint(tmp_path, catalog, unset)
    assert len(found) > 3
    assert max(len(str(problem)) for problem in found) < 1000
