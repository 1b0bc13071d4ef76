"""The contract that every plugin keeps, and every example run."""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import ValidationError

from headrace.engine.catalog import PluginInfo, find_plugins
from headrace.engine.plugin import ERROR_PORT, Config, Example, Plugin
from headrace.engine.testing.example import run_example

PLUGINS = list(find_plugins(()).values())
EXAMPLES = [(info, example) for info in PLUGINS for example in info.examples]
FOLDER = Path(__file__).parent.parent / "plugins"

# What a plugin may import of ours; nothing else of Headrace is part of the contract.
CONTRACT = {"headrace.engine.plugin", "headrace.engine.model", "headrace.engine.errors"}
# What comes with the step, or belongs to the engine.
FORBIDDEN = {
    "httpx",
    "requests",
    "aiohttp",
    "urllib3",
    "sqlite3",
    "socket",
    "subprocess",
    "os",
    "starlette",
    "http",
}

each_plugin = pytest.mark.parametrize("info", PLUGINS, ids=[info.name for info in PLUGINS])
each_example = pytest.mark.parametrize(
    ("info", "example"), EXAMPLES, ids=[f"{info.name}-{number}" for number, (info, _) in enumerate(EXAMPLES)]
)


def load(info: PluginInfo, config: dict[str, Any]) -> Config:
    return info.plugin.config_type.model_validate(config)


def ports_of(info: PluginInfo, example: Example) -> set[str]:
    return set(info.plugin.ports_for(load(info, dict(example.config))))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "plugins import by full names"
            yield node.module or ""


def test_every_file_is_a_plugin() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert {info.name for info in PLUGINS} == files
    assert len(files) >= 39


@each_plugin
def test_documentation(info: PluginInfo) -> None:
    assert len(info.summary.split()) <= 12
    assert info.summary.endswith(".")
    assert info.doc.rstrip().endswith(".")
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", info.name)
    assert info.plugin.__name__ == "".join(part.capitalize() for part in info.name.split("_"))
    for port, meaning in info.ports.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", port)
        assert port != ERROR_PORT, "every plugin has the port error already"
        assert meaning.endswith("."), port


@each_plugin
def test_every_config_field_is_described(info: PluginInfo) -> None:
    for name, field in info.plugin.config_type.model_fields.items():
        assert (field.description or "").endswith("."), name
        if field.is_required():
            assert field.examples or name == "value" or info.plugin.examples, f"{name} shows no example"


@each_plugin
def test_examples_of_fields_are_valid(info: PluginInfo) -> None:
    full = next((dict(example.config) for example in info.examples), {})
    for name, field in info.plugin.config_type.model_fields.items():
        for shown in field.examples or ():
            load(info, {**full, name: shown})


@each_plugin
def test_unknown_member_is_refused(info: PluginInfo) -> None:
    config = dict(next(iter(info.examples)).config)
    with pytest.raises(ValidationError, match="extra_forbidden"):
        load(info, {**config, "unknown_member": 1})


@each_plugin
def test_config_schema(info: PluginInfo) -> None:
    schema = info.config_schema()
    jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    assert schema.get("additionalProperties") is False
    validator = jsonschema_rs.validator_for(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    )
    for example in info.examples:
        validator.validate(dict(example.config))
    assert not validator.is_valid({"unknown_member": 1})


@each_plugin
def test_config_round_trips(info: PluginInfo) -> None:
    for example in info.examples:
        config = load(info, dict(example.config))
        written = config.model_dump(mode="json", exclude_unset=True)
        assert load(info, written) == config
        assert written == example.config


@each_plugin
def test_run_is_a_coroutine_only_with_io(info: PluginInfo) -> None:
    assert inspect.iscoroutinefunction(info.plugin.run) is bool(info.uses)
    assert info.uses <= {"http", "store"}


@each_plugin
def test_imports_stay_within_the_contract(info: PluginInfo) -> None:
    for module in imports(FOLDER / f"{info.name}.py"):
        if module.startswith("headrace"):
            assert module in CONTRACT, module
        assert module.partition(".")[0] not in FORBIDDEN, module


@each_plugin
def test_every_port_has_an_example(info: PluginInfo) -> None:
    reached = {example.port for example in info.examples}
    possible = set(info.ports).union(*(ports_of(info, example) for example in info.examples))
    assert possible <= reached | {ERROR_PORT}
    assert reached <= possible | {ERROR_PORT}


@each_example
async def test_example(info: PluginInfo, example: Example) -> None:
    ran = await run_example(info.plugin, example)
    assert ran.differences(example) == []


HOSTILE: list[Any] = [
    None,
    "",
    "x" * 100_000,
    "\ud800",
    "a\x00b\r\nc",
    0,
    -1,
    10**30,
    1.5,
    True,
    [],
    ["a", None],
    {},
    {"items": {"keys": 1}},
    "{{ event.id }}",
    "__proto__",
    "$.a'b\\c]",
]


def hostile_examples(example: Example) -> Iterator[Example]:
    """Give the example with each property and trait that it has or its config names replaced by each odd value."""
    for member, field in (("event", "properties"), ("profile", "traits")):
        given = getattr(example, member)
        if given is None:
            continue
        named = re.findall(rf"{member}\.{field}\.(\w+)", repr(example.config))
        for name in {*given.get(field, {}), *named}:
            for value in HOSTILE:
                odd = {**given, field: {**given.get(field, {}), name: value}}
                yield replace(example, event=odd) if member == "event" else replace(example, profile=odd)


@each_plugin
async def test_hostile_values_end_in_a_port_or_a_node_error(info: PluginInfo) -> None:
    for example in info.examples:
        ports = ports_of(info, example) | {ERROR_PORT}
        for hostile in hostile_examples(example):
            ran = await run_example(info.plugin, hostile)
            assert ran.port in ports
            # An unplanned exception is reported with the name of its type in front.
            assert not re.match(r"[A-Z]\w+(Error|Exception): ", ran.error), (hostile, ran.error)


def test_a_plugin_knows_its_config() -> None:
    for info in PLUGINS:
        assert issubclass(info.plugin, Plugin)
        assert issubclass(info.plugin.config_type, Config)
