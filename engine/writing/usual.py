"""What writes most often, as a function made for one place."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from headrace.engine.language.lookup import MISSING
from headrace.engine.writing.edit import NUMBERS, VALUE_SIZE, Edit

Change = Callable[[Mapping[str, Any], Any], Edit | None]
"""What writes at one place by one operation."""

# Each leaves all that is out of the ordinary to `otherwise`, which knows every case. A path spelled out takes half the
# time of a loop over its keys; floats are compared with floats for the same reason.
_CODE: Final = {
    "increment": """
def change(docs, value):
    try:
        container = docs{parents}
        before = container[{last}]
    except not_there:
        return otherwise(docs, value)
    if kind(value) in numbers and kind(before) in numbers:
        after = before + value
        if kind(after) is Float:
            is_usual = -9e15 < after < 9e15 and -9e15 < before < 9e15
        else:
            is_usual = least < after < most and least < before < most
        if is_usual and after is not before:
            container[{last}] = after
            return Edit(container, {last}, before, after, {text})
    return otherwise(docs, value)
""",
    "set": """
def change(docs, value):
    if kind(value) is not Text or not value.isascii() or len(value) >= too_large:
        return otherwise(docs, value)
    try:
        container = docs{parents}
        before = container.get({last}, missing)
    except not_there:
        return otherwise(docs, value)
    if before == value:
        return None
    container[{last}] = value
    return Edit(container, {last}, before, value, {text})
""",
    "add": """
def change(docs, value):
    try:
        before = docs{parents}[{last}]
        if kind(value) is Text and kind(before) is List and value in before:
            return None
    except not_there:
        pass
    return otherwise(docs, value)
""",
}

_NAMES: Final[dict[str, Any]] = {
    "Edit": Edit,
    "Float": float,
    "List": list,
    "Text": str,
    "kind": type,
    "least": -(1 << 53),
    "missing": MISSING,
    "most": 1 << 53,
    "not_there": (KeyError, TypeError, AttributeError, IndexError),
    "numbers": NUMBERS,
    "too_large": VALUE_SIZE,
}


def usual_change(op: str, root: str, keys: tuple[str, ...], text: str, otherwise: Change) -> Change:
    """Return what does an operation at one place in the usual case, and else calls `otherwise`.

    `set` is for places where any text may stand. The names of keys stand in the code as literals.
    """
    parents = "".join(f"[{key!r}]" for key in (root, *keys[:-1]))
    code = _CODE[op].format(parents=parents, last=repr(keys[-1]), text=repr(text))
    namespace = {**_NAMES, "otherwise": otherwise}
    exec(compile(code, f"<{op}>", "exec"), namespace)  # noqa: S102 - of an author it holds literals only
    change: Change = namespace["change"]
    return change
