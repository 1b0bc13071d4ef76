"""What docs/elasticsearch.md says of indices, codes and options is so."""

import json
import re
from pathlib import Path

from headrace.engine.store.elastic import layout, place, setup
from tests.doc_blocks import rows
from tests.elastic.page import PAGE, run, section, shell_blocks
from tests.parts.elasticsearch import ElasticsearchNode

EVERYWHERE = {"key", "tenant", "change", "facets", "doc", "text", "pending", "pending_since"}
EXAMPLE = place.read_place("elasticsearch://h:9200/headrace")


def test_every_kind_is_in_the_table_with_all_that_it_can_be_searched_by() -> None:
    found = {row.cells[0].strip("`"): row.cells for row in rows(PAGE, "kind") if len(row.cells) == 4}
    assert set(found) == {*layout.WHOLE, *layout.MONTHLY}
    for kind, cells in found.items():
        index = layout.first_index(EXAMPLE, kind)
        if kind in layout.MONTHLY:
            index = layout.month_index(EXAMPLE, kind, "2026-01-31T00:00:00.000Z")
        assert cells[1] == f"`{index}`"
        fields = layout.mapping(kind)["properties"].items()
        searched = {name for name, field in fields if field.get("index", True) and name not in EVERYWHERE}
        assert set(re.findall(r"`(\w+)`", cells[3])) == searched


def test_what_cannot_be_counted_by_is_named() -> None:
    (said,) = (line for line in section("Indices").splitlines() if line.startswith("Only to be looked for"))
    only = {
        name
        for kind in (*layout.WHOLE, *layout.MONTHLY)
        for name, field in layout.mapping(kind)["properties"].items()
        if field.get("index", True) and not field.get("doc_values", True)
    }
    assert set(re.findall(r"`(\w+)`", said)) == only


def test_every_option_of_the_url_is_in_the_table() -> None:
    shown = [row.cells[0].strip("`") for row in rows(PAGE, "option")]
    assert sorted(shown) == sorted(place._OPTIONS)
    defaults = {row.cells[0].strip("`"): row.cells[1].strip("`") for row in rows(PAGE, "option")}
    made = place.read_place("elasticsearch://h")
    assert (defaults["shards"], defaults["refresh"]) == (str(made.shards), made.refresh)
    assert defaults["timeout"] == f"{made.timeout:g}"
    assert place.Place(("http://h:9200",), "headrace") == place.read_place("elasticsearch://h")
    (said,) = (row.cells[2] for row in rows(PAGE, "option") if row.cells[0] == "`timeout`")
    assert f"from {place.LEAST_SECONDS:g} to {place.MOST_SECONDS:g} " in said


def test_every_code_is_in_the_table() -> None:
    shown = {row.cells[0].strip("`") for row in rows(PAGE, "code")}
    source = Path(setup.__file__).read_text(encoding="utf-8")
    assert shown == {*re.findall(r'"(store-\w+)"', source), "closed"}


def test_the_url_that_is_shown_can_be_read() -> None:
    (url,) = re.findall(r"HEADRACE_STORE='([^']+)'", PAGE.read_text(encoding="utf-8"))
    read = place.read_place(url.partition("?")[0])
    assert len(read.hosts) == 3
    assert read.prefix == "headrace"


def test_the_size_can_be_asked_for(elasticsearch_node: ElasticsearchNode, tmp_path: Path) -> None:
    (block,) = shell_blocks("How much room")
    assert "docs.count" in run(block, tmp_path, elasticsearch_node.url, "headrace")


def test_kibana_s_file_is_made_for_another_prefix(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(PAGE.parent)
    (block,) = shell_blocks("Kibana")
    run(block.splitlines()[0], tmp_path, "", "headrace")
    lines = (tmp_path / "kibana.ndjson").read_text(encoding="utf-8").splitlines()
    views = [each for line in lines if (each := json.loads(line))["type"] == "index-pattern"]
    assert {each["attributes"]["title"] for each in views} == {"shop-events", "shop-failed", "shop-effects"}
    assert {each["id"] for each in views} == {"headrace-events", "headrace-failed", "headrace-effects"}
