"""Checks a syntax tree: only what is known and allowed passes."""

import itertools
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Any, Final, NoReturn

from jinja2 import nodes

from headrace.engine.language.library import FILTERS, FUNCTIONS, OTHER_NAMES
from headrace.engine.language.limits import DEPTH, LOOP_DEPTH, LOOP_NAMES
from headrace.engine.language.lookup import is_time
from headrace.engine.language.queries import Query
from headrace.engine.language.registry import BadLiteral, Function
from headrace.engine.language.scope import NAMES
from headrace.engine.language.syntax import refuse
from headrace.engine.language.values import TESTS

LOOP_MEMBERS: Final = ("index", "index0", "first", "last", "length", "revindex", "revindex0")
EVENTS: Final = "events"
"""The function that counts past events, which `past` takes out of conditions that may have it."""
_TIME_CALLS: Final = ("time", "ago", "ahead")
_MEMBERS_OF_NOW: Final = "write day(now), hour(now), weekday(now) or format_time(now, '%Y')"
_FLAT: Final = (nodes.And, nodes.Or)
_BINARY: Final = (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod)
Path = tuple[str, ...]


def split_path(node: nodes.Node) -> tuple[nodes.Node, Path]:
    """Return where a chain of look-ups by literal keys starts, and its keys."""
    keys: list[str] = []
    while True:
        if isinstance(node, nodes.Getattr):
            keys.append(node.attr)
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            if not isinstance(node.arg.value, str):
                break
            keys.append(node.arg.value)
        else:
            break
        node = node.node
    return node, tuple(reversed(keys))


def path_of(node: nodes.Node) -> Path:
    """Return the path that a node reads, with its root first; empty when it is not a plain path."""
    start, keys = split_path(node)
    return (start.name, *keys) if isinstance(start, nodes.Name) and start.name in NAMES else ()


def flat_operands(node: nodes.Expr) -> list[nodes.Expr]:
    """Return the operands of a chain of one kind of `and` or `or`."""
    kind = type(node)
    operands: list[nodes.Expr] = []
    while type(node) is kind:
        assert isinstance(node, nodes.BinExpr)  # noqa: S101 - for the type checker
        operands.append(node.right)
        node = node.left
    operands.append(node)
    return operands[::-1]


def _offset(node: nodes.Node) -> int:
    """Return a node's place; Jinja gives none to a few that only hold others."""
    first = next(node.iter_child_nodes(), None)
    if first is not None and (isinstance(node, nodes.Tuple) or node.lineno is None):
        return _offset(first)
    return node.lineno or 0


