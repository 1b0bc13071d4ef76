"""Hide the middle of a value, such as a card number.

The node's result has the masked text as `text`. A value that is too short to hide anything is masked wholly.
"""

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, Value

_CARD = {"value": "{{ event.properties.card }}", "keep_last": 4}


class MaskValueConfig(Config):
    value: Value[int | str | None] = Field(
        description="The text or whole number to mask.", examples=["{{ event.properties.card }}"]
    )
    keep_first: int = Field(0, ge=0, le=1000, description="Characters to show at the beginning.")
    keep_last: int = Field(0, ge=0, le=1000, description="Characters to show at the end.")
    mask: str = Field("*", min_length=1, max_length=1, description="The character that hides.")


class MaskValue(Plugin[MaskValueConfig]):
    ports = {
        "done": "The value is masked.",
        "missing": "There is nothing to mask: no value, or an empty text.",
    }
    examples = (
        Example(
            _CARD,
            "done",
            event={"properties": {"card": "4111222233334444"}},
            result={"text": "*" * 12 + "4444"},
        ),
        Example(
            _CARD,
            "done",
            "Showing four of four characters would hide nothing.",
            event={"properties": {"card": 1234}},
            result={"text": "****"},
        ),
        Example(_CARD, "missing"),
    )

    def run(self, step: Step) -> Out:
        value = step.value(self.config.value)
        text = "" if value is None else str(value)
        if not text:
            return Out("missing")
        first, last = self.config.keep_first, len(text) - self.config.keep_last
        if first >= last:
            first, last = 0, len(text)
        return Out("done", {"text": text[:first] + self.config.mask * (last - first) + text[last:]})
