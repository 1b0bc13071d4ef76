"""Makes an event to try a workspace with."""

import json
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from headrace.engine.files.json_file import read_json_file
from headrace.engine.files.source import Source
from headrace.engine.files.workflow_test import TestFile
from headrace.engine.files.workspace import TEST_ENDING, WORKFLOWS, Workspace
from headrace.engine.model import Doc
from headrace.engine.workflow import Workflow


class Sample(NamedTuple):
    """One event that a source takes and a workflow works on."""

    source: str
    type: str
    properties: Doc


def sample_event(workspace: Workspace) -> Sample | None:
    """Return an event for the first public source that takes /track, or None when there is no such source.

    The first workflow with a test that fits gives it; else the schema of the first event type that is taken.
    """
    source = next((each for each in workspace.sources.values() if _is_open(each)), None)
    if source is None:
        return None
    fitting = [workflow for workflow in workspace.workflows if _takes(workflow, source.id)]
    for workflow in fitting:
        sample = _from_tests(workspace.path, workflow, source)
        if sample is not None:
            return sample
    types = [name for workflow in fitting for name in workflow.file.on.event if "*" not in name]
    name = next(iter(types), next(iter(workspace.event_types), "page-view"))
    declared = workspace.event_types.get(name)
    return Sample(source.id, name, example_of(declared.schema) if declared and declared.schema else {})


def curl_command(address: str, sample: Sample) -> str:
    """Return the command that sends a sample to a server and asks what happened to it."""
    body = {
        "source": {"id": sample.source},
        "session": {"id": "session-1"},
        "events": [{"type": sample.type, "properties": sample.properties}],
        "options": {"debugger": True},
    }
    # A text in one pair of quotes, also where a shell has no other kind.
    text = json.dumps(body, ensure_ascii=True)
    return f"curl -s {address}/track -H 'Content-Type: application/json' -d {shlex.quote(text)}"


def _is_open(source: Source) -> bool:
    return source.enabled and source.is_public and "track" in source.doors


def _takes(workflow: Workflow, source: str) -> bool:
    return workflow.enabled and (workflow.takes.source is None or source in workflow.takes.source)


def _from_tests(path: Path, workflow: Workflow, source: Source) -> Sample | None:
    file = read_json_file(path, f"{WORKFLOWS}/{workflow.name}{TEST_ENDING}")
    try:
        tests = TestFile.model_validate(file.value).tests
    except ValidationError:
        return None
    for test in tests:
        # A test that expects the workflow not to run would make a poor first impression.
        if test.source in (None, source.id) and test.expect.skipped is None and test.expect.path:
            for event in test.events:
                if event.type is not None and workflow.matches(event.type):
                    return Sample(source.id, event.type, event.properties)
    return None


def example_of(schema: Any) -> Any:
    """Return a small value that a JSON Schema takes, as far as its common words tell."""
    if not isinstance(schema, dict):
        return {}
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    for word in ("examples", "enum"):
        if schema.get(word):
            return schema[word][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "array":
        return [example_of(schema.get("items"))] if schema.get("minItems") else []
    if kind in ("string", "boolean", "null"):
        return {"string": "text", "boolean": True, "null": None}[kind]
    if kind in ("number", "integer"):
        return schema.get("minimum", 1)
    members = schema.get("properties", {})
    return {name: example_of(members.get(name)) for name in schema.get("required", ())}
