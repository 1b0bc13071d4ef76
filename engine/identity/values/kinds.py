"""Kinds of identifying values, and how two values are compared."""

import unicodedata
from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

from headrace.engine.model import make_key

LONGEST = 256
"""Characters of a value; a longer one identifies nobody."""

MAILS = frozenset(("email", "mail", "e-mail"))
"""Kinds whose values are addresses of mail, unless their settings say otherwise."""

NOBODY = frozenset(
    ("null", "none", "undefined", "nan", "n/a", "anonymous", "guest", "unknown", "(null)", "[object object]")
)
"""What programs send in place of a value that they do not have."""

_FILLERS = "0-_.:,/ "
"""A value of nothing else is a zero or a line: nobody's."""


class Kind(NamedTuple):
    """A kind of identifying value, such as `email`, with its settings.

    A profile has at most `per_profile` values of it. Kinds with a smaller `priority` go first. With `takes_any` the
    values of sources without a key are trusted too. `blocked` values never match; as soon as the profiles that would
    be merged were more than `most_profiles` in all, none are.
    """

    name: str
    per_profile: int = 1
    priority: int = 10
    takes_any: bool = False
    blocked: frozenset[str] = frozenset()
    most_profiles: int = 100
    is_mail: bool = False

    def normalise(self, value: Any) -> str | None:
        """Return a value as it is compared and kept, or None for one that identifies nobody."""
        text = compared(value, is_mail=self.is_mail)
        return None if text is None or text in self.blocked else text


def compared(value: Any, *, is_mail: bool) -> str | None:
    """Return a value without what does not tell people apart, or None for one that no person has."""
    text = as_text(value)
    if text is None or len(text) > 2 * LONGEST:
        return None
    text = unicodedata.normalize("NFC", text).strip()
    if is_mail:
        text = text.lower()
    if len(text) > LONGEST or not text.strip(_FILLERS) or text.casefold() in NOBODY:
        return None
    return text if text.isprintable() else None


def as_text(value: Any) -> str | None:
    """Return a text, or a number as one; None for everything else."""
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is int:
        return str(value) if value.bit_length() <= 128 else None
    if kind is float and isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    return None


def kind_of(kinds: Mapping[str, Kind], name: str) -> Kind:
    """Return a declared kind; one that is not declared has the usual settings."""
    return kinds.get(name) or Kind(name, is_mail=name.lower() in MAILS)


def claim_key(tenant: str, kind: str, value: str, *, is_trusted: bool) -> str:
    """Return the key of the claim that says whose a value is; untrusted values have claims of their own."""
    return make_key("claim", tenant, "identity" if is_trusted else "claimed", kind, value)
