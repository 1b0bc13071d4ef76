"""Pick values out of lists and objects.

The expression may use `jsonpath` or the filters for lists. The node's result has the values that were found
as `values`, the first of them as `first`, and how many there are as `count`.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Expression, Out, Plugin, Step

_ITEMS = {"properties": {"items": [{"sku": "a", "price": 5}, {"sku": "b", "price": 20}]}}


class QueryConfig(Config):
    select: Expression = Field(
        description="What to pick; a single value counts as a list of one.",
        examples=[
            "jsonpath('$.event.properties.items[?(@.price > 10)].sku')",
            "event.properties.items | map('sku')",
        ],
    )


class Query(Plugin[QueryConfig]):
    ports = {"found": "There is at least one value.", "empty": "There is none."}
    examples = (
        Example(
            {"select": "jsonpath('$.event.properties.items[?(@.price > 10)].sku')"},
            "found",
            event=_ITEMS,
            result={"values": ["b"], "first": "b", "count": 1},
        ),
        Example(
            {"select": "event.properties.items | map('sku')"},
            "found",
            event=_ITEMS,
            result={"values": ["a", "b"], "first": "a", "count": 2},
        ),
        Example(
            {"select": "event.properties.items"},
            "empty",
            "The event has no items.",
            result={"values": [], "first": None, "count": 0},
        ),
    )

    def run(self, step: Step) -> Out:
        value = step.value(self.config.select)
        values = value if isinstance(value, list) else [] if value is None else [value]
        result = {"values": values, "first": values[0] if values else None, "count": len(values)}
        return Out("found" if values else "empty", result)
