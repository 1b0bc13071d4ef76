"""Functions for texts."""

import html
from typing import Any, Final
from urllib.parse import quote

from headrace.engine.language.limits import check_items, check_size
from headrace.engine.language.lookup import MISSING
from headrace.engine.language.registry import Function, function
from headrace.engine.language.values import contains as value_contains
from headrace.engine.language.values import is_absent, json_text, to_text


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


@function()
def text(value: Any) -> Any:
    """Write a value as a text, as a template would show it.

    >>> text(12.5)
    "12.5"
    """
    return MISSING if is_absent(value) else to_text(value)


@function()
def json(value: Any) -> str:
    """Write a value as JSON.

    >>> json(event.properties.tags)
    "[\\"red\\",\\"wool\\"]"
    """
    return json_text(value)


@function()
def lower(text: Any) -> Any:
    """Write a text in small letters.

    >>> 'Ada@Example.COM' | lower
    "ada@example.com"
    """
    return text.lower() if isinstance(text, str) else MISSING


@function()
def upper(text: Any) -> Any:
    """Write a text in capital letters.

    >>> upper('eur')
    "EUR"
    """
    return text.upper() if isinstance(text, str) else MISSING


@function()
def capitalize(text: Any) -> Any:
    """Write the first letter as a capital and the rest small.

    >>> 'ADA' | capitalize
    "Ada"
    """
    return text.capitalize() if isinstance(text, str) else MISSING


@function()
def title(text: Any) -> Any:
    """Write the first letter of each word as a capital.

    >>> 'ada king' | title
    "Ada King"
    """
    return text.title() if isinstance(text, str) else MISSING


@function()
def trim(text: Any) -> Any:
    """Take away spaces and line ends at both ends of a text.

    >>> trim('  ada ')
    "ada"
    """
    return text.strip() if isinstance(text, str) else MISSING


@function()
def replace(text: Any, old: Any, new: Any) -> Any:
    """Put one text in place of another, everywhere.

    >>> replace('1,50', ',', '.')
    "1.50"
    """
    if not (isinstance(text, str) and isinstance(old, str) and isinstance(new, str)):
        return MISSING
    if not old:
        return text
    check_size(len(text) + text.count(old) * (len(new) - len(old)))
    return text.replace(old, new)


@function()
def split(text: Any, separator: Any = " ") -> Any:
    """Split a text at each separator into a list of texts.

    >>> split('a,b,c', ',')
    ["a", "b", "c"]
    """
    if not (isinstance(text, str) and isinstance(separator, str) and separator):
        return MISSING
    check_items(text.count(separator) + 1)
    return text.split(separator)


@function()
def join(list: Any, separator: Any = "") -> Any:  # noqa: A002 - authors read this name
    """Join the items of a list into one text.

    >>> event.properties.tags | join(', ')
    "red, wool"
    """
    if not (_is_list(list) and isinstance(separator, str)):
        return MISSING
    check_items(len(list))
    texts = []
    size = 0
    for item in list:
        texts.append(to_text(item))
        size += len(texts[-1]) + len(separator)
        check_size(size)
    return separator.join(texts)


@function()
def starts_with(text: Any, start: Any) -> bool:
    """Say whether a text begins with another.

    >>> starts_with(event.type, 'purchase')
    true
    """
    return isinstance(text, str) and isinstance(start, str) and text.startswith(start)


@function()
def ends_with(text: Any, end: Any) -> bool:
    """Say whether a text ends with another.

    >>> profile.traits.email | ends_with('@example.com')
    true
    """
    return isinstance(text, str) and isinstance(end, str) and text.endswith(end)


@function()
def contains(scope: Any, value: Any, item: Any) -> bool:
    """Say whether a list has an item, an object a key, or a text a part: `item in value`.

    >>> contains(profile.segments, 'vip')
    true
    """
    return value_contains(scope, value, item) is True


@function()
def truncate(text: Any, length: Any = 80, end: Any = "…") -> Any:
    """Cut a text that is longer than a number of characters, and show that it was cut.

    >>> truncate('A long description', 7)
    "A long…"
    """
    if not (isinstance(text, str) and type(length) is int and isinstance(end, str)) or length < 0:
        return MISSING
    return text if len(text) <= length else text[: max(0, length - len(end))] + end[:length]


@function()
def escape(text: Any) -> Any:
    """Write a text so that it can stand in HTML.

    >>> escape('<b>')
    "&lt;b&gt;"
    """
    if is_absent(text):
        return MISSING
    shown = to_text(text)
    check_size(len(shown) + 5 * sum(map(shown.count, "&<>\"'")))
    return html.escape(shown)


@function()
def url_encode(text: Any) -> Any:
    """Write a text so that it can stand as one part of a URL.

    >>> url_encode('a b&c/d')
    "a%20b%26c%2Fd"
    """
    if is_absent(text):
        return MISSING
    shown = to_text(text)
    check_size(len(shown) * 3)
    return quote(shown, safe="", errors="replace")


@function()
def length(value: Any) -> Any:
    """Count the characters of a text, the items of a list or the members of an object.

    >>> length(event.properties.items)
    2
    """
    return len(value) if isinstance(value, str | list | dict) else MISSING


@function()
def default(value: Any, otherwise: Any, empty: Any = False) -> Any:
    """Give another value when one is missing or null; with `empty=true` also when it is false, 0 or empty.

    >>> profile.traits.nickname | default('friend')
    "friend"
    """
    return otherwise if is_absent(value) or (empty is True and not value) else value


@function()
def coalesce(*values: Any) -> Any:
    """Give the first of several values that is neither missing nor null.

    >>> coalesce(profile.traits.nickname, profile.traits.name, 'friend')
    "Ada"
    """
    return next((value for value in values if not is_absent(value)), MISSING)


FUNCTIONS: Final[tuple[Function, ...]] = (
    text,
    json,
    lower,
    upper,
    capitalize,
    title,
    trim,
    replace,
    split,
    join,
    starts_with,
    ends_with,
    contains,
    truncate,
    escape,
    url_encode,
    length,
    default,
    coalesce,
)
