"""The function `jsonpath`: searching lists and objects."""

import re
from typing import Any, Final

from jsonpath_ng import Child, DatumInContext, Descendants, Fields, Index, JSONPath, Root, Slice, This
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.ext import filter as filters
from jsonpath_ng.ext.parser import parse
from jsonpath_ng.jsonpath import Wildcard

from headrace.engine.language.limits import EvaluationError, check_items
from headrace.engine.language.lookup import reader
from headrace.engine.language.registry import BadLiteral, Function, Prepared, function

NAMES: Final = ("event", "profile", "session", "source", "nodes", "vars")
_QUERY_CHARS: Final = 1_000
_DATA_VALUES: Final = 20_000
_VALUE_WORK: Final = 24
_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_DASHED: Final = re.compile(r"[^\W\d]\w*(?:-\w+)+")
_START: Final = re.compile(rf"\$\.({'|'.join(NAMES)})\b")
_REFUSED: Final = (
    (re.compile("=~"), "`=~` is not available, since it can run for seconds", "use matches(text, pattern)"),
    (re.compile("`"), "functions between backticks are not available", "use the functions of expressions"),
    (re.compile(r"(?<!&)&(?!&)"), "`&` is not available", "write `&&`"),
    (re.compile(r"(?<!\|)\|(?!\|)"), "`|` is not available", "write `||`"),
)
_ALLOWED: Final = (
    Child,
    Descendants,
    Fields,
    Index,
    Root,
    Slice,
    This,
    Wildcard,
    filters.Filter,
    filters.Expression,
    filters.And,
    filters.Or,
)


class Query:
    """A parsed query: finds values in a scope. `reads` is the path that it starts from."""

    def __init__(self, text: str, tree: JSONPath) -> None:
        self.text = text
        self.reads = _plain_start(tree)
        self._root = self.reads[0]
        self._find = tree.find
        self._start = reader(self.reads[1:])
        self._work = _work(tree)

    def find(self, scope: Any) -> list[Any]:
        """Return all values found, in order."""
        document = getattr(scope, self._root)
        if self._work:
            scope.spend(self._work * _count_values(self._start(document)))
        found = self._find(DatumInContext({self._root: document}))
        check_items(len(found))
        return [match.value for match in found]


def _count_values(start: Any) -> int:
    pending = [start]
    count = 0
    while pending:
        item = pending.pop()
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        count += len(children)
        if count > _DATA_VALUES:
            raise EvaluationError(f"a search through more than {_DATA_VALUES:,} values")
        pending.extend(children)
    return count


def _children(node: Any) -> list[Any]:
    if isinstance(node, Child | Descendants):
        return [node.left, node.right]
    if isinstance(node, filters.Filter):
        return list(node.expressions)
    if isinstance(node, filters.And | filters.Or):
        return list(node.operands)
    if isinstance(node, filters.Expression):
        return [node.target, *([node.value] if isinstance(node.value, JSONPath) else [])]
    return []


def _walk(tree: Any) -> list[Any]:
    found, pending = [], [tree]
    while pending:
        node = pending.pop()
        found.append(node)
        pending.extend(_children(node))
    return found


def _work(tree: Any) -> int:
    """Return the work for each value that a query may look at; 0 for one that only follows keys and places."""
    nodes = _walk(tree)
    if all(isinstance(node, Child | Root | Fields | Index) and "*" not in _fields(node) for node in nodes):
        return 0
    return _VALUE_WORK * (1 + sum(isinstance(node, filters.Expression | Descendants) for node in nodes))


def _fields(node: Any) -> tuple[str, ...]:
    return node.fields if isinstance(node, Fields) else ()


def _plain_start(tree: Any) -> tuple[str, ...]:
    steps = []
    while isinstance(tree, Child | Descendants):
        steps.append(tree.right if isinstance(tree, Child) else None)
        tree = tree.left
    keys: list[str] = []
    for step in reversed(steps):
        if not isinstance(step, Fields) or len(step.fields) != 1 or step.fields[0] == "*":
            break
        keys.append(step.fields[0])
    return tuple(keys)


def parse_query(text: str) -> Query:
    """Parse a JSONPath query that starts at a name in scope; raise BadLiteral."""
    if len(text) > _QUERY_CHARS:
        raise BadLiteral(f"the query is longer than {_QUERY_CHARS:,} characters")
    bare = _QUOTED.sub(lambda found: "'" + "_" * (len(found[0]) - 2) + "'", text)
    for pattern, message, fix in _REFUSED:
        if pattern.search(bare):
            raise BadLiteral(message, fix)
    if dashed := _DASHED.search(bare):
        raise BadLiteral(f"the key {dashed[0]} has a dash and finds nothing", f"write ['{dashed[0]}']")
    if not _START.match(text):
        raise BadLiteral(
            f"the query must start with a name in scope: {text[:40]!r}", "such as $.event.properties"
        )
    try:
        tree = parse(text)
    except (JSONPathError, RecursionError, ValueError, ArithmeticError) as error:
        raise BadLiteral(f"the query cannot be read: {error}") from None
    return Query(text, _checked(tree))


def _checked(tree: JSONPath) -> JSONPath:
    nodes = _walk(tree)
    for node in nodes:
        if type(node) not in _ALLOWED:
            raise BadLiteral(f"{type(node).__name__.lower()} is not available in a query")
    if sum(isinstance(node, Descendants) for node in nodes) > 1:
        raise BadLiteral("a query may have `..` once", "name the keys on the way")
    if sum(isinstance(node, filters.Filter) for node in nodes) > 3:
        raise BadLiteral("a query may have three filters")
    return tree


@function(query=Prepared(parse_query))
def jsonpath(scope: Any, query: Any) -> Any:
    """List all values that a JSONPath query finds. A key with a dash is written `['my-key']`.

    >>> jsonpath('$.event.properties.items[?(@.price > 20)].sku')
    ["a"]
    """
    found: list[Any] = query.find(scope)
    return found


FUNCTIONS: Final[tuple[Function, ...]] = (jsonpath,)
