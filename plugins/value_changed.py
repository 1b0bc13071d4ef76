"""Tell whether a value is another one than last time.

The value is kept in a field, to be compared with the next one. The first value counts as changed. The node's result
has both, as `before` and `value`.
"""

from pydantic import Field

from headrace.engine.plugin import Body, Config, Example, Out, Plugin, Step, WritePath, plain

_PLAN = {"field": "profile.traits.plan", "value": "{{ event.properties.plan }}"}


class ValueChangedConfig(Config):
    field: WritePath = Field(
        description="Where the last value is kept.",
        examples=["profile.traits.plan", "session.properties.page"],
    )
    value: Body = Field(description="The value now.", examples=["{{ event.properties.plan }}"])


class ValueChanged(Plugin[ValueChangedConfig]):
    ports = {
        "changed": "It is another one, or the first; it is kept.",
        "same": "It is the one that was there.",
        "missing": "There is no value, or null; nothing was changed.",
    }
    examples = (
        Example(
            _PLAN,
            "changed",
            event={"properties": {"plan": "gold"}},
            profile={"traits": {"plan": "free"}},
            result={"before": "free", "value": "gold"},
            changes={"profile.traits.plan": "gold"},
        ),
        Example(
            _PLAN,
            "changed",
            "The first one.",
            event={"properties": {"plan": "free"}},
            result={"before": None, "value": "free"},
        ),
        Example(_PLAN, "same", event={"properties": {"plan": "free"}}, profile={"traits": {"plan": "free"}}),
        Example(
            _PLAN, "missing", profile={"traits": {"plan": "free"}}, changes={"profile.traits.plan": "free"}
        ),
    )

    def run(self, step: Step) -> Out:
        value = step.value(self.config.value)
        if value is None:
            return Out("missing")
        before, now = plain(step.read(self.config.field)), plain(value)
        result = {"before": before, "value": now}
        if _same(before, now):
            return Out("same", result)
        step.set(self.config.field, now)
        return Out("changed", result)


def _same(before: object, now: object) -> bool:
    """Say whether two values are one; true is not 1."""
    return before == now and isinstance(before, bool) is isinstance(now, bool)
