"""Functions with regular expressions, in bounded time."""

from collections.abc import Iterator
from typing import Any, Final

import re2

from headrace.engine.language.limits import ITEMS, EvaluationError, Work, check_size
from headrace.engine.language.lookup import MISSING
from headrace.engine.language.registry import BadLiteral, Function, Prepared, function
from headrace.engine.language.values import to_text

_PATTERN_CHARS: Final = 2_000
_TEXT_BYTES: Final = 1 << 16
_STEPS: Final = 1 << 25
_MATCH_WORK: Final = 40
_BYTES_PER_WORK: Final = 32


class Regex:
    """A regular expression of RE2's syntax. `longest` is the longest text, in bytes of UTF-8, that it looks at.

    RE2 turns a program into a table while it runs, so that a byte costs a nanosecond or two. A program whose table is
    too large it simulates: then a byte costs some nanoseconds for each instruction. So a text counts once for each
    instruction; what is searched again, after each match, counts so only for large programs.
    """

    __slots__ = ("_again", "_compiled", "_once", "groups", "longest", "names")

    def __init__(self, compiled: Any) -> None:
        size = compiled.programsize
        self._compiled = compiled
        self._once = size / _BYTES_PER_WORK
        self._again = min(size, max(1, size * size >> 12)) / _BYTES_PER_WORK
        self.longest = min(_TEXT_BYTES, _STEPS // size)
        self.groups: int = compiled.groups
        self.names = frozenset(compiled.groupindex)

    def _begin(self, text: str, work: Work) -> int:
        size = len(text) if text.isascii() else len(text.encode())
        if size > self.longest:
            raise EvaluationError(
                f"the pattern looks at texts up to {self.longest:,} bytes, and this has {size:,}"
            )
        work.spend(int(size * self._once))
        return size

    def find(self, text: str, work: Work) -> Any:
        """Return the first match or None; raises as `find_all` does."""
        self._begin(text, work)
        return self._compiled.search(text)

    def find_all(self, text: str, work: Work) -> Iterator[Any]:
        """Give the matches, one after another; each search counts as if it went on to the end of the text.

        Raises EvaluationError for a text, or for matches, that are too much, UnicodeEncodeError for a lone surrogate.
        """
        again = self._begin(text, work) / (len(text) or 1) * self._again
        for count, found in enumerate(self._compiled.finditer(text), 1):
            if count > ITEMS:
                raise EvaluationError(f"the pattern matches more than {ITEMS:,} times")
            yield found
            work.spend(_MATCH_WORK + int((len(text) - found.end()) * again))


def parse_pattern(text: str) -> Regex:
    """Compile a regular expression of RE2's syntax; raise BadLiteral with RE2's reason."""
    if len(text) > _PATTERN_CHARS:
        raise BadLiteral(f"the pattern is longer than {_PATTERN_CHARS:,} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return Regex(re2.compile(text, options))
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
def matches(scope: Any, text: Any, pattern: Any) -> bool:
    r"""Say whether a regular expression (RE2) is found in a text; `^` and `$` tie it to the ends.

    >>> matches(profile.traits.email, '@example\\.com$')
    true
    """
    return _searchable(text) and pattern.find(text, scope) is not None


@function(pattern=_PATTERN)
def extract(scope: Any, text: Any, pattern: Any, group: Any = None) -> Any:
    r"""Give what a regular expression finds first: its first group if it has one, or the group that is named.

    >>> extract('order-4711', '([0-9]+)$')
    "4711"
    """
    found = pattern.find(text, scope) if _searchable(text) else None
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
def extract_all(scope: Any, text: Any, pattern: Any) -> Any:
    r"""List all that a regular expression finds, or its first group if it has one.

    >>> extract_all('a1 b22', '[0-9]+')
    ["1", "22"]
    """
    if not _searchable(text):
        return MISSING
    group = 1 if pattern.groups else 0
    return [to_text(found.group(group)) for found in pattern.find_all(text, scope)]


@function(pattern=_PATTERN)
def replace_pattern(scope: Any, text: Any, pattern: Any, new: Any) -> Any:
    r"""Put a text in place of all that a regular expression finds.

    >>> replace_pattern('+49 (30) 12-34', '[^0-9+]', '')
    "+49301234"
    """
    if not (_searchable(text) and isinstance(new, str)):
        return MISSING
    parts: list[str] = []
    size = end = 0
    for found in pattern.find_all(text, scope):
        parts += text[end : found.start()], new
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
