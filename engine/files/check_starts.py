"""Find workflows that start one another in a circle."""

from collections.abc import Iterator, Mapping

from headrace.engine.config.fields import Declared
from headrace.engine.files.check_graph import find_circle
from headrace.engine.files.json_file import JsonFile
from headrace.engine.files.problem import Problem
from headrace.engine.workflow import Workflow


def without_circles(
    found: Mapping[str, Workflow], kept: Mapping[str, Workflow], files: Mapping[str, JsonFile]
) -> tuple[dict[str, Workflow], list[Problem]]:
    """Return workflows of which none can start itself again, and the problems of those that could.

    Of a circle the workflow that comes first by name keeps its version in `kept`, or is left out.
    """
    workflows, problems = dict(found), []
    while circle := find_circle(_after(workflows)):
        name, way = circle[0], " → ".join(circle)
        node = next(node for node, to in starts_of(workflows[name]) if to == circle[1])
        place = ("nodes", node, "config", "workflow")
        message = f"the workflow starts itself again: {way}"
        problems.append(files[name].problem(place, "W20", message, "Take one of the starts out."))
        last = kept.get(name)
        if last is None or last is workflows[name]:
            del workflows[name]
        else:
            workflows[name] = last
    return workflows, problems


def never_started(workflows: Mapping[str, Workflow], files: Mapping[str, JsonFile]) -> Iterator[Problem]:
    """Yield a problem for every workflow that only others would run, and none does."""
    started = {to for workflow in workflows.values() for _, to in starts_of(workflow)}
    for name, workflow in workflows.items():
        on = workflow.file.on
        if name not in started and not on.event and on.schedule is None:
            fix = f'Add a node with "plugin": "start_workflow", "config": {{"workflow": "{name}"}}.'
            yield files[name].problem(("on", "started"), "W22", "no workflow starts this one", fix)


def starts_of(workflow: Workflow) -> Iterator[tuple[str, str]]:
    """Yield the nodes that name another workflow in their config, and which."""
    for node in workflow.nodes:
        config = node.plugin.config
        for name, field in () if node.disabled else type(config).model_fields.items():
            if any(isinstance(mark, Declared) and mark.kind == "workflows" for mark in field.metadata):
                yield node.name, getattr(config, name)


def _after(workflows: Mapping[str, Workflow]) -> dict[str, list[str]]:
    return {
        name: [to for _, to in starts_of(workflow) if to in workflows] for name, workflow in workflows.items()
    }
