"""Names of a certain form, and the words that say which."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema


@dataclass(frozen=True)
class Named:
    """Marks a text that must match a pattern as a whole: `Annotated[str, Named("[a-z]+", "have small letters only")]`.

    `rule` is what lint says of a text that does not match; it goes on after "must".
    """

    pattern: str
    rule: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^{self.pattern}$"}

    def _check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            fix = "write the name itself: nothing is filled in here" if "{{" in value else ""
            raise PydanticCustomError("form", "must {rule}", {"rule": self.rule, "fix": fix})
        return value


BARE = Named(r"\S(.*\S)?", "have no white space at its ends")
"""Any text of one line, such as the name of a segment."""

KEY = Named(
    r"[a-z0-9][a-z0-9_-]*", "have small letters, digits, _ and - only, and begin with a letter or digit"
)
"""What stands in keys of the store, such as a tenant."""

IDENTIFIER = Named(r"[a-z][a-z0-9_]*", "have small letters, digits and _ only, and begin with a letter")
"""What stands in expressions as it is, such as the name of a node."""

MarkName = Annotated[
    str, Named(r"[A-Za-z0-9_-]{1,64}", "have letters, digits, _ and - only, at most 64 of them")
]
"""A member of the profile that an author names, such as a consent."""

ClockTime = Annotated[
    str, Named(r"(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)", "be a time of the day, from 00:00 to 24:00")
]
"""A time of the day as HH:MM."""