class Checker:
    """Checks one tree; afterwards holds what it reads and the literal arguments that were prepared.

    Raises ExpressionError at the first thing that is unknown or not allowed.
    """

    def __init__(self, text: str, extra_names: Collection[str] = ()) -> None:
        self.text = text
        self.names = frozenset((*NAMES, *extra_names))
        self.reads: dict[Path, int] = {}
        self.prepared: dict[int, Any] = {}
        self.asks_now = False
        self._loops = 0

    def refuse(self, node: nodes.Node, message: str, fix: str = "") -> NoReturn:
        """Raise an ExpressionError about a node."""
        refuse(self.text, _offset(node), message, fix)

    def _unknown(self, node: nodes.Node, kind: str, name: str, known: Collection[str]) -> NoReturn:
        other = OTHER_NAMES.get(name)
        close = [other] if other in known else get_close_matches(name, known, 1)
        fix = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known)[:60])}"
        refuse(self.text, self._offset_of_name(node, name), f"no {kind} {name!r}", fix)

    def _offset_of_name(self, node: nodes.Node, name: str) -> int:
        # Tests are placed at the word `is`, members at their dot; the name comes after it.
        return max(_offset(node), self.text.find(name, _offset(node)))

    def check_template(self, tree: nodes.Template) -> None:
        """Check a template."""
        self._block(tree.body, set(self.names), 0)

    def _block(self, body: Sequence[nodes.Node], known: set[str], depth: int) -> None:
        for node in body:
            if depth > DEPTH:
                self.refuse(node, f"blocks nest more than {DEPTH} deep")
            if isinstance(node, nodes.Output):
                for child in node.nodes:
                    if not isinstance(child, nodes.TemplateData):
                        self.check(child, known)
            elif isinstance(node, nodes.If):
                self._if(node, known, depth)
            elif isinstance(node, nodes.For):
                self._for(node, known, depth)
            elif isinstance(node, nodes.Assign):
                self.check(node.node, known)
                known.add(self._target(node.target))
            elif isinstance(node, nodes.With):
                for value in node.values:
                    self.check(value, known)
                names = {self._target(target) for target in node.targets}
                self._block(node.body, known | names, depth + 1)
            else:
                word = type(node).__name__.lower()
                self.refuse(node, f"{word!r} is not available", "templates have if, for, set and with")

    def _target(self, node: nodes.Node) -> str:
        if not isinstance(node, nodes.Name):
            self.refuse(node, "only a name of its own can be set", "write {% set name = value %}")
        if node.name in self.names or node.name in FUNCTIONS or node.name == "loop":
            self.refuse(node, f"{node.name!r} is in scope and cannot be set", "take another name")
        return node.name

    def _if(self, node: nodes.If, known: set[str], depth: int) -> None:
        seen = set(known)
        for branch in (node, *node.elif_):
            self.check(branch.test, known)
            inner = set(known)
            self._block(branch.body, inner, depth + 1)
            seen |= inner
        self._block(node.else_, inner := set(known), depth + 1)
        known |= seen | inner

    def _for(self, node: nodes.For, known: set[str], depth: int) -> None:
        if node.recursive:
            self.refuse(node, "a recursive loop is not available")
        self._loops += 1
        if self._loops > LOOP_DEPTH:
            self.refuse(node, f"loops nest more than {LOOP_DEPTH} deep")
        self.check(node.iter, known)
        targets = node.target.items if isinstance(node.target, nodes.Tuple) else [node.target]
        if len(targets) > LOOP_NAMES:
            self.refuse(node, f"a loop sets at most {LOOP_NAMES} names")
        inner = known | {self._target(target) for target in targets} | {"loop"}
        if node.test is not None:
            self.check(node.test, inner - {"loop"})
        self._block(node.body, inner, depth + 1)
        self._loops -= 1
        self._block(node.else_, set(known), depth + 1)

    def check(self, node: nodes.Node, known: Collection[str], depth: int = 0) -> None:
        """Check an expression, of which these names are known."""
        if depth > DEPTH:
            self.refuse(node, f"it nests more than {DEPTH} deep", "split it into several expressions")
        if isinstance(node, nodes.Getattr | nodes.Getitem):
            self._lookup(node, known, depth)
        elif isinstance(node, nodes.Name):
            self._name(node, known)
        elif isinstance(node, nodes.Const):
            self._const(node)
        elif isinstance(node, nodes.Call | nodes.Filter):
            self._call(node, known, depth)
        elif isinstance(node, nodes.Test):
            self._test(node, known, depth)
        else:
            self._composed(node, known, depth)

    def _composed(self, node: nodes.Node, known: Collection[str], depth: int) -> None:
        children: list[nodes.Node]
        if isinstance(node, _FLAT):
            children = list(flat_operands(node))
        elif isinstance(node, _BINARY):
            self._repetition(node)
            children = [node.left, node.right]
        elif isinstance(node, nodes.Compare):
            self._time_against_text(node)
            children = [node.expr, *(operand.expr for operand in node.ops)]
        elif isinstance(node, nodes.List | nodes.Tuple):
            children = list(node.items)
        elif isinstance(node, nodes.Dict):
            children = [part for pair in node.items for part in (pair.key, pair.value)]
        elif isinstance(node, nodes.Concat | nodes.Not | nodes.Neg | nodes.Pos | nodes.CondExpr):
            children = list(node.iter_child_nodes())
        elif isinstance(node, nodes.Pow):
            self.refuse(node, "`**` is not available", "multiply instead")
        else:
            self.refuse(node, f"{type(node).__name__.lower()!r} is not available")
        for child in children:
            self.check(child, known, depth + 1)

    def _lookup(self, node: nodes.Expr, known: Collection[str], depth: int) -> None:
        start, keys = split_path(node)
        if isinstance(start, nodes.Getitem):
            for part in start.arg.iter_child_nodes() if isinstance(start.arg, nodes.Slice) else [start.arg]:
                self.check(part, known, depth + 1)
            self.check(start.node, known, depth + 1)
            return
        if isinstance(start, nodes.Name) and start.name == "loop" and "loop" in known:
            if len(keys) != 1 or keys[0] not in LOOP_MEMBERS:
                self._unknown(start, "member of loop", keys[0], LOOP_MEMBERS)
            return
        if isinstance(start, nodes.Name) and start.name == "now":
            self.refuse(start, "a time has no members", _MEMBERS_OF_NOW)
        self.check(start, known, depth + 1)
        if isinstance(start, nodes.Name) and start.name in NAMES:
            self.reads.pop((start.name,), None) if self.reads.get((start.name,)) == start.lineno else None
            self.reads.setdefault((start.name, *keys), start.lineno)

    def _name(self, node: nodes.Name, known: Collection[str]) -> None:
        if node.name == "loop" and "loop" in known:
            self.refuse(node, "loop itself is not a value", f"it has {', '.join(LOOP_MEMBERS)}")
        if node.name not in known:
            if node.name in FUNCTIONS:
                signature = FUNCTIONS[node.name].signature
                self.refuse(node, f"{node.name!r} is a function", f"call it: {signature}")
            self._unknown(node, "name", node.name, known)
        if node.name in NAMES:
            self.reads.setdefault((node.name,), node.lineno)

    def _const(self, node: nodes.Const) -> None:
        value = node.value
        if (isinstance(value, int) and value >= 2**63) or value == float("inf"):
            self.refuse(node, "the number is too large", "numbers go up to 9,223,372,036,854,775,807")

    def _repetition(self, node: nodes.BinExpr) -> None:
        for operand in (node.left, node.right):
            literal = isinstance(operand, nodes.Const) and isinstance(operand.value, str)
            if isinstance(node, nodes.Mul) and (literal or isinstance(operand, nodes.List)):
                self.refuse(node, "a text or list cannot be repeated with `*`")
            if isinstance(node, nodes.Mod) and literal:
                self.refuse(node, "`%` does not format texts", "join texts with `~`")

    def _is_time(self, node: nodes.Node) -> bool:
        if isinstance(node, nodes.Call):
            return isinstance(node.node, nodes.Name) and node.node.name in _TIME_CALLS
        path = path_of(node)
        return path == ("now",) or is_time(path)

    def _time_against_text(self, node: nodes.Compare) -> None:
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        for left, right in itertools.pairwise(sides):
            for moment, other in ((left, right), (right, left)):
                if self._is_time(moment) and isinstance(other, nodes.Const) and other.value is not None:
                    fix = (
                        f"write time({other.value!r})" if isinstance(other.value, str) else "write time('…')"
                    )
                    self.refuse(other, "a time is compared with what is not a time", fix)

    def _test(self, node: nodes.Test, known: Collection[str], depth: int) -> None:
        if node.name not in TESTS:
            self._unknown(node, "test", node.name, TESTS)
        self.check(node.node, known, depth + 1)
        if len(node.args) != (1 if node.name == "in" else 0) or node.kwargs or node.dyn_args:
            takes = "one argument" if node.name == "in" else "nothing"
            offset = self._offset_of_name(node, node.name)
            refuse(self.text, offset, f"the test {node.name!r} takes {takes}")
        for argument in node.args:
            self.check(argument, known, depth + 1)

    def _called(self, node: nodes.Call | nodes.Filter) -> Function:
        if isinstance(node, nodes.Filter):
            if node.name not in FILTERS:
                self._unknown(node, "filter", node.name, FILTERS)
            return FILTERS[node.name]
        if isinstance(node.node, nodes.Getattr):
            method = node.node.attr
            fix = f"write {method}(…) or | {method}" if method in FUNCTIONS else "leave the parentheses out"
            self.refuse(node, "a member of the data cannot be called", fix)
        if not isinstance(node.node, nodes.Name):
            self.refuse(node, "only functions can be called")
        if node.node.name == EVENTS:
            fix = "make a segment of it, and ask whether its name is in profile.segments"
            self.refuse(node, "events(…) is only for the conditions of segments.json", fix)
        if node.node.name not in FUNCTIONS:
            self._unknown(node.node, "function", node.node.name, FUNCTIONS)
        return FUNCTIONS[node.node.name]

    def _call(self, node: nodes.Call | nodes.Filter, known: Collection[str], depth: int) -> None:
        function = self._called(node)
        self.asks_now = self.asks_now or (function.takes_scope and not function.prepared.keys() & {"query"})
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            self.refuse(node, "`*` and `**` are not available in a call")
        arguments: list[nodes.Node] = [*node.args]
        if isinstance(node, nodes.Filter):
            if node.node is None:
                self.refuse(node, "a filter block is not available")
            arguments.insert(0, node.node)
        keywords = {str(each.key): each.value for each in node.kwargs}
        try:
            bound = function.parameters.bind(*arguments, **keywords)
        except TypeError as error:
            self.refuse(node, f"{function.name}: {error}", f"it is {function.signature}")
        for name, make in function.prepared.items():
            if name in bound.arguments:
                self._prepare(function, name, bound.arguments[name], make.only)
        for argument in (*arguments, *keywords.values()):
            if id(argument) not in self.prepared:
                self.check(argument, known, depth + 1)

    def _prepare(self, function: Function, name: str, argument: nodes.Node, only: bool) -> None:
        if not isinstance(argument, nodes.Const) or not isinstance(argument.value, str):
            if only:
                self.refuse(
                    argument, f"{function.name}: {name} must be a text in quotes, known when it is loaded"
                )
            return
        try:
            made = function.prepared[name].make(argument.value)
        except BadLiteral as error:
            self.refuse(argument, f"{function.name}: {error}", error.fix)
        self.prepared[id(argument)] = made
        if isinstance(made, Query):
            self.reads.setdefault(made.reads, argument.lineno)
