"""Make an internal event, which is processed right after this one.

It belongs to the same source, profile and session, is kept like any event, and workflows take it like one. Its door is
`internal`, and `emitted_by` names the event that it came from. It is committed together with that event, or not at all.
Events may emit events 3 deep, and one event may cause 10,000 in all; what goes beyond fails its node.
"""

from pydantic import Field

from headrace.engine.plugin import Body, Config, EventName, Example, NodeError, Out, Plugin, Step, Value

_EMITTED = Out("emitted")


class EmitEventConfig(Config):
    type: Value[EventName] = Field(
        description="Its type: a text, or a template that gives one.", examples=["big-order"]
    )
    properties: Body = Field(
        Body({}), description="Its properties: an object whose texts are templates, or a template of one."
    )


class EmitEvent(Plugin[EmitEventConfig]):
    ports = {"emitted": "The event will be processed after this one."}
    examples = (
        Example(
            {
                "type": "big-order",
                "properties": {"total": "{{ event.properties.total }}", "by": "{{ event.id }}"},
            },
            "emitted",
            event={"properties": {"total": 900}},
        ),
        Example(
            {"type": "cart-{{ event.properties.what }}", "properties": "{{ event.properties.item }}"},
            "emitted",
            "Type and properties may come from the event.",
            event={"properties": {"what": "filled", "item": {"sku": "a"}}},
        ),
        Example({"type": "{{ event.properties.what }}"}, "error", "An event has a type."),
    )

    def run(self, step: Step) -> Out:
        properties = step.value(self.config.properties)
        if not isinstance(properties, dict):
            raise NodeError(f"properties should be an object, not {properties!r:.60}")
        step.emit(step.value(self.config.type), properties)
        return _EMITTED
