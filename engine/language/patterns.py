"""Functions with regular expressions, in time that grows with the text only."""

from typing import Any, Final

import re2

from headrace.engine.language.limits import check_items, check_size
from headrace.engine.language.lookup import MISSING
from headrace.engine.language.registry import BadLiteral, Function, Prepared, function
from headrace.engine.language.values import to_text

_PATTERN_CHARS: Final = 2_000


def parse_pattern(text: str) -> Any:
    """Compile a regular expression of RE2's syntax; raise BadLiteral with RE2's reason."""
    if len(text) > _PATTERN_CHARS:
        raise BadLiteral(f"the pattern is longer than {_PATTERN_CHARS:,} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0]
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        fix = "RE2 knows no look-around and no back-references; it is never slow" if "perl" in reason else ""
        raise BadLiteral(f"the pattern cannot be used: {reason}", fix) from None
    except UnicodeEncodeError:
        raise BadLiteral("the pattern is not Unicode text") from None


_PATTERN = Prepared(parse_pattern)


def _searchable(text: Any) -> bool:
    if not isinstance(text, str):
        return False
    try:
        return text.isascii() or text.encode() is not None
    except UnicodeEncodeError:
        return False


@function(pattern=_PATTERN)
def matches(text: Any, pattern: Any) -> bool:
    r"""Say whether a regular expression (RE2) is found in a text; `^` and `$` tie it to the ends.

    >>> matches(profile.traits.email, '@example\\.com$')
    true
    """
    return _searchable(text) and pattern.search(text) is not None


@function(pattern=_PATTERN)
def extract(text: Any, pattern: Any, group: Any = None) -> Any:
    r"""Give what a regular expression finds first: its first group if it has one, or the group that is named.

    >>> extract('order-4711', '([0-9]+)$')
    "4711"
    """
    found = pattern.search(text) if _searchable(text) else None
    if found is None:
        return MISSING
    if group is None:
        group = 1 if pattern.groups else 0
    if type(group) not in (int, str):
        return MISSING
    try:
        part = found.group(group)
    except (IndexError, KeyError):
        return MISSING
    return MISSING if part is None else part


@function(pattern=_PATTERN)
def extract_all(text: Any, pattern: Any) -> Any:
    r"""List all that a regular expression finds, or its first group if it has one.

    >>> extract_all('a1 b22', '[0-9]+')
    ["1", "22"]
    """
    if not _searchable(text):
        return MISSING
    parts = []
    for found in pattern.finditer(text):
        parts.append(to_text(found.group(1 if pattern.groups else 0)))
        check_items(len(parts))
    return parts


@function(pattern=_PATTERN)
def replace_pattern(text: Any, pattern: Any, new: Any) -> Any:
    r"""Put a text in place of all that a regular expression finds.

    >>> replace_pattern('+49 (30) 12-34', '[^0-9+]', '')
    "+49301234"
    """
    if not (_searchable(text) and isinstance(new, str)):
        return MISSING
    parts: list[str] = []
    size = end = 0
    for found in pattern.finditer(text):
        parts += text[end : found.start()], new
        check_items(len(parts))
        size += found.start() - end + len(new)
        check_size(size)
        end = found.end()
    check_size(size + len(text) - end)
    return "".join((*parts, text[end:]))


FUNCTIONS: Final[tuple[Function, ...]] = (
    matches,
    extract,
    extract_all,
    replace_pattern,
)
