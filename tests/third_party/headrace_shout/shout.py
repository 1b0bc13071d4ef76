"""Write a text in capital letters.

It shows what a plugin of another package looks like.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, Text


class ShoutConfig(Config):
    """What to shout."""

    text: Text = Field(description="The text.", examples=["hello {{ profile.traits.name }}"])
    marks: int = Field(1, ge=0, le=9, description="Exclamation marks after it.")


class Shout(Plugin[ShoutConfig]):
    """Leaves by `loud`, or by `silent` when there is nothing to say."""

    ports = {"loud": "The text was written.", "silent": "There is no text."}  # noqa: RUF012
    examples = (
        Example(
            {"text": "hi {{ event.properties.name }}"},
            "loud",
            event={"properties": {"name": "kim"}},
            result={"text": "HI KIM!"},
        ),
        Example({"text": ""}, "silent"),
    )

    def run(self, step: Step) -> Out:
        """Shout."""
        text = step.value(self.config.text)
        if not text:
            return Out("silent")
        return Out("loud", {"text": text.upper() + "!" * self.config.marks})
