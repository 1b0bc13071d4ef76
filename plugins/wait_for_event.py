"""Wait until the profile has a certain event, and go on.

The first event of one of these types for which `when` holds and whose values are those of `where` ends the wait, from
whatever session or source of the profile it comes. The node's result has it: `id`, `type`, `properties`, `source`,
`session` and `happened`. Internal events count too; an event without the profile does not, nor does the one that the
run is about. When none came in `timeout`, the node is left by `timeout`.

In `where` values of the run can stand, since it is filled in when the wait begins. In `when` the names `event`,
`profile`, `session` and `source` are those of the event that came; `nodes` and `vars` are empty.
"""

from pydantic import Field

from headrace.engine.errors import PathError
from headrace.engine.plugin import (
    Body,
    Config,
    Duration,
    EventName,
    Example,
    Expression,
    NodeError,
    Out,
    Plugin,
    ReadPath,
    Step,
)


class WaitForEventConfig(Config):
    event: list[EventName] = Field(
        min_length=1, max_length=20, description="Types of events.", examples=[["purchase-order"]]
    )
    timeout: Duration = Field(description="How long to wait.", examples=["1h", "3d"])
    when: Expression | None = Field(
        None, description="A condition on the event that came.", examples=["event.properties.total >= 100"]
    )
    where: dict[str, Body] = Field(
        {},
        max_length=10,
        description="Values that must stand at paths of the event; templates are filled in when the wait begins.",
        examples=[{"properties.cart": "{{ event.properties.cart }}"}],
    )


class WaitForEvent(Plugin[WaitForEventConfig]):
    ports = {"received": "The event came.", "timeout": "It did not."}
    examples = (
        Example(
            {"event": ["purchase-order"], "timeout": "1h"},
            "timeout",
            "Whether the event comes is known later: a test of a workflow can send it, or let the time go by.",
        ),
        Example(
            {
                "event": ["purchase-order"],
                "timeout": "1h",
                "when": "event.properties.total >= 100",
                "where": {"properties.cart": "{{ event.properties.cart }}"},
            },
            "received",
            event={"type": "cart-changed", "properties": {"cart": "c-7"}},
            awaited={"type": "purchase-order", "properties": {"cart": "c-7", "total": 120}},
        ),
        Example(
            {"event": ["purchase-order"], "timeout": "1h"}, "error", "There is no profile.", profile=None
        ),
    )

    def prepare(self) -> None:
        for path in self.config.where:
            try:
                ReadPath(f"event.{path}")
            except PathError as error:
                raise ValueError(f"where: {error}") from None

    def run(self, step: Step) -> Out:
        where = {path: step.value(value) for path, value in self.config.where.items()}
        empty = next((path for path, value in where.items() if value is None), None)
        if empty is not None:
            raise NodeError(f"where: there is no value for {empty}")
        until = step.now + self.config.timeout
        step.wait_for(self.config.event, until, port="received", where=where)
        return Out("timeout")

    def accepts(self, step: Step) -> bool:
        return self.config.when is None or step.test(self.config.when)
