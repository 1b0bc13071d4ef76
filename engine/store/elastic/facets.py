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
_WHOLE = re.compile(r"-?\d{1,18}")


def facets(doc: Doc, roots: Sequence[str]) -> list[str]:
    """Return the facets of the members `roots` of a document."""
    made: list[str] = []
    for root in roots:
        if value := doc.get(root):
            _collect(made, root, value, 1)
            if len(made) >= MOST:
                break
    return made[:MOST]


def _collect(made: list[str], path: str, value: Any, depth: int) -> None:
    if type(value) is dict:
        if depth > DEEPEST:
            return
        for name, member in value.items():
            if len(made) >= MOST:
                return
            inner = name if name.isidentifier() else _SIGNS.sub(r"\\\g<0>", name)
            if type(member) in _SCALARS:
                made.append(facet(f"{path}.{inner}", member))
            else:
                _collect(made, f"{path}.{inner}", member, depth + 1)
    elif type(value) is list:
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
    if len(made) <= LONGEST and (made.isascii() or _is_clean(made)):
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
    if type(value) is int and -_EXACT < value < _EXACT:
        return str(value)
    try:
        number = float(value)
    except OverflowError:
        return "inf"
    if abs(number) < 1 << 63 and number.is_integer():
        return str(int(value))
    return repr(number)


def asked(names: Sequence[str], text: str) -> Iterator[str]:
    """Yield the facets that a value equal to a text may have at the path of these names."""
    path = ".".join(_SIGNS.sub(r"\\\g<0>", name) if number else name for number, name in enumerate(names))
    yield facet(path, text)
    if text in ("true", "false"):
        yield facet(path, text == "true")
    elif _WHOLE.fullmatch(text):
        yield facet(path, int(text))
    elif len(text) < 400 and text.isascii():
        with suppress(ValueError):
            yield facet(path, float(text))
