"""Check that a value is a mail address, a date or similar.

It looks at the form only: whether a mailbox or a country's number range exists is not asked.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from headrace.engine.plugin import Body, Config, Example, Out, Plugin, Step

_VALID = Out("valid")
_INVALID = Out("invalid")
_LONGEST = 2048


def _form(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern, re.ASCII).fullmatch


_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_email = _form(
    rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@(?:{_LABEL}\.)+{_LABEL}"
)
_date = _form(r"\d{4}-\d\d-\d\d")
_time = _form(r"\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?")
_datetime = _form(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?")
_integer = _form(r"[+-]?\d{1,100}")
_number = _form(r"[+-]?(?:\d{1,100}(?:\.\d{0,100})?|\.\d{1,100})(?:[eE][+-]?\d{1,3})?")
_iban = _form(r"[A-Z]{2}\d\d[A-Z0-9]{11,30}")
_ean = _form(r"\d{8}|\d{13}")
# A browser drops or turns round some of these, so that the URL would go elsewhere.
_no_url = re.compile(r"[\s\\\x00-\x20\x7f-\x9f\u2028\u2029]").search


def _is_email(text: str) -> object:
    return len(text) <= 254 and text.find("@") <= 64 and _email(text)


def _is_url(text: str) -> object:
    if _no_url(text):
        return False
    parts = urlsplit(text)
    # `port` raises ValueError when it is none.
    return parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)


def _is_ean(text: str) -> object:
    weights = (3, 1) if len(text) == 8 else (1, 3)
    return _ean(text) and sum(int(digit) * weights[place % 2] for place, digit in enumerate(text)) % 10 == 0


def _is_iban(text: str) -> object:
    text = text.replace(" ", "").upper()
    return _iban(text) and int("".join(str(int(each, 36)) for each in text[4:] + text[:4])) % 97 == 1


# Each says whether a text is of the kind, as a truth; a ValueError means that it is not.
_CHECKS: Mapping[str, Callable[[str], object]] = {
    "email": _is_email,
    "url": _is_url,
    "ipv4": IPv4Address,
    # A scope (%eth0) is not part of an address.
    "ipv6": lambda text: "%" not in text and IPv6Address(text),
    "date": lambda text: _date(text) and date.fromisoformat(text),
    "time": lambda text: _time(text) and str(time.fromisoformat(text)),
    "datetime": lambda text: _datetime(text) and datetime.fromisoformat(text),
    "integer": _integer,
    "number": lambda text: _number(text) and math.isfinite(float(text)),
    "phone": _form(r"\+[1-9]\d{6,14}"),
    "ean": _is_ean,
    "iban": _is_iban,
    "uuid": _form(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"),
}


class ValidateValueConfig(Config):
    value: Body = Field(description="The value to check.", examples=["{{ event.properties.email }}"])
    kind: Literal[
        "email", "url", "ipv4", "ipv6", "date", "time", "datetime", "integer", "number", "phone", "ean", "iban", "uuid"
    ] = Field(
        description="What it should be. Dates and times are ISO 8601; `url` is http or https; `phone` is "
        "international, such as +4930123456; `ean` has 8 or 13 digits; `integer` and `number` may be texts.",
        examples=["email"],
    )  # fmt: skip


class ValidateValue(Plugin[ValidateValueConfig]):
    ports = {"valid": "The value is of the kind.", "invalid": "It is not, or it is missing."}
    examples = (
        Example(
            {"value": "{{ event.properties.email }}", "kind": "email"},
            "valid",
            event={"properties": {"email": "ann@shop.example"}},
        ),
        Example(
            {"value": "{{ event.properties.day }}", "kind": "date"},
            "invalid",
            "There is no such day.",
            event={"properties": {"day": "2026-02-30"}},
        ),
    )

    def run(self, step: Step) -> Out:
        return _VALID if self._is_valid(step.value(self.config.value)) else _INVALID

    def _is_valid(self, value: Any) -> bool:
        kind = self.config.kind
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return False
        if not isinstance(value, str):
            return kind == "number" or (kind == "integer" and (isinstance(value, int) or value.is_integer()))
        try:
            return len(value) <= _LONGEST and bool(_CHECKS[kind](value))
        except ValueError:
            return False
