"""Take a value out of a list."""

from pydantic import Field

from headrace.engine.plugin import Body, Config, Example, Out, Plugin, Step, WritePath

_DONE = Out("done")
_MISSING = Out("missing")


class RemoveValueConfig(Config):
    field: WritePath = Field(description="The list.", examples=["profile.traits.wishes"])
    value: Body = Field(description="The value to take out.", examples=["{{ event.properties.sku }}"])


class RemoveValue(Plugin[RemoveValueConfig]):
    ports = {
        "done": "The list does not have the value.",
        "missing": "There is no value; nothing was changed.",
    }
    examples = (
        Example(
            {"field": "profile.traits.wishes", "value": "{{ event.properties.sku }}"},
            "done",
            event={"properties": {"sku": "b"}},
            profile={"traits": {"wishes": ["a", "b"]}},
            changes={"profile.traits.wishes": ["a"]},
        ),
        Example({"field": "profile.traits.wishes", "value": "{{ event.properties.sku }}"}, "missing"),
    )

    def run(self, step: Step) -> Out:
        value = step.value(self.config.value)
        if value is None:
            return _MISSING
        step.remove(self.config.field, value)
        return _DONE
