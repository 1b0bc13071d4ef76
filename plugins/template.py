"""Fill in a text."""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, Text


class TemplateConfig(Config):
    text: Text = Field(
        description="The template; the node's result has its text as `text`.",
        examples=["Hello {{ profile.traits.name | default('you') }}"],
    )


class Template(Plugin[TemplateConfig]):
    ports = {"done": "The text is made."}
    examples = (
        Example(
            {"text": "Hello {{ profile.traits.name }}, {{ event.properties.count }} items wait."},
            "done",
            event={"properties": {"count": 2}},
            profile={"traits": {"name": "Ann"}},
            result={"text": "Hello Ann, 2 items wait."},
        ),
    )

    def prepare(self) -> None:
        self._text = self.config.text

    def run(self, step: Step) -> Out:
        return Out("done", {"text": step.value(self._text)})
