"""Looking values up in documents by key only, never by attribute."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, final

Reader = Callable[[Any], Any]


@final
class Missing:
    """What a look-up that finds nothing gives. There is one, `MISSING`.

    It is false, equal only to itself, shown as an empty text, and whatever is computed from it is missing too.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "missing"

    def __str__(self) -> str:
        return ""


MISSING: Final = Missing()

_EMPTY: Final[dict[str, Any]] = {}


@lru_cache(maxsize=16_384)
def reader(keys: tuple[str, ...]) -> Reader:
    """Return a function that follows keys from a document and gives the value, or `MISSING`.

    Depths up to three are spelled out, because conditions read little else and a loop costs twice as much.
    """
    if not keys:
        return lambda root: root
    if len(keys) == 1:
        return _reader_of_one(keys[0])
    if len(keys) == 2:
        return _reader_of_two(*keys)
    if len(keys) == 3:
        return _reader_of_three(*keys)
    return _reader_of_many(keys)


def _reader_of_one(key: str) -> Reader:
    def read(root: Any) -> Any:
        try:
            return root.get(key, MISSING)
        except AttributeError:
            return MISSING

    return read


def _reader_of_two(first: str, second: str) -> Reader:
    def read(root: Any) -> Any:
        try:
            return root.get(first, _EMPTY).get(second, MISSING)
        except AttributeError:
            return MISSING

    return read


def _reader_of_three(first: str, second: str, third: str) -> Reader:
    def read(root: Any) -> Any:
        try:
            return root.get(first, _EMPTY).get(second, _EMPTY).get(third, MISSING)
        except AttributeError:
            return MISSING

    return read


def _reader_of_many(keys: tuple[str, ...]) -> Reader:
    *parents, last = keys

    def read(root: Any) -> Any:
        try:
            for key in parents:
                root = root.get(key, _EMPTY)
            return root.get(last, MISSING)
        except AttributeError:
            return MISSING

    return read


def get_item(container: Any, key: Any) -> Any:
    """Return what an object has under a key, or a list at a place (from the end when negative), or `MISSING`."""
    if isinstance(container, list):
        if type(key) is not int:
            return MISSING
        return container[key] if -len(container) <= key < len(container) else MISSING
    if isinstance(key, str):
        try:
            return container.get(key, MISSING)
        except AttributeError:
            return MISSING
    return MISSING


def as_time(value: Any) -> Any:
    """Return the time that a stored ISO 8601 text stands for, in UTC; null stays null, all else is missing."""
    if isinstance(value, str):
        try:
            time = datetime.fromisoformat(value)
            if time.tzinfo is UTC:
                return time
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            return MISSING
    return value if value is None or isinstance(value, datetime) else MISSING


_TIME_PARENTS: Final = frozenset(
    {("event", "time"), ("profile", "time"), ("session", "time"), ("profile", "marks")}
)
_CONSENT_TIMES: Final = frozenset({"at", "until"})


def holds_times(path: tuple[str, ...]) -> bool:
    """Say whether every member of the object at a path is a time of ours, such as those of `event.time`."""
    return path in _TIME_PARENTS


def is_time(path: tuple[str, ...]) -> bool:
    """Say whether a path is a time of ours: `….time.*`, `profile.marks.*`, `profile.consents.*.at` and `until`."""
    if path[:-1] in _TIME_PARENTS:
        return True
    return len(path) == 4 and path[:2] == ("profile", "consents") and path[3] in _CONSENT_TIMES


_LOOK_UP: Final = """
        try: {name} = {look_up}
        except absent: {name} = missing"""
_SPELLED_OUT: Final = 6
"""Keys of a path that compiled code spells out; a longer one is read by a function."""


class LookUps:
    """The look-ups that a compiled function does at its start: every path once, and most without a call.

    `code` are its lines, `constants` what they name.
    """

    def __init__(self) -> None:
        self.code = ""
        self.constants: dict[str, Reader] = {}
        self._names: dict[tuple[str, ...], str] = {}

    def name_of(self, path: tuple[str, ...]) -> str:
        """Return the variable that holds what a path, with its root first, leads to."""
        if path in self._names:
            return self._names[path]
        root, *parents, last = path
        name = self._names[path] = f"found_{len(self._names)}"
        look_up = f"scope.{root}"
        if len(parents) > _SPELLED_OUT:
            self.constants[f"look_{name}"] = reader(path[1:])
            look_up = f"look_{name}({look_up})"
        else:
            for number, key in enumerate(parents):
                # The first key of a document is nearly always there, and this is the fastest way to it.
                look_up += f".get({key!r}, nothing)" if number else f"[{key!r}]"
            look_up += f".get({last!r}, missing)"
        self.code += _LOOK_UP.format(name=name, look_up=look_up)
        return name
