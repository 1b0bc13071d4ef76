"""Translate a value by a table.

The node's result has what the table gives as `value`. Numbers, true and false are looked up by their text.
"""

from pydantic import Field

from headrace.engine.plugin import Body, Config, Example, Out, Plugin, Step

_TABLE = {"de": "German", "fr": "French"}


class MapValueConfig(Config):
    value: Body = Field(description="The value to look up.", examples=["{{ event.properties.language }}"])
    table: dict[str, Body] = Field(min_length=1, description="What each value becomes.", examples=[_TABLE])
    default: Body | None = Field(None, description="The result for a value that the table does not have.")
    ignore_case: bool = Field(default=False, description="Look up `DE` like `de`.")


class MapValue(Plugin[MapValueConfig]):
    ports = {"mapped": "The table has the value.", "unmapped": "It does not, or the value is missing."}
    examples = (
        Example(
            {"value": "{{ event.properties.language }}", "table": _TABLE, "ignore_case": True},
            "mapped",
            event={"properties": {"language": "DE"}},
            result={"value": "German"},
        ),
        Example(
            {"value": "{{ event.properties.score }}", "table": {"1": "low", "2": "high"}},
            "mapped",
            event={"properties": {"score": 2}},
            result={"value": "high"},
        ),
        Example(
            {"value": "{{ event.properties.language }}", "table": _TABLE, "default": "English"},
            "unmapped",
            event={"properties": {"language": "it"}},
            result={"value": "English"},
        ),
    )

    def prepare(self) -> None:
        ignore_case = self.config.ignore_case
        self._table = {
            key.casefold() if ignore_case else key: body for key, body in self.config.table.items()
        }
        if len(self._table) < len(self.config.table):
            raise ValueError("two keys of the table differ only in case")

    def run(self, step: Step) -> Out:
        value = step.value(self.config.value)
        if isinstance(value, bool):
            value = "true" if value else "false"
        found = None
        if isinstance(value, str | int | float):
            found = self._table.get(str(value).casefold() if self.config.ignore_case else str(value))
        if found is not None:
            return Out("mapped", {"value": step.value(found)})
        default = self.config.default
        return Out("unmapped", {"value": None if default is None else step.value(default)})
