"""Calculate numbers into fields.

Unlike `set_fields` it writes only numbers: a formula that gives anything else, because a value in it is
missing or is a text, fails the node, and none of the fields is written.
"""

import math
from typing import Any

from pydantic import Field

from headrace.engine.plugin import Config, Example, Expression, NodeError, Out, Plugin, Step, WritePath

_DONE = Out("done")
_LARGEST = 2**63 - 1
_NET = {"vars.net": "round(event.properties.total / 1.19, 2)"}


class CalculateConfig(Config):
    fields: dict[WritePath, Expression] = Field(
        min_length=1, description="Formulas by the path to write their results at.", examples=[_NET]
    )


class Calculate(Plugin[CalculateConfig]):
    ports = {"done": "The numbers are written."}
    examples = (
        Example(
            {"fields": _NET},
            "done",
            event={"properties": {"total": 100}},
            changes={"vars.net": 84.03},
        ),
        Example({"fields": _NET}, "error", "The total is a text.", event={"properties": {"total": "many"}}),
    )

    def run(self, step: Step) -> Out:
        for path, formula in self.config.fields.items():
            step.set(path, _number(step.value(formula), f"{path.source} = {formula.source}"))
        return _DONE


def _number(value: Any, what: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NodeError(f"{what} gave no number: is a value in it missing, or not a number?")
    if not (abs(value) <= _LARGEST if isinstance(value, int) else math.isfinite(value)):
        raise NodeError(f"{what} gave a number that is too large")
    return value
