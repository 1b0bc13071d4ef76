"""Turning a checked syntax tree into one plain Python function."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.idtracking import VAR_LOAD_ALIAS, VAR_LOAD_PARAMETER

from headrace.engine.language.check import Checker, flat_operands, path_of, split_path
from headrace.engine.language.library import FUNCTIONS
from headrace.engine.language.lookup import LookUps, holds_times, is_time, reader
from headrace.engine.language.outcome import FAILURES, Ending, Root, failed
from headrace.engine.language.registry import Function
from headrace.engine.language.runtime import RUNTIME, Show
from headrace.engine.language.runtime import show as plain_show
from headrace.engine.language.scope import NAMES
from headrace.engine.language.syntax import environment
from headrace.engine.language.values import ARITHMETIC, COMPARISONS

_FUNCTION: Final = """\
def root(scope):
    try:
        {begin}{reads}{body}
        return value if {passes} else finish(value)
    except failures as error:
        raise failed(source, error) from error
"""
_SIGNS: Final = {"eq": "==", "ne": "!=", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">="}


def build(
    tree: nodes.Template, checker: Checker, ending: Ending, *, lone: bool, show: Show = plain_show
) -> Root:
    """Return the function that evaluates a checked tree in a scope and raises NodeError when it cannot.

    It gives the value of the one expression when `lone`, else a text, in which values are written by `show`.
    What the tree reads by path is looked up first, each path once and without a call.
    """
    generator = Generator(checker, lone=lone, has_own_show=show is not plain_show)
    generator.visit(tree)
    body = generator.stream.getvalue()  # type: ignore[attr-defined]
    begin = "scope.spent = scope.rounds = 0" if "(scope, " in body or "scope.spend(" in body else ""
    code = _FUNCTION.format(begin=begin, reads=generator.reads.code, body=body, passes=ending.passes)
    namespace = {
        **RUNTIME,
        **generator.constants,
        **generator.reads.constants,
        "show": show,
        "finish": ending.finish,
    }
    namespace |= {"failures": FAILURES, "failed": failed, "source": checker.text}
    exec(compile(code, "<expression>", "exec"), namespace)  # noqa: S102 - of authors it holds literals only
    root: Root = namespace["root"]
    return root


class Generator(CodeGenerator):
    """Jinja's code generator for statements and the places of names, with our own code for all that has a value."""

    def __init__(self, checker: Checker, *, lone: bool, has_own_show: bool) -> None:
        super().__init__(environment(), None, None, optimized=False)
        self.constants: dict[str, Any] = {}
        self.reads = LookUps()
        self._has_own_show = has_own_show
        self._checker = checker
        self._lone = lone
        self._loops = 0
        self._widths: dict[int, int] = {}
        self._numbers = count(1)

    def _constant(self, kind: str, value: Any) -> str:
        name = f"{kind}_{next(self._numbers)}"
        self.constants[name] = value
        return name

    def _write_call(self, name: str, *arguments: nodes.Node | None, frame: Frame) -> None:
        self.write(f"{name}(")
        self._write_arguments(arguments, frame)
        self.write(")")

    def _write_arguments(self, arguments: Sequence[nodes.Node | None], frame: Frame) -> None:
        for argument in arguments:
            if argument is None:
                self.write("None")
            else:
                self.visit(argument, frame)
            self.write(", ")

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """Write a node; what a loop goes through is counted."""
        width = self._widths.pop(id(node), 0)
        if width:
            self.write(f"rounds(scope, {width}, ")
        super().visit(node, *args, **kwargs)
        if width:
            self.write(")")

    # Statements

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:  # noqa: N802
        """Write the function."""
        frame = Frame(nodes.EvalContext(self.environment))
        frame.symbols.analyze_node(node)
        frame.toplevel = frame.rootlevel = True
        self.indent()
        self.indent()
        self._first_write = False
        self.enter_frame(frame)
        if self._lone:
            self.writeline("value = ")
            output = node.body[0]
            assert isinstance(output, nodes.Output)  # noqa: S101 - for the type checker
            self.visit(output.nodes[0], frame)
        elif all(isinstance(part, nodes.Output) for part in node.body):
            self._write_text([part for output in node.body for part in output.nodes], frame)  # type: ignore[attr-defined]
        else:
            frame.buffer = "out"
            self.writeline("out = []")
            self.blockvisit(node.body, frame)
            self.writeline("value = join(out)")

    def _write_text(self, parts: Sequence[nodes.Node], frame: Frame) -> None:
        """Write a text without statements as one join."""
        self.writeline("value = join((")
        for part in parts:
            if isinstance(part, nodes.TemplateData):
                self.write(repr(part.data))
            else:
                self._write_shown(part, frame)
            self.write(", ")
        self.write("))")

    def _write_shown(self, node: nodes.Node, frame: Frame) -> None:
        """Write a value as text. Outside of loops a short text needs no call and is too little work to be counted."""
        if self._loops or self._has_own_show:
            self.write("show(scope, ")
            self.visit(node, frame)
            self.write(")")
            return
        name = f"part_{next(self._numbers)}"
        self.write(f"{name} if kind({name} := ")
        self.visit(node, frame)
        self.write(f") is Text and size({name}) < 100 else ")
        self.write(f"Text({name}) if kind({name}) is Float else show(scope, {name})")

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:  # noqa: N802
        """Write texts and shown values to the output."""
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                if self._loops:
                    self.writeline(f"scope.spend({len(child.data)})")
                self.writeline(f"out.append({child.data!r})")
            else:
                self.writeline("out.append(")
                self._write_shown(child, frame)
                self.write(")")

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802
        """Write a loop whose rounds are counted."""
        self._widths[id(node.iter)] = len(node.target.items) if isinstance(node.target, nodes.Tuple) else 1
        self._loops += 1
        super().visit_For(node, frame)
        self._loops -= 1

    def enter_frame(self, frame: Frame) -> None:
        """Write what the names of a block start as; names in scope are read where they stand."""
        for target, (how, name) in frame.symbols.loads.items():
            if how == VAR_LOAD_ALIAS:
                self.writeline(f"{target} = {name}")
            elif how != VAR_LOAD_PARAMETER and name not in self._checker.names and name not in FUNCTIONS:
                self.writeline(f"{target} = missing")

    def pull_dependencies(self, nodes: Any) -> None:
        """Write nothing: functions are found by their own names."""

    def push_assign_tracking(self) -> None:
        """Write nothing: what a template sets is local to the function."""

    def pop_assign_tracking(self, frame: Frame) -> None:
        """Write nothing, likewise."""

    # Values

    def visit_Name(self, node: nodes.Name, frame: Frame) -> None:  # noqa: N802
        """Write a name in scope, or a name that the template set."""
        if node.ctx == "load" and node.name in NAMES:
            self.write(f"scope.{node.name}")
        elif node.ctx == "load" and node.name in self._checker.names:
            self.write(f"scope.extra.get({node.name!r}, missing)")
        else:
            self.write(frame.symbols.ref(node.name))

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        """Write a new list."""
        self.write("made(scope, ")
        self._write_call("new_list", *node.items, frame=frame)
        self.write(")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        """Write a new list, or the names that a loop sets."""
        if node.ctx == "store":
            super().visit_Tuple(node, frame)
        else:
            self.visit_List(nodes.List(node.items), frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        """Write a new object."""
        self.write("new_object(")
        for pair in node.items:
            self._write_call("", pair.key, pair.value, frame=frame)
            self.write(", ")
        self.write(")")

    def _write_flat(self, node: nodes.BinExpr, frame: Frame) -> None:
        """Write a chain of `and` or `or` without nesting."""
        word = "and" if isinstance(node, nodes.And) else "or"
        self.write("(")
        for number, operand in enumerate(flat_operands(node)):
            self.write(f" {word} " if number else "")
            self.visit(operand, frame)
        self.write(")")

    visit_And = visit_Or = _write_flat  # noqa: N815

    def visit_Not(self, node: nodes.UnaryExpr, frame: Frame) -> None:  # noqa: N802
        """Write `not`."""
        self.write("(not ")
        self.visit(node.node, frame)
        self.write(")")

    def _write_operator(self, node: nodes.BinExpr, frame: Frame) -> None:
        name = ARITHMETIC[type(node).__name__][0]
        if isinstance(node, nodes.Add):
            self.write("made(scope, ")
        self._write_call(name, node.left, node.right, frame=frame)
        if isinstance(node, nodes.Add):
            self.write(")")

    visit_Add = visit_Sub = visit_Mul = visit_Div = visit_FloorDiv = visit_Mod = _write_operator  # noqa: N815

    def visit_Neg(self, node: nodes.UnaryExpr, frame: Frame) -> None:  # noqa: N802
        """Write a number's opposite."""
        self._write_call("negative", node.node, frame=frame)

    def visit_Pos(self, node: nodes.UnaryExpr, frame: Frame) -> None:  # noqa: N802
        """Write a number as it is."""
        self._write_call("positive", node.node, frame=frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        """Write texts in a row."""
        self.write("made(scope, ")
        self._write_call("concatenate", *node.nodes, frame=frame)
        self.write(")")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802
        """Write comparisons; in a chain, `a < b < c`, what stands in the middle is evaluated once."""
        left: nodes.Expr | str = node.expr
        self.write("(")
        for number, operand in enumerate(node.ops):
            self.write(" and " if number else "")
            again = f"side_{next(self._numbers)}" if number + 1 < len(node.ops) else ""
            self._write_comparison(left, operand, again, frame)
            left = again
        self.write(")")

    def _write_comparison(
        self, left: nodes.Expr | str, operand: nodes.Operand, again: str, frame: Frame
    ) -> None:
        sides = (left, operand.expr)
        none = [isinstance(side, nodes.Const) and side.value is None for side in sides]
        if any(none) and operand.op in ("eq", "ne") and not again:
            self.write("is_absent(" if operand.op == "eq" else "(not is_absent(")
            self._write_side(sides[0] if none[1] else sides[1], "", frame)
            self.write(")" if operand.op == "eq" else "))")
            return
        if operand.op in _SIGNS and not again and self._write_sign(sides, _SIGNS[operand.op], frame):
            return
        self.write(f"{COMPARISONS[operand.op][0]}(scope, ")
        self._write_side(left, "", frame)
        self.write(", ")
        self._write_side(operand.expr, again, frame)
        self.write(")")

    def _write_sign(self, sides: tuple[nodes.Expr | str, nodes.Expr], sign: str, frame: Frame) -> bool:
        """Write a comparison with a literal number or text without a call; says whether there is one."""
        literal = [type(side.value) if isinstance(side, nodes.Const) else None for side in sides]
        kind = literal[0] or literal[1]
        if kind not in (int, float, str) or all(literal):
            return False
        name = f"side_{next(self._numbers)}"
        self.write(f"(kind({name} := ")
        self._write_side(sides[0 if literal[1] else 1], "", frame)
        self.write(") is Text and " if kind is str else ") in numbers and ")
        shown = [repr(side.value) if isinstance(side, nodes.Const) else name for side in sides]
        self.write(f"{shown[0]} {sign} {shown[1]})")
        return True

    def _write_side(self, side: nodes.Expr | str, name: str, frame: Frame) -> None:
        if isinstance(side, str):
            self.write(side)
            return
        self.write(f"({name} := " if name else "")
        self.visit(side, frame)
        self.write(")" if name else "")

    def _write_lookup(self, node: nodes.Expr, frame: Frame) -> None:
        start, keys = split_path(node)
        if isinstance(start, nodes.Name) and start.name == "loop":
            self.write(f"{frame.symbols.ref('loop')}.{keys[0]}")
            return
        path = path_of(node)
        self.write("as_time(" if is_time(path) else "")
        if path:
            self.write(self.reads.name_of(path))
        elif keys:
            self._write_call(self._constant("read", reader(keys)), start, frame=frame)
        else:
            assert isinstance(start, nodes.Getitem)  # noqa: S101 - what else has no key
            self._write_item(start, frame)
        self.write(")" if is_time(path) else "")

    def _write_item(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self.write("made(scope, ")
            self._write_call("part", node.node, node.arg.start, node.arg.stop, node.arg.step, frame=frame)
            self.write(")")
            return
        times = holds_times(path_of(node.node))
        self.write("as_time(" if times else "")
        self._write_call("get_item", node.node, node.arg, frame=frame)
        self.write(")" if times else "")

    visit_Getattr = visit_Getitem = _write_lookup  # noqa: N815

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:  # noqa: N802, ARG002
        """Write a call of one of our functions."""
        assert isinstance(node.node, nodes.Name)  # noqa: S101 - the checker saw to it
        self._write_function(FUNCTIONS[node.node.name], node.args, node.kwargs, frame)

    def visit_Filter(self, node: nodes.Filter, frame: Frame) -> None:  # noqa: N802
        """Write `value | name(…)` as the call `name(value, …)`."""
        assert node.node is not None  # noqa: S101 - the checker saw to it
        self._write_function(FUNCTIONS[node.name], [node.node, *node.args], node.kwargs, frame)

    def _write_function(
        self,
        function: Function,
        arguments: Sequence[nodes.Expr],
        keywords: Sequence[nodes.Pair | nodes.Keyword],
        frame: Frame,
    ) -> None:
        name = f"call_{function.name}"
        if self._loops:
            opened, closed = f"counted(scope, {name}, ", ")"
        elif function.makes_data:
            opened, closed = f"made(scope, {name}(", "))"
        else:
            opened, closed = f"{name}(", ")"
        self.write(opened + ("scope, " if function.takes_scope else ""))
        for argument in arguments:
            self._write_argument(argument, frame)
        for keyword in keywords:
            self.write(f"{keyword.key}=")
            self._write_argument(keyword.value, frame)
        self.write(closed)

    def _write_argument(self, argument: nodes.Expr, frame: Frame) -> None:
        prepared: Mapping[int, Any] = self._checker.prepared
        if id(argument) in prepared:
            self.write(self._constant("literal", prepared[id(argument)]))
        else:
            self.visit(argument, frame)
        self.write(", ")

    def visit_Test(self, node: nodes.Test, frame: Frame) -> None:  # noqa: N802
        """Write `value is test`."""
        # Of the tests only `in` may be much work.
        name = "within(scope, " if node.name == "in" else f"test_{node.name}("
        self.write(name)
        self._write_arguments((node.node, *node.args), frame)
        self.write(")")

    def visit_CondExpr(self, node: nodes.CondExpr, frame: Frame) -> None:  # noqa: N802
        """Write `a if b else c`; without an else it is missing."""
        self.write("(")
        self.visit(node.expr1, frame)
        self.write(" if ")
        self.visit(node.test, frame)
        self.write(" else ")
        if node.expr2 is None:
            self.write("missing")
        else:
            self.visit(node.expr2, frame)
        self.write(")")
