"""Turning a checked syntax tree into one plain Python function."""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.idtracking import VAR_LOAD_ALIAS, VAR_LOAD_PARAMETER

from headrace.engine.language.check import Checker, flat_operands, path_of, split_path
from headrace.engine.language.library import FUNCTIONS
from headrace.engine.language.lookup import holds_times, is_time, reader
from headrace.engine.language.registry import Function
from headrace.engine.language.runtime import RUNTIME, Show, show
from headrace.engine.language.scope import NAMES, Scope
from headrace.engine.language.syntax import environment
from headrace.engine.language.values import ARITHMETIC, COMPARISONS

Root = Callable[[Scope], Any]


def build(tree: nodes.Template, checker: Checker, *, lone: bool, show: Show = show) -> Root:
    """Return the function that evaluates a checked tree in a scope.

    It gives the value of the one expression when `lone`, else a text, in which values are written by `show`.
    """
    generator = Generator(checker, lone=lone)
    generator.visit(tree)
    namespace = {**RUNTIME, **generator.constants, "show": show}
    code = compile(generator.stream.getvalue(), "<expression>", "exec")  # type: ignore[attr-defined]
    exec(code, namespace)  # noqa: S102 - made from the checked tree; texts of authors stand in it as literals only
    root: Root = namespace["root"]
    return root


class Generator(CodeGenerator):
    """Jinja's code generator for statements and the places of names, with our own code for all that has a value."""

    def __init__(self, checker: Checker, *, lone: bool) -> None:
        super().__init__(environment(), None, None, optimized=False)
        self.constants: dict[str, Any] = {}
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
        self.writeline("def root(scope):")
        self.indent()
        self.writeline("scope.spent = scope.rounds = 0")
        self.enter_frame(frame)
        if self._lone:
            self.writeline("return ")
            output = node.body[0]
            assert isinstance(output, nodes.Output)  # noqa: S101 - for the type checker
            self.visit(output.nodes[0], frame)
        else:
            frame.buffer = "out"
            self.writeline("out = []")
            self.blockvisit(node.body, frame)
            self.writeline("return join(out)")
        self.outdent()

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:  # noqa: N802
        """Write texts and shown values to the output."""
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                if self._loops:
                    self.writeline(f"scope.spend({len(child.data)})")
                self.writeline(f"out.append({child.data!r})")
            else:
                self.writeline("out.append(show(scope, ")
                self.visit(child, frame)
                self.write("))")

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
            self.write("made(scope, ")
            self._write_call("new_list", *node.items, frame=frame)
            self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        """Write a new object."""
        self.write("new_object(")
        for pair in node.items:
            self._write_call("", pair.key, pair.value, frame=frame)
            self.write(", ")
        self.write(")")

    def _write_flat(self, node: nodes.Expr, word: str, frame: Frame) -> None:
        self.write("(")
        for number, operand in enumerate(flat_operands(node)):
            self.write(f" {word} " if number else "")
            self.visit(operand, frame)
        self.write(")")

    def visit_And(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802
        """Write a chain of `and` without nesting."""
        self._write_flat(node, "and", frame)

    def visit_Or(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802
        """Write a chain of `or` without nesting."""
        self._write_flat(node, "or", frame)

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
        self.write(f"{COMPARISONS[operand.op][0]}(scope, ")
        self._write_side(left, "", frame)
        self.write(", ")
        self._write_side(operand.expr, again, frame)
        self.write(")")

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
        if keys:
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
