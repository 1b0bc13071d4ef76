"""What a run that waits holds, and where it goes on."""

from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from headrace.engine.errors import HeadraceError
from headrace.engine.model import Doc
from headrace.engine.workflow import Node, Place, Workflow

Left = tuple[str, str, Any]
"""A node that was left: its name, the port, its result."""


class Wait(NamedTuple):
    """What a node waits for: a time, or before it an event of one of these types.

    When the time has come it is left by the port that its `run` gave; by `port` when the event came. `where` holds
    what must stand at dotted paths of the event.
    """

    until: datetime
    types: tuple[str, ...] = ()
    where: Doc | None = None
    port: str = ""


class VersionError(HeadraceError):
    """The version of a workflow that a run began in cannot be used here any more."""


class Before(msgspec.Struct):
    """What a run did before it goes on, for the `number`th time after a wait: it is walked again by its record.

    `done` were left before, `leaving` are the nodes that waited and are left now, `held` those that wait further, as
    the timer keeps them; `vars` are the run's.
    """

    number: int
    done: list[Left]
    leaving: list[Left]
    held: dict[str, Doc]
    vars: Doc

    def results(self) -> Doc:
        """Return the results of the nodes that were left, by name."""
        return {name: result for name, _, result in (*self.done, *self.leaving)}

    def place(self, workflow: Workflow) -> Place:
        """Return the place where the run goes on. Raises VersionError when a node or port is not there any more."""
        nodes = {node.name: node for node in workflow.nodes}
        try:
            done = [nodes[name].ways[port] for name, port, _ in self.done]
            leaving: list[tuple[Node, str]] = [(nodes[name], port) for name, port, _ in self.leaving]
            ways = [node.ways[port] for node, port in sorted(leaving, key=lambda one: one[0].index)]
        except KeyError as error:
            raise VersionError(
                f"the workflow {workflow.name} ({workflow.version}) has no node or port {error} any more"
            ) from None
        return workflow.place_after(done, ways)
