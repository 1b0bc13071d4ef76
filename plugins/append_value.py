"""Put a value at the end of a list."""

from pydantic import Field

from headrace.engine.plugin import Body, Config, Example, Out, Plugin, Step, WritePath

_DONE = Out("done")
_MISSING = Out("missing")


class AppendValueConfig(Config):
    field: WritePath = Field(
        description="The list; it is made if it is not there.", examples=["profile.traits.seen_products"]
    )
    value: Body = Field(description="The value to append.", examples=["{{ event.properties.sku }}"])
    once: bool = Field(default=False, description="Append it only if the list does not have it yet.")


class AppendValue(Plugin[AppendValueConfig]):
    ports = {"done": "The list has the value.", "missing": "There is no value; nothing was changed."}
    examples = (
        Example(
            {"field": "profile.traits.seen", "value": "{{ event.properties.sku }}"},
            "done",
            event={"properties": {"sku": "b"}},
            profile={"traits": {"seen": ["b"]}},
            changes={"profile.traits.seen": ["b", "b"]},
        ),
        Example(
            {"field": "profile.traits.seen", "value": "b", "once": True},
            "done",
            profile={"traits": {"seen": ["b"]}},
            changes={"profile.traits.seen": ["b"]},
        ),
        Example({"field": "profile.traits.seen", "value": "{{ event.properties.sku }}"}, "missing"),
        Example(
            {"field": "profile.traits.seen", "value": "b"},
            "error",
            "What stands there is not a list.",
            profile={"traits": {"seen": "a"}},
            changes={"profile.traits.seen": "a"},
        ),
    )

    def run(self, step: Step) -> Out:
        value = step.value(self.config.value)
        if value is None:
            return _MISSING
        if self.config.once:
            step.add(self.config.field, value)
        else:
            step.append(self.config.field, value)
        return _DONE
