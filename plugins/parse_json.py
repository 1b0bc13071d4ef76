"""Read a text as JSON.

The node's result has what the text says as `value`.
"""

from math import isinf

import msgspec
from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, Text

_CART = {"text": "{{ event.properties.cart }}"}


class ParseJsonConfig(Config):
    text: Text = Field(description="The text to read.", examples=["{{ event.properties.cart }}"])


class ParseJson(Plugin[ParseJsonConfig]):
    ports = {"parsed": "The text is JSON.", "invalid": "It is not, or it is missing; `reason` says why."}
    examples = (
        Example(
            _CART,
            "parsed",
            event={"properties": {"cart": '{"items": [1, 2]}'}},
            result={"value": {"items": [1, 2]}},
        ),
        Example(_CART, "invalid", event={"properties": {"cart": "{items: 1}"}}),
        Example(_CART, "invalid", "The event has no cart."),
    )

    def run(self, step: Step) -> Out:
        try:
            return Out("parsed", {"value": _decode(step.value(self.config.text))})
        except (msgspec.DecodeError, UnicodeError) as error:
            return Out("invalid", {"reason": str(error)})
        except RecursionError:
            return Out("invalid", {"reason": "it nests too deeply"})


def _number(text: str) -> float:
    """Read a number as Python does: msgspec's own way takes long near 1e300."""
    number = float(text)
    if isinf(number):
        raise ValueError("Number out of range")
    return number


_decode = msgspec.json.Decoder(float_hook=_number).decode
