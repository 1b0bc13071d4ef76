"""The JSON Schemas take what lint takes; editors get descriptions."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from headrace.engine.catalog import Catalog, find_plugins
from headrace.engine.files.problem import CODES
from headrace.engine.files.reference import plugin_reference, problem_reference
from headrace.engine.files.schemas import make_schemas, write_schemas

ROOT = Path(__file__).parent.parent
BROKEN = Path(__file__).parent / "broken"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return find_plugins(())


@pytest.fixture(scope="module")
def schemas(catalog: Catalog) -> dict[str, dict[str, Any]]:
    return make_schemas(catalog)


@pytest.fixture(scope="module")
def workflow(schemas: dict[str, dict[str, Any]]) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(schemas["workflow"])


def one_node(plugin: str, **node: Any) -> dict[str, Any]:
    return {"on": {"event": ["order"]}, "nodes": {"a": {"plugin": plugin, **node}}}


def test_every_schema_is_valid(schemas: dict[str, dict[str, Any]]) -> None:
    assert set(schemas) == {"workflow", "test", "sources", "event_types", "segments", "goals"}
    for schema in schemas.values():
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        jsonschema_rs.validator_for(schema)


def test_every_example_of_every_plugin_is_allowed(
    catalog: Catalog, workflow: jsonschema_rs.Validator
) -> None:
    for name, info in catalog.items():
        for example in info.examples:
            node = one_node(name, config=dict(example.config), then={example.port: ["b"]})
            errors = [error.message for error in workflow.iter_errors(json.loads(json.dumps(node)))]
            assert not errors, (name, example.config, errors)


@pytest.mark.parametrize(
    "node",
    [
        {"plugin": "nope"},
        {"plugin": "branch"},
        {"plugin": "branch", "config": {"when": 1}},
        {"plugin": "branch", "config": {"when": "x", "then": "y"}},
        {"plugin": "branch", "config": {"when": "x"}, "then": {"ture": ["a"]}},
        {"plugin": "branch", "config": {"when": "x"}, "join": "some"},
    ],
)
def test_what_is_wrong_is_refused(node: dict[str, Any], workflow: jsonschema_rs.Validator) -> None:
    assert not workflow.is_valid({"on": {"event": ["order"]}, "nodes": {"a": node}})


def test_ports_that_the_config_names_are_allowed(workflow: jsonschema_rs.Validator) -> None:
    assert workflow.is_valid(one_node("switch", config={"cases": {"big": "1 > 0"}}, then={"big": ["b"]}))


def test_every_example_workspace(schemas: dict[str, dict[str, Any]]) -> None:
    validators = {name: jsonschema_rs.validator_for(schema) for name, schema in schemas.items()}
    files = [file for file in (ROOT / "workflows").rglob("*.json") if file.parent.name != "schema"]
    for file in files:
        kind = file.stem if file.parent.name != "workflows" or file.parent.parent == ROOT else "workflow"
        kind = "test" if file.name.endswith(".test.json") else kind
        errors = [str(error) for error in validators[kind].iter_errors(json.loads(file.read_bytes()))]
        assert not errors, (file, errors)


def test_a_full_source(schemas: dict[str, dict[str, Any]]) -> None:
    source = {
        "tenant": "main",
        "about": "",
        "enabled": True,
        "consent": False,
        "keys": [{"secret": "SHOP_KEY"}],
        "origins": ["https://shop.example"],
        "doors": ["track", "collect", "segment"],
        "answers_profile": False,
        "public_traits": [],
        "trust_profile_ids": False,
        "debugger": False,
        "trace": False,
        "ip": "mask",
        "respect_dnt": True,
        "bots": "mark",
        "rate_limit": None,
        "segment": {"write_keys": ["wk-public"]},
        "bizzkit": {"keys": ["ik-a"], "segment": "1"},
        "orbee": {"account": 1, "tracker": 1, "vendors": ["Vendor A"]},
    }
    jsonschema_rs.validator_for(schemas["sources"]).validate({"sources": {"shop": source}})
    assert not jsonschema_rs.is_valid(schemas["sources"], {"sources": {"shop": {"tenent": "main"}}})


def test_every_member_is_described(schemas: dict[str, dict[str, Any]]) -> None:
    bare = [place for name, schema in schemas.items() for place in undescribed(schema, (name,))]
    assert bare == []


def undescribed(schema: Any, place: tuple[str, ...]) -> list[str]:
    if not isinstance(schema, dict):
        return []
    found = []
    for name, definition in {"": schema, **schema.get("$defs", {})}.items():
        for member, about in definition.get("properties", {}).items():
            if "description" not in about and "$ref" not in about:
                found.append("/".join((*place, name, member)))
    return found


def test_files_are_written(tmp_path: Path, catalog: Catalog) -> None:
    files = write_schemas(tmp_path / "schema", catalog)
    assert sorted(file.name for file in files) == [
        "event_types.json", "goals.json", "segments.json", "sources.json", "test.json", "workflow.json",
    ]  # fmt: skip
    assert json.loads((tmp_path / "schema/workflow.json").read_text())["$defs"]


def test_the_plugin_page_names_everything(catalog: Catalog) -> None:
    page = plugin_reference(catalog)
    for name, info in catalog.items():
        assert f"\n## {name}\n" in page
        for member in info.plugin.config_type.model_fields.values():
            assert member.description
            assert " ".join(member.description.split()).replace("|", "\\|") in page
        for port in info.ports:
            assert f"| `{port}` |" in page


def test_the_plugin_page_tells_templates_from_plain_texts(catalog: Catalog) -> None:
    page = plugin_reference(catalog)
    types = {}
    for part in page.split("\n## ")[1:]:
        for row in re.findall(r"^\| `(\S+)` \| (.+?) \| .+? \| .+ \|$", part, re.MULTILINE):
            types[f"{part.split(maxsplit=1)[0]}.{row[0]}"] = row[1]
    assert {name: types[name] for name in KINDS} == KINDS


KINDS = {
    "add_interest.interest": "text or template",
    "append_value.value": "JSON of templates",
    "branch.when": "expression",
    "copy_to_profile.members": "list of paths",
    "http_request.headers": "object of templates or secrets",
    "identify.value": "any JSON or template",
    "increment.by": "whole number or number or template",
    "increment.field": "path to write",
    "log.message": "template",
    "match_pattern.pattern": "regular expression",
    "random_split.name": "text",
    "set_consent.consent": "text",
    "set_fields.fields": "object of JSON of templates",
    "time_between.zone": "time zone",
    "wait.period": "duration",
}


def test_the_problem_page_names_every_code() -> None:
    page = problem_reference()
    for code in CODES:
        assert f"| {code} |" in page
