"""Answers that stand in for calls, so that a replay makes none."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from headrace.engine.errors import NodeError
from headrace.engine.files.workspace import Workspace
from headrace.engine.model import Doc
from headrace.engine.plugin import ERROR_PORT, Out, Step
from headrace.engine.workflow import Node, Workflow, with_runs

QUIET = frozenset({"store"})
"""What a plugin may use in a replay: it only looks things up. Whatever else one uses might be a call."""

FAILED_PORT = "failed"

NO_ANSWER = (
    "no call is made in a replay, and no answer to this one was recorded: "
    "give the node a mock, or trace the source"
)


class Answer(NamedTuple):
    """How a node is left in place of its call."""

    port: str
    result: Any = None


def calls_out(node: Node) -> bool:
    """Say whether a node may call something outside."""
    return bool(set(node.plugin.uses) - QUIET)


class StandIns:
    """The answers of the event at hand: recorded ones from its traces, else mocks by workflow and node.

    A mock of the workflow "" is for the nodes of its name in all workflows.
    """

    def __init__(self, mocks: Mapping[tuple[str, str], Answer]) -> None:
        self._mocks = dict(mocks)
        self._recorded: dict[tuple[str, str], Answer] = {}
        self.used: dict[str, dict[str, str]] = {}
        """Where answers of this event came from, by workflow and node: `recorded`, `mock` or `none`."""

    def begin(self, traces: Iterable[Doc]) -> None:
        """Take the answers that an event's traces kept."""
        self.used = {}
        self._recorded = {
            (trace["workflow"], name): Answer(node["port"], node.get("result"))
            for trace in traces
            for name, node in trace["nodes"].items()
            if "port" in node
        }

    def fit(self, workspace: Workspace) -> Workspace:
        """Return the workspace with every call out of it replaced."""
        workflows = tuple(self._quiet(workflow) for workflow in workspace.workflows)
        return replace(workspace, workflows=workflows, _by_type={})

    def _quiet(self, workflow: Workflow) -> Workflow:
        if not any(map(calls_out, workflow.nodes)):
            return workflow
        quiet = with_runs(
            workflow, lambda node: self._answering(workflow, node) if calls_out(node) else node.run
        )
        for node in quiet.nodes:
            if calls_out(node):
                # The next try would find no other answer.
                node.retry = None
        return quiet

    def _answering(self, workflow: Workflow, node: Node) -> Callable[[Step], Awaitable[Out]]:
        key = (workflow.name, node.name)

        async def answer(_: Step) -> Out:
            found, origin = self._recorded.get(key), "recorded"
            if found is None or found.port not in node.ports:
                found, origin = self._mocks.get(key) or self._mocks.get(("", node.name)), "mock"
            if found is None:
                origin = "none"
            self.used.setdefault(workflow.name, {})[node.name] = origin
            if found is not None and found.port != ERROR_PORT:
                return Out(found.port, found.result)
            text = NO_ANSWER if found is None else _error_in(found.result)
            if found is None and FAILED_PORT in node.ports:
                return Out(FAILED_PORT, {"error": text})
            raise NodeError(text)

        return answer


def _error_in(result: Any) -> str:
    """Return the text of a recorded or mocked failure."""
    given = result.get("error") if isinstance(result, dict) else None
    return str(given) if given else "failed, as the recorded answer or mock says"
