"""Write a line to the log and to the debugger's answer."""

from typing import Literal

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, Text

_DONE = Out("done")


class LogConfig(Config):
    message: Text = Field(description="The line.", examples=["no manager for {{ profile.id }}"])
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="How grave it is.")


class Log(Plugin[LogConfig]):
    ports = {"done": "The line is written."}
    examples = (Example({"message": "no manager for {{ profile.id }}", "level": "warning"}, "done"),)

    def run(self, step: Step) -> Out:
        step.log(step.value(self.config.message), self.config.level)
        return _DONE
