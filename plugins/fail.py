"""Fail on purpose, with a message.

What follows the node's port `error` runs, if it is wired; else the branch ends, and the trace and the log say
so.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, NodeError, Out, Plugin, Step, Text


class FailConfig(Config):
    message: Text = Field(
        description="What went wrong.", examples=["order {{ event.properties.id }} has no items"]
    )


class Fail(Plugin[FailConfig]):
    examples = (
        Example(
            {"message": "order {{ event.properties.id }} has no items"},
            "error",
            event={"properties": {"id": 7}},
            result={"error": "order 7 has no items"},
        ),
    )

    def run(self, step: Step) -> Out:
        raise NodeError(step.value(self.config.message))
