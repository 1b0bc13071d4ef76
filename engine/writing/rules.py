"""What may be written where: operations and types of each place."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from headrace.engine.errors import PathError

Check = Callable[[Any], None]

ANYTHING: Final = ("set", "unset", "increment", "append", "add", "remove")
_WHOLE: Final = ("set", "unset")
_NUMBER: Final = ("set", "unset", "increment")
_LIST: Final = ("set", "unset", "append", "add", "remove")


class Rule(NamedTuple):
    """What may be done at a place.

    `check` raises PathError for a value that may not stand there. `empty` makes what unset leaves; without it the
    member goes away.
    """

    operations: tuple[str, ...] = ANYTHING
    check: Check | None = None
    empty: Callable[[], Any] | None = None


def _is_object(value: Any) -> None:
    if not isinstance(value, dict):
        raise PathError("only an object can stand")


def _is_number(value: Any) -> None:
    if type(value) not in (int, float):
        raise PathError("only a number can stand")


def _is_texts(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise PathError("only a list of names can stand")


def _is_numbers(value: Any) -> None:
    _is_object(value)
    for number in value.values():
        _is_number(number)


def _is_flag(value: Any) -> None:
    if not isinstance(value, bool):
        raise PathError("only true or false can stand")


def _is_text_or_null(value: Any) -> None:
    if not (value is None or isinstance(value, str)):
        raise PathError("only a text or null can stand")


_CONSENT: Final[dict[str, Check]] = {
    "given": _is_flag,
    "at": _is_text_or_null,
    "source": _is_text_or_null,
    "until": _is_text_or_null,
}


def _is_consent(value: Any) -> None:
    _is_object(value)
    for key, member in value.items():
        if key not in _CONSENT:
            raise PathError(f"a consent has {', '.join(_CONSENT)}, not {key!r}; it cannot stand")
        _CONSENT[key](member)


def _is_consents(value: Any) -> None:
    _is_object(value)
    for consent in value.values():
        _is_consent(consent)


_OBJECT: Final = Rule(_WHOLE, _is_object, dict)
_COUNTS: Final = (Rule(_WHOLE, _is_numbers, dict), Rule(_NUMBER, _is_number))

RULES: Final[dict[tuple[str, ...], tuple[Rule | None, ...]]] = {
    ("profile", "traits"): (_OBJECT, Rule()),
    ("profile", "stats", "counters"): _COUNTS,
    ("profile", "interests"): _COUNTS,
    ("profile", "consents"): (Rule(_WHOLE, _is_consents, dict), Rule(_WHOLE, _is_consent)),
    ("profile", "segments"): (Rule(_LIST, _is_texts, list),),
    ("session", "context"): (_OBJECT, Rule()),
    ("session", "properties"): (_OBJECT, Rule()),
    ("vars",): (None, Rule()),
}
"""By writable root: the rule for the root itself (None: not whole), then for what stands right below it."""

_DEEP: Final = (("profile", "traits"), ("session", "context"), ("session", "properties"), ("vars",))


def root_of(path: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the writable root that a path is at or below, or None."""
    return next((root for root in RULES if path[: len(root)] == root), None)


def rule_of(path: tuple[str, ...], root: tuple[str, ...]) -> Rule | None:
    """Return the rule for a path at or below a writable root; None when nothing may be written there."""
    rules = RULES[root]
    depth = len(path) - len(root)
    if depth < len(rules):
        return rules[depth]
    if root in _DEEP:
        return rules[-1]
    if root == ("profile", "consents") and depth == 2 and path[-1] in _CONSENT:
        return Rule(_WHOLE, _CONSENT[path[-1]])
    return None
