"""Go one of two ways, by a condition."""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Expression, Out, Plugin, Step

_TRUE = Out("true")
_FALSE = Out("false")


class BranchConfig(Config):
    when: Expression = Field(
        description="The condition; a value that is missing makes a comparison false.",
        examples=["event.properties.total >= 100", "'vip' in profile.segments"],
    )


class Branch(Plugin[BranchConfig]):
    ports = {"true": "The condition holds.", "false": "It does not hold."}
    examples = (
        Example({"when": "event.properties.total >= 100"}, "true", event={"properties": {"total": 120}}),
        Example({"when": "event.properties.total >= 100"}, "false", "A missing total is not large."),
    )

    def prepare(self) -> None:
        self._when = self.config.when

    def run(self, step: Step) -> Out:
        return _TRUE if step.test(self._when) else _FALSE
