"""Add to a number, such as a counter.

A field that is not there counts as 0. A negative amount takes away.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, Value, WritePath

_DONE = Out("done")


class IncrementConfig(Config):
    field: WritePath = Field(description="The number.", examples=["profile.stats.counters.orders"])
    by: Value[int | float] | None = Field(
        None, description="How much to add; 1 if not given.", examples=[5, "{{ event.properties.total }}"]
    )


class Increment(Plugin[IncrementConfig]):
    ports = {"done": "The amount is added."}
    examples = (
        Example(
            {"field": "profile.stats.counters.orders"},
            "done",
            profile={"stats": {"counters": {"orders": 3}}},
            changes={"profile.stats.counters.orders": 4},
        ),
        Example(
            {"field": "profile.stats.counters.spent", "by": "{{ event.properties.total }}"},
            "done",
            event={"properties": {"total": 9.5}},
            changes={"profile.stats.counters.spent": 9.5},
        ),
        Example(
            {"field": "profile.traits.name"},
            "error",
            "What stands there is not a number.",
            profile={"traits": {"name": "Ann"}},
            changes={"profile.traits.name": "Ann"},
        ),
    )

    def prepare(self) -> None:
        self._field, self._by = self.config.field, self.config.by

    def run(self, step: Step) -> Out:
        by = self._by
        step.increment(self._field, 1 if by is None else step.value(by))
        return _DONE
