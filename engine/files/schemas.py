"""JSON Schemas of every file that an author writes, for editors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from headrace.engine.catalog import Catalog, PluginInfo
from headrace.engine.files.event_type import EventTypesFile
from headrace.engine.files.goal import GoalsFile
from headrace.engine.files.segment import SegmentsFile
from headrace.engine.files.source import SourcesFile
from headrace.engine.files.workflow_test import TestFile
from headrace.engine.plugin import ERROR_PORT
from headrace.engine.workflow import WorkflowFile

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_MODELS: Mapping[str, type[BaseModel]] = {
    "sources": SourcesFile,
    "event_types": EventTypesFile,
    "segments": SegmentsFile,
    "goals": GoalsFile,
    "test": TestFile,
}


def make_schemas(catalog: Catalog) -> dict[str, Schema]:
    """Return every schema by its name: workflow, test, sources, event_types, segments, goals."""
    schemas = {name: _schema_of(model) for name, model in _MODELS.items()}
    return {"workflow": workflow_schema(catalog), **schemas}


def write_schemas(folder: Path, catalog: Catalog) -> list[Path]:
    """Write every schema as `folder/NAME.json`, making the folder; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, schema in make_schemas(catalog).items():
        file = folder / f"{name}.json"
        file.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(file)
    return written


def workflow_schema(catalog: Catalog) -> Schema:
    """Return the schema of a workflow: a node's config and ports follow from its plugin."""
    schema = _schema_of(WorkflowFile)
    node = schema["$defs"]["NodeFile"]
    node["properties"]["plugin"] = {
        "description": "The plugin's name.",
        "oneOf": [{"const": name, "description": info.summary} for name, info in catalog.items()],
    }
    node["allOf"] = [_node_of(name, info, schema["$defs"]) for name, info in catalog.items()]
    return schema


def _node_of(name: str, info: PluginInfo, defs: Schema) -> Schema:
    """Return what a node must look like when it uses a plugin; its config stands in `defs`."""
    config = info.config_schema(f"#/$defs/{name}.{{model}}")
    for inner, definition in config.pop("$defs", {}).items():
        defs[f"{name}.{inner}"] = definition
    defs[f"{name}.config"] = {**config, "title": f"{name}: config", "description": info.doc}
    then: Schema = {"properties": {"config": {"$ref": f"#/$defs/{name}.config"}}}
    if config.get("required"):
        then["required"] = ["config"]
    if not info.ports_vary:
        ports = {**info.ports, ERROR_PORT: "The node failed."}
        then["properties"]["then"] = {
            "properties": {port: {"description": about} for port, about in ports.items()},
            "additionalProperties": False,
        }
    return {"if": {"properties": {"plugin": {"const": name}}, "required": ["plugin"]}, "then": then}


def _schema_of(model: type[BaseModel]) -> Schema:
    schema = model.model_json_schema()
    return {"$schema": DRAFT, **_without_titles(schema)}


def _without_titles(schema: Any) -> Any:
    """Take out the titles that pydantic makes of names: an editor shows them in place of the description."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
