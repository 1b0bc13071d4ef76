"""Jinja's grammar with the exact place of everything in the text."""

from collections.abc import Iterator
from functools import cache
from typing import Any, NoReturn

from jinja2 import TemplateSyntaxError, nodes
from jinja2.lexer import TokenStream
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from headrace.engine.errors import ExpressionError
from headrace.engine.language.limits import EXPRESSION_CHARS, TEMPLATE_CHARS
from headrace.engine.language.lookup import get_item

Token = tuple[int, str, str]


def place(text: str, offset: int) -> tuple[int, int]:
    """Return the line and column, both from 1, of an offset in a text."""
    offset = max(0, min(offset, len(text)))
    return text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1


def refuse(text: str, offset: int, message: str, fix: str = "") -> NoReturn:
    """Raise an ExpressionError about a place in a text."""
    line, column = place(text, offset)
    raise ExpressionError(message, line=line, column=column, fix=fix)


class DataEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, reduced to its grammar.

    Tokens carry their offset where Jinja keeps the line, so that every node of the syntax tree knows its exact place.
    The sandbox stays underneath as a second fence: data are looked up by key only, and nothing of Jinja's own can be
    called. What runs is made by `language.code`, which knows only the functions that are listed.
    """

    def __init__(self) -> None:
        super().__init__(optimized=False, autoescape=False, keep_trailing_newline=True, cache_size=0)
        self.globals.clear()
        self.filters.clear()
        self.tests.clear()

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Look a member up by key only."""
        return get_item(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look a member up by key only."""
        return get_item(obj, argument)

    def is_safe_callable(self, obj: Any) -> bool:  # noqa: ARG002
        """Nothing that is looked up may be called."""
        return False

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        tokens = self.placed_tokens(source, name, filename, state)
        return TokenStream(self.lexer.wrap(tokens, name, filename), name, filename)

    def placed_tokens(
        self, source: str, name: str | None, filename: str | None, state: str | None
    ) -> Iterator[Token]:
        """Yield the tokens of a text, each with its offset."""
        offset = 0
        try:
            for _, kind, value in self.lexer.tokeniter(source, name, filename, state):
                # Only spaces that `-` takes away can stand between the end of one token and the next.
                offset = max(offset, source.find(value, offset))
                yield offset, kind, value
                offset += len(value)
        except TemplateSyntaxError as error:
            while offset < len(source) and source[offset].isspace():
                offset += 1
            raise TemplateSyntaxError(error.message or "", offset) from error


@cache
def environment() -> DataEnvironment:
    """Return the one environment; it holds no state of what is parsed."""
    return DataEnvironment()


def word_offsets(text: str) -> Iterator[tuple[str, int]]:
    """Yield the words of an expression that stand in no brackets, with their offsets. The expression must be good."""
    depth = 0
    for offset, kind, value in environment().placed_tokens(text, None, None, "variable"):
        if kind == "operator":
            depth += (value in "([{") - (value in ")]}")
        elif kind == "name" and not depth:
            yield value, offset


def parse_expression(text: str) -> nodes.Expr:
    """Return the syntax tree of an expression; `lineno` of a node is its offset in the text.

    Raises ExpressionError.
    """
    if len(text) > EXPRESSION_CHARS:
        refuse(text, EXPRESSION_CHARS, f"the expression is longer than {EXPRESSION_CHARS:,} characters")
    if not text.strip():
        refuse(text, 0, "the expression is empty", "write a condition, such as event.properties.total > 100")
    if text.lstrip().startswith(("{{", "{%")):
        refuse(text, 0, "an expression is not a template", "leave {{ and }} out")
    _check_newlines(text)
    parser = None
    try:
        parser = Parser(environment(), text, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            token = parser.stream.current
            refuse(
                text,
                token.lineno,
                f"the expression should end before {token.value!r}",
                _hint(text, token.lineno),
            )
    except _BROKEN as error:
        _explain(text, parser, error)
    return tree


def parse_template(text: str) -> nodes.Template:
    """Return the syntax tree of a template; `lineno` of a node is its offset in the text.

    Raises ExpressionError.
    """
    if len(text) > TEMPLATE_CHARS:
        refuse(text, TEMPLATE_CHARS, f"the template is longer than {TEMPLATE_CHARS:,} characters")
    _check_newlines(text)
    parser = None
    try:
        parser = Parser(environment(), text)
        return parser.parse()
    except _BROKEN as error:
        _explain(text, parser, error)


_BROKEN = (TemplateSyntaxError, RecursionError, ValueError, OverflowError, AssertionError)


def _check_newlines(text: str) -> None:
    # Jinja turns other line ends into \n, which would shift all places and change what the author wrote.
    offset = text.find("\r")
    if offset >= 0:
        refuse(text, offset, "a carriage return stands in the text", r"write line ends as \n")


def _explain(text: str, parser: Parser | None, error: Exception) -> NoReturn:
    offset = parser.stream.current.lineno if parser else 0
    if isinstance(error, RecursionError):
        refuse(text, offset, "it nests too deeply", "split it into several expressions")
    if not isinstance(error, TemplateSyntaxError):
        refuse(text, offset, f"it cannot be read: {error}")
    if parser is None or error.lineno != parser.stream.current.lineno or not parser.stream.eos:
        offset = error.lineno
    else:
        offset = len(text)
    message = (error.message or "it cannot be read").rstrip(".").replace("end of template", "end of the text")
    refuse(text, offset, message, _hint(text, offset))


_SIGNS = {
    "&": "write `and`",
    "|": "write `or` for conditions, `| name` for a filter",
    "?": "write `a if condition else b`",
    "=": "write `==` to compare",
    "!": "write `not`",
}


def _hint(text: str, offset: int) -> str:
    return _SIGNS.get(text[offset : offset + 1], "")
