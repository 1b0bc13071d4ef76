"""Put a value at the end of a list.

`keep_last` keeps a list short that would grow with every event: when it is full, the oldest values go.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from headrace.engine.plugin import Body, Config, Example, Out, Plugin, Step, WritePath, plain

_DONE = Out("done")
_MISSING = Out("missing")


class AppendValueConfig(Config):
    field: WritePath = Field(
        description="The list; it is made if it is not there.", examples=["profile.traits.seen_products"]
    )
    value: Body = Field(description="The value to append.", examples=["{{ event.properties.sku }}"])
    once: bool = Field(default=False, description="Append it only if the list does not have it yet.")
    keep_last: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="How many values to keep, the newest; all without it.",
        examples=[20],
    )


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
        Example(
            {"field": "profile.traits.seen", "value": "c", "keep_last": 2},
            "done",
            profile={"traits": {"seen": ["a", "b"]}},
            changes={"profile.traits.seen": ["b", "c"]},
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
        keep = self.config.keep_last
        there = step.read(self.config.field) if keep else None
        if keep and isinstance(there, tuple) and len(there) >= keep:
            self._move_on(step, there, value, keep)
        elif self.config.once:
            step.add(self.config.field, value)
        else:
            step.append(self.config.field, value)
        return _DONE

    def _move_on(self, step: Step, there: Sequence[Any], value: Any, keep: int) -> None:
        """Write the newest values of a full list."""
        values = plain(there)
        if not (self.config.once and _has(values, value)):
            values.append(value)
        step.set(self.config.field, values[-keep:])


def _has(values: list[Any], value: Any) -> bool:
    # True is not 1 in JSON.
    return any(each == value and isinstance(each, bool) is isinstance(value, bool) for each in values)
