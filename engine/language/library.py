"""All functions of the language by name."""

from typing import Final

from headrace.engine.language import lists, numbers, patterns, queries, texts, times
from headrace.engine.language.registry import Function

FUNCTIONS: Final[dict[str, Function]] = {
    each.name: each
    for module in (times, texts, numbers, lists, patterns, queries)
    for each in module.FUNCTIONS
}
"""By name; each has `name, signature, summary, example, result` (JSON text), for the generated page."""

FILTERS: Final[dict[str, Function]] = {name: each for name, each in FUNCTIONS.items() if each.is_filter}
"""Those that take a value first: `value | name(…)` means `name(value, …)`."""

OTHER_NAMES: Final = {
    "count": "length",
    "d": "default",
    "e": "escape",
    "string": "text",
    "tojson": "json",
    "float": "number",
    "items": "pairs",
    "dictsort": "pairs",
    "selectattr": "where",
    "rejectattr": "where",
    "select": "where",
    "reject": "where",
    "urlencode": "url_encode",
    "strip": "trim",
    "strftime": "format_time",
    "parse_time": "time",
    "datetime": "time",
    "today": "day",
    "search": "matches",
    "regex": "matches",
    "list": "keys",
}
"""What authors who know other template languages may write: the name here."""
