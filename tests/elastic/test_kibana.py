"""The data views and the dashboard for Kibana fit our indices; Kibana itself does not run here."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.model import iso
from headrace.engine.store.elastic.layout import mapping
from headrace.engine.store.protocol import Row
from tests.elastic.conftest import Rig
from tests.store_contract import NOW, change, effect_row, event_row, key_of, profile_write

Doc = dict[str, Any]

FILE = Path(__file__).resolve().parents[2] / "docs/kibana/headrace.ndjson"
PREFIX = "headrace"
OBJECTS: list[Doc] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
PANELS = [each for each in OBJECTS if each["type"] == "lens"]
VIEWS = {each["id"]: each for each in OBJECTS if each["type"] == "index-pattern"}
NO_FIELD = "___records___"


def view_of(panel: Doc) -> Doc:
    (reference,) = panel["references"]
    return dict(VIEWS[reference["id"]]["attributes"])


def kind_of(view: Doc) -> str:
    return str(view["title"]).removeprefix(f"{PREFIX}-")


def runtime_fields(view: Doc) -> Doc:
    return dict(json.loads(view["runtimeFieldMap"]))


def columns_of(panel: Doc) -> dict[str, Doc]:
    (layer,) = panel["attributes"]["state"]["datasourceStates"]["formBased"]["layers"].values()
    assert sorted(layer["columnOrder"]) == sorted(layer["columns"])
    return {name: layer["columns"][name] for name in layer["columnOrder"]}


def test_every_object_says_what_an_import_asks_for() -> None:
    names = [(each["type"], each["id"]) for each in OBJECTS]
    assert len(set(names)) == len(names)
    assert [kind for kind, _ in names].count("dashboard") == 1
    for each in OBJECTS:
        assert each["attributes"]["title"]
        assert each["coreMigrationVersion"]
        assert each["typeMigrationVersion"]
        for reference in each["references"]:
            assert (reference["type"], reference["id"]) in names


def test_the_dashboard_shows_every_panel_once_and_none_covers_another() -> None:
    dashboard = OBJECTS[-1]
    panels = json.loads(dashboard["attributes"]["panelsJSON"])
    shown = {reference["name"]: reference["id"] for reference in dashboard["references"]}
    assert sorted(shown.values()) == sorted(panel["id"] for panel in PANELS)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        assert f"{panel['panelIndex']}:{panel['panelRefName']}" in shown
        grid = panel["gridData"]
        assert grid["i"] == panel["panelIndex"]
        assert grid["x"] + grid["w"] <= 48
        taken = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not taken & cells
        cells |= taken


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_is_of_an_index_of_ours_and_its_time_is_a_date(view: Doc) -> None:
    about = view["attributes"]
    fields = mapping(kind_of(about))["properties"]
    assert fields[about["timeFieldName"]]["type"] == "date"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["id"])
def test_every_field_exists_and_every_column_is_shown(panel: Doc) -> None:
    view = view_of(panel)
    (reference,) = panel["references"]
    assert reference["name"] == "indexpattern-datasource-layer-layer"
    known = mapping(kind_of(view))["properties"] | runtime_fields(view)
    columns = columns_of(panel)
    kinds = {"date_histogram": {"date"}, "terms": {"keyword"}, "unique_count": {"keyword"}}
    for column in columns.values():
        if column["sourceField"] != NO_FIELD:
            field = known[column["sourceField"]]
            assert field["type"] in kinds[column["operationType"]]
            assert field.get("doc_values", True), f"{column['sourceField']} cannot be counted by"
    shown = json.dumps(panel["attributes"]["state"]["visualization"])
    assert all(f'"{name}"' in shown for name in columns)


def body_of(panel: Doc) -> Doc:
    """Return the search that a panel makes, as Lens makes it from its columns."""
    columns = columns_of(panel)
    metrics = {
        name: {"cardinality": {"field": column["sourceField"]}}
        for name, column in columns.items()
        if column["operationType"] == "unique_count"
    }
    aggs: Doc = metrics
    for name, column in reversed(columns.items()):
        field = column["sourceField"]
        if column["operationType"] == "terms":
            aggs = {name: {"terms": {"field": field, "size": column["params"]["size"]}, "aggs": aggs}}
        elif column["operationType"] == "date_histogram":
            every = {"field": field, "fixed_interval": "1h" if "1h" in str(column) else "24h"}
            aggs = {name: {"date_histogram": every, "aggs": aggs}}
    query = panel["attributes"]["state"]["query"]["query"] or "*"
    text = query.replace(" and ", " AND ").replace(": ", ":")
    return {
        "size": 0,
        "query": {"query_string": {"query": text}},
        "runtime_mappings": runtime_fields(view_of(panel)),
        "aggs": aggs,
    }


def failed_row(name: str, code: str) -> Row:
    key = key_of("failed", name)
    return Row(key, {"id": key, "tenant": "main", "type": "order", "code": code, "received": iso(NOW)})


async def fill(rig: Rig) -> None:
    """Commit two profiles' events, failed events, and effects."""
    for name, types in (("ann", ["view", "view", "order"]), ("bob", ["view"])):
        await rig.store.commit(
            change(
                profile=profile_write(name),
                events=[event_row(f"{name}{n}", name, type=kind) for n, kind in enumerate(types)],
                failed=[failed_row(name, "schema" if name == "ann" else "id_reused")],
                effects=[effect_row(name, NOW, status="pending" if name == "ann" else "sent")],
            )
        )
    mark = {"received": iso(NOW)}
    await rig.store.commit(change(marks=[Row(key_of("event", "mark"), {"id": "mark", "time": mark})]))
    await rig.refresh()


EXPECTED: dict[str, Any] = {
    "headrace-events-by-hour": {"view": {"": 3}, "order": {"": 1}},
    "headrace-profiles-by-day": {"": (4, {"profiles": 2})},
    "headrace-top-sources": {"shop": (4, {"profiles": 2})},
    "headrace-failed-by-code": {"schema": {"": 1}, "id_reused": {"": 1}},
    "headrace-effects-by-status": {"pending": 1, "sent": 1},
}


def read(aggregations: Doc, columns: dict[str, Doc]) -> Any:
    """Return nested buckets by their names, times without, with counts and metrics at the leaves."""
    (name,) = (each for each in aggregations if "buckets" in aggregations[each])
    made: Doc = {}
    for bucket in aggregations[name]["buckets"]:
        inner = {each: bucket[each] for each in columns if each in bucket}
        key = "" if columns[name]["operationType"] == "date_histogram" else bucket["key"]
        if any("buckets" in each for each in inner.values()):
            made[key] = read(inner, columns)
        elif inner:
            made[key] = bucket["doc_count"], {each: value["value"] for each, value in inner.items()}
        else:
            made[key] = bucket["doc_count"]
    return made


async def test_every_panel_counts_what_is_there(rig: Rig) -> None:
    await fill(rig)
    for panel in PANELS:
        where = rig.alias(kind_of(view_of(panel)))
        answer = await rig.cluster.ask_json("POST", f"/{where}/_search", body_of(panel))
        assert read(answer["aggregations"], columns_of(panel)) == EXPECTED[panel["id"]], panel["id"]
