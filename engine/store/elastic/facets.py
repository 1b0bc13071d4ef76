"""What of a document can be asked for by equality: `traits.email=a@b.c`.

Free-form parts are not indexed as they are: two senders may give one name a number and an object, which no mapping
takes. Each value that stands at a path becomes one text instead. A name's own `.`, `=`, `#`, `!` and backslash are
escaped, so that a path reads one way only. Texts stand after `=`, numbers after `#`, booleans after `!`.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from headrace.engine.model import Doc

MOST = 500
"""Values of one document that can be asked for; what comes after them is kept, and not found by a value."""
DEEPEST = 12
_EXACT = 1 << 53
LONGEST = 256
"""Characters; a longer one is known by a hash, so that equality holds for it too."""

_SIGNS = re.compile(r"[.=#!\\]")
_ESCAPED = r"\\\g<0>"
_WHOLE = re.compile(r"-?\d{1,18}")


def facets(doc: Doc, roots: Sequence[str]) -> list[str]:
    """Return the facets of the members `roots` of a document."""
    made: list[str] = []
    for root in roots:
        value = doc.get(root)
        if not value:
            continue
        if type(value) is dict:
            _of_members(made, root, value, 1)
        else:
            _of_other(made, root, value)
        if len(made) >= MOST:
            return made[:MOST]
    return made


def _of_members(made: list[str], path: str, members: Doc, depth: int) -> None:
    """Add the facets of an object's members. It runs for every member of every document: hence no call for a text."""
    if depth > DEEPEST:
        return
    for name, value in members.items():
        if len(made) >= MOST:
            return
        inner = f"{path}.{name if name.isidentifier() else _SIGNS.sub(_ESCAPED, name)}"
        kind = type(value)
        if kind is str:
            text = f"{inner}={value}"
        elif kind is float or kind is int:
            text = f"{inner}#{_number(value)}"
        elif kind is dict:
            _of_members(made, inner, value, depth + 1)
            continue
        else:
            _of_other(made, inner, value)
            continue
        made.append(text if len(text) <= LONGEST and text.isascii() else _bounded(text))


def _of_other(made: list[str], path: str, value: Any) -> None:
    """Add the facets of what is no object."""
    if type(value) is list:
        made += [facet(path, member) for member in value[:MOST] if type(member) in _SCALARS]
    elif type(value) in _SCALARS:
        made.append(facet(path, value))


_SCALARS = frozenset((str, int, float, bool))


def facet(path: str, value: Any) -> str:
    """Return the facet of a scalar that stands at a path."""
    kind = type(value)
    if kind is str:
        made = f"{path}={value}"
    elif kind is bool:
        made = f"{path}!{'true' if value else 'false'}"
    else:
        made = f"{path}#{_number(value)}"
    return made if len(made) <= LONGEST and made.isascii() else _bounded(made)


def _bounded(made: str) -> str:
    """Return a facet that is not too long and that UTF-8 can write: itself, or a hash for its end."""
    if len(made) <= LONGEST and _is_clean(made):
        return made
    digest = blake2b(made.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"{made[:64].encode(errors='replace').decode()}…{digest}"


def _is_clean(text: str) -> bool:
    """Say whether UTF-8 can write a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(value: float) -> str:
    """Return a number as text, the same for `42` and `42.0`; beyond 64 bits as near as a float comes."""
    if type(value) is int:
        if -_EXACT < value < _EXACT:
            return str(value)
    elif not value.is_integer():
        return repr(value)
    try:
        number = float(value)
    except OverflowError:
        return "inf"
    if abs(number) < 1 << 63 and number.is_integer():
        return str(int(value))
    return repr(number)


def asked(names: Sequence[str], text: str) -> Iterator[str]:
    """Yield the facets that a value equal to a text may have at the path of these names."""
    path = ".".join(_SIGNS.sub(_ESCAPED, name) if number else name for number, name in enumerate(names))
    yield facet(path, text)
    if text in ("true", "false"):
        yield facet(path, text == "true")
    elif _WHOLE.fullmatch(text):
        yield facet(path, int(text))
    elif len(text) < 400 and text.isascii():
        with suppress(ValueError):
            yield facet(path, float(text))
