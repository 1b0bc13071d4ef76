"""Let a profile pass only so often in a period.

At most `at_most` passes lie in any period of this length: the period slides, it does not begin at midnight. This is
exact for each profile, whatever number of servers and requests at the same time: what passed is kept in the profile, in
the commit of its event. Only those that passed count, not those that were held back. With a `key` each of its values
counts by itself. Nodes with one `name`, in any workflow, count together: give them the same numbers. Of two such nodes
that take the last pass in one wave the second fails.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Duration, Example, MarkName, Out, Plugin, Step, Text

_PASSED = Out("passed")
_HELD_BACK = Out("held_back")
_WEEKLY = {"name": "mail", "at_most": 1, "period": "7d"}
_LAST_MONDAY = {"longest": 604_800_000, "passed": {"": [1_768_219_200_000]}}


class ThrottleConfig(Config):
    name: MarkName = Field(
        description="The throttle's name; nodes with one name, in any workflow, share it.",
        examples=["mail"],
    )
    at_most: int = Field(ge=1, le=100, description="How many pass in any period.", examples=[2])
    period: Duration = Field(description="The length of the period.", examples=["7d", "1h"])
    key: Text = Field(
        Text(""),
        description="What is counted apart: at most 200 characters, and 100 values that passed within the period.",
        examples=["{{ event.properties.sku }}"],
    )


class Throttle(Plugin[ThrottleConfig]):
    ports = {
        "passed": "Fewer than `at_most` passed within the period; this one counts.",
        "held_back": "As many passed already.",
    }
    examples = (
        Example(
            _WEEKLY,
            "passed",
            "The last one passed longer ago.",
            profile={"throttles": {"mail": {"longest": 604_800_000, "passed": {"": [1_767_614_400_000]}}}},
        ),
        Example(_WEEKLY, "held_back", "One passed on Monday.", profile={"throttles": {"mail": _LAST_MONDAY}}),
        Example(
            _WEEKLY | {"key": "{{ event.properties.topic }}"},
            "passed",
            "Each topic counts by itself.",
            event={"properties": {"topic": "shoes"}},
            profile={"throttles": {"mail": _LAST_MONDAY}},
        ),
        Example(_WEEKLY, "error", "Without a profile nothing can be counted.", profile=None),
    )

    def prepare(self) -> None:
        if not self.config.period:
            raise ValueError("the period is 0: everything would pass")

    def run(self, step: Step) -> Out:
        config = self.config
        passes = step.throttle(
            config.name, step.value(config.key), at_most=config.at_most, period=config.period
        )
        return _PASSED if passes else _HELD_BACK
