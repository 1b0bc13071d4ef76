"""Find what is wrong with consents that sources need."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from headrace.engine.files.json_file import JsonFile
from headrace.engine.files.problem import Problem
from headrace.engine.files.source import Source
from headrace.engine.workflow import Workflow, WorkflowFile

RECORDS: Final = "set_consent"

HARMLESS: Final = frozenset(
    {RECORDS, "branch", "fail", "has_consent", "log", "respond", "stop", "switch", "validate_value"}
)
"""Plugins that send nothing out, keep nothing of the person but a consent, and look nothing up."""


def check_before_consent(model: WorkflowFile, file: JsonFile) -> Iterator[Problem]:
    """Find nodes that do more than record consents, where a person has agreed to nothing yet."""
    for name, node in model.nodes.items() if model.on.before_consent else ():
        if node.plugin not in HARMLESS:
            message = f"'{node.plugin}' runs here before the person has agreed to anything"
            fix = "Do it in another workflow, which runs once the consents are there."
            yield file.problem(("nodes", name, "plugin"), "W23", message, fix)


def never_given(
    sources: Mapping[str, Source], workflows: Sequence[Workflow], file: JsonFile
) -> Iterator[Problem]:
    """Yield a problem for every consent that a source needs and no workflow can record.

    A workflow can when it runs before the consent is there, or also takes events of a source that needs none.
    """
    open_sources = {name for name, source in sources.items() if not source.consents}
    given = {name for one in workflows for name in _records(one, open_sources)}
    for source_id, source in sources.items():
        for index, name in enumerate(source.consents):
            if name not in given:
                fix = f'Write a workflow with "before_consent": true and a node {RECORDS} for it.'
                message = f"no workflow can record the consent '{name}', so nothing is done with an event"
                yield file.problem(("sources", source_id, "consents", index), "S05", message, fix)


def _records(workflow: Workflow, open_sources: set[str]) -> Iterator[str]:
    """Yield the consents that a workflow can record while nobody has agreed to anything."""
    takes = workflow.takes.source
    runs = workflow.before_consent or bool(open_sources if takes is None else takes & open_sources)
    for node in workflow.nodes if runs and workflow.enabled else ():
        if node.plugin_name == RECORDS and not node.disabled:
            yield str(getattr(node.plugin.config, "consent", ""))
