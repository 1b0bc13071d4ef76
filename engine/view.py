"""Read-only views of documents, as plugins see them."""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

_SCALARS = (str, int, float, type(None))

SCALARS = frozenset((str, int, float, bool, type(None)))
"""Types whose values need no copy."""


class View(Mapping[str, Any]):
    """A read-only view of a JSON object whose keys also read as attributes.

    `profile.stats.counters.get("orders", 0)` works on an empty profile too: an attribute that is not there reads as
    an empty view, which is false. A key that is named like a method (`get`, `items`, `keys`, `values`) is read by
    `view["items"]`.
    """

    __slots__ = ("_doc",)

    def __init__(self, doc: Mapping[str, Any] | None) -> None:
        self._doc: Mapping[str, Any] = doc or {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return viewed(self._doc[name]) if name in self._doc else View(None)

    def __getitem__(self, key: str) -> Any:
        return viewed(self._doc[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._doc)

    def __len__(self) -> int:
        return len(self._doc)

    def __repr__(self) -> str:
        return f"View({self._doc!r})"


def viewed(value: Any) -> Any:
    """Return a JSON value so that it cannot be changed: objects as views, lists as tuples."""
    if isinstance(value, dict):
        return View(value)
    if isinstance(value, list):
        return tuple(viewed(item) for item in value)
    return value


def plain(value: Any) -> Any:
    """Return the JSON value behind a view, as a copy that may be kept."""
    kind = type(value)
    if kind in SCALARS:
        return value
    if kind is dict and SCALARS.issuperset(map(type, value.values())):
        return value.copy()
    if kind is View:
        value = value._doc
    elif kind is list or kind is tuple:
        return [item if type(item) in SCALARS else plain(item) for item in value]
    if isinstance(value, dict):
        return {key: item if type(item) in SCALARS else plain(item) for key, item in value.items()}
    return value


def shown(value: Any) -> Any:
    """Return a copy of what a plugin gave that can be written as JSON, whatever it is."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, View):
        value = value._doc
    if isinstance(value, Mapping):
        return {str(key): shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value if isinstance(value, datetime) else repr(value)[:200]
