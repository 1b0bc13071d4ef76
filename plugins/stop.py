"""End the run of this workflow.

Nodes of the same wave are finished; nothing after them runs.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step

_STOPPED = Out("stopped")


class StopConfig(Config):
    event: bool = Field(default=False, description="Let no later workflow take the event either.")


class Stop(Plugin[StopConfig]):
    ports = {"stopped": "The run has ended; a node that is wired here does not run."}
    examples = (Example({"event": True}, "stopped"),)

    def run(self, step: Step) -> Out:
        step.stop(event=self.config.event)
        return _STOPPED
