"""Let another workflow run for the same event.

It runs when all workflows that took the event have run, and sees what they changed. Its `source`, `when` and `consent`
hold as always; `event` need not name the event's type. A workflow runs once at most for an event: one that ran already
is not run again. What it does belongs to the event, and is committed with it.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, WorkflowName

_STARTED = Out("started")


class StartWorkflowConfig(Config):
    workflow: WorkflowName = Field(
        min_length=1, max_length=64, description="The workflow's name.", examples=["thank"]
    )


class StartWorkflow(Plugin[StartWorkflowConfig]):
    ports = {"started": "The workflow will run after those that took the event."}
    examples = (Example({"workflow": "thank"}, "started"),)

    def run(self, step: Step) -> Out:
        step.start(self.config.workflow)
        return _STARTED
