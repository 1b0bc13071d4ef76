"""Step 9: run the event through every workflow that takes it."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from headrace.engine.errors import NodeError
from headrace.engine.model import is_consented, iso
from headrace.engine.passage import Passage
from headrace.engine.run import run_workflow
from headrace.engine.trace import traced
from headrace.engine.workflow import Workflow

Claim = Callable[[str], Awaitable[bool]]
"""Takes a workflow's name for an event; false says that another run of it was first."""


class Skipped(NamedTuple):
    """A workflow whose `on.event` named the event, and why it did not run."""

    workflow: Workflow
    why: str


async def run_workflows(passage: Passage, workflows: tuple[Workflow, ...]) -> None:
    """Run an event through workflows, by order and then by name."""
    for workflow in workflows:
        if passage.stopped or passage.consents or not workflow.takes_all:
            why = why_not(workflow, passage)
            if why:
                passage.skipped.append(Skipped(workflow, why))
                continue
        await run_workflow(traced(workflow) if passage.around.tracing else workflow, passage)
        if workflow.stop:
            passage.stopped = True


async def run_started(
    passage: Passage, find: Callable[[str], Workflow | None], claim: Claim | None = None
) -> None:
    """Run the workflows that nodes asked for, in the order of asking; each runs once at most for an event.

    They may ask for others. What an author said to narrow a workflow holds here too, but for the event's type. `claim`
    is asked before each where other runs of the event may start the same one, in a commit of their own.
    """
    ran = passage.ran()
    place = 0
    while place < len(passage.starts):
        asked = passage.starts[place]
        place += 1
        workflow = find(asked.workflow)
        if workflow is None:
            passage.event["errors"].append(f"{asked.by}: there is no workflow '{asked.workflow}' to start")
        elif asked.workflow not in ran:
            ran.add(asked.workflow)
            if claim is None or await claim(asked.workflow):
                await _run_asked(workflow, passage, asked.by)


async def _run_asked(workflow: Workflow, passage: Passage, by: str) -> None:
    why = why_not(workflow, passage, is_asked=True)
    if not why:
        run = await run_workflow(traced(workflow) if passage.around.tracing else workflow, passage)
        run.by = by
    elif Skipped(workflow, why) not in passage.skipped:
        passage.skipped.append(Skipped(workflow, why))


def why_not(workflow: Workflow, passage: Passage, *, is_asked: bool = False) -> str:
    """Return why a workflow does not take an event that it names, or ""; one that was started is not stopped."""
    source, when, consent = workflow.takes
    if not workflow.enabled:
        return "disabled"
    if passage.stopped and not is_asked:
        return "stopped"
    if source is not None and passage.event["source"] not in source:
        return "source"
    if not workflow.before_consent:
        consent = (*passage.consents, *consent)
    if consent and not _has_agreed(passage, consent):
        return "consent"
    if when is not None and not _holds(workflow, passage):
        return "when"
    return ""


def has_agreed(passage: Passage) -> bool:
    """Say whether the profile gave all consents that the event's source needs; without a profile nobody did."""
    return not passage.consents or _has_agreed(passage, passage.consents)


def _has_agreed(passage: Passage, names: tuple[str, ...]) -> bool:
    now = iso(passage.now)
    return all(is_consented(passage.draft.profile, name, now) for name in names)


def _holds(workflow: Workflow, passage: Passage) -> bool:
    when = workflow.takes.when
    passage.scope.nodes = {}
    passage.scope.vars = {}
    try:
        return when is not None and when.test(passage.scope)
    except NodeError as error:
        line = {"level": "error", "message": f"on.when: {error}", "workflow": workflow.name, "node": ""}
        passage.log.append(line)
        return False
