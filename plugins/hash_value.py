"""Hash a value, with or without a secret key.

The node's result has the hash as `hash`, in hex, of the value's UTF-8. With a key it is an HMAC. `md5` and
`sha1` are only for systems that ask for them: they no longer protect anything. A plain hash of a mail address
or a phone number can be guessed; use a key unless the receiver needs the plain one.
"""

import hashlib
import hmac
from typing import Literal

from pydantic import Field

from headrace.engine.plugin import Config, Example, NodeError, Out, Plugin, Secret, Step, Value

_MAIL = {"value": "{{ profile.traits.email }}"}


class HashValueConfig(Config):
    value: Value[int | str | None] = Field(
        description="The text or whole number to hash.", examples=["{{ profile.traits.email }}"]
    )
    algorithm: Literal["sha256", "sha512", "blake2b", "sha1", "md5"] = Field(
        "sha256", description="The hash."
    )
    key: Secret | None = Field(None, description="A secret key.", examples=[{"secret": "HASH_KEY"}])
    trim: bool = Field(default=True, description="Take away white space around the text first.")
    lower: bool = Field(
        default=False, description="Write the text in lower case first, as mail addresses need it."
    )


class HashValue(Plugin[HashValueConfig]):
    ports = {"done": "The hash is made.", "missing": "There is nothing to hash: no value, or an empty text."}
    examples = (
        Example(
            {**_MAIL, "lower": True},
            "done",
            profile={"traits": {"email": " Ann@Shop.example "}},
            result={"hash": "6a0bf011a1fc1e9a8add1728704b8ddb5d9d2701ae295a65452d9f1f1cf91be5"},
        ),
        Example(
            {**_MAIL, "key": {"secret": "HASH_KEY"}},
            "done",
            profile={"traits": {"email": "ann@shop.example"}},
            secrets={"HASH_KEY": "not so secret"},
            result={"hash": "b36c38863d2e45aba56e0e61e73861b6a11fdbaa199c4065d389f931ec70f1e1"},
        ),
        Example(_MAIL, "missing", "A hash of nothing would make all strangers one."),
    )

    def run(self, step: Step) -> Out:
        value = step.value(self.config.value)
        text = "" if value is None else str(value)
        text = text.strip() if self.config.trim else text
        text = text.lower() if self.config.lower else text
        if not text:
            return Out("missing")
        return Out("done", {"hash": self._hash(text, step)})

    def _hash(self, text: str, step: Step) -> str:
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise NodeError("the text is not valid Unicode: it has a lone surrogate") from None
        if self.config.key is not None:
            return hmac.new(step.value(self.config.key).encode(), data, self.config.algorithm).hexdigest()
        return hashlib.new(self.config.algorithm, data, usedforsecurity=False).hexdigest()
