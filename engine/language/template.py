"""Templates: texts with values in them, compiled once."""

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import quote, unquote

from jinja2 import nodes

from headrace.engine.language.check import Checker
from headrace.engine.language.code import build
from headrace.engine.language.limits import EvaluationError
from headrace.engine.language.outcome import FAILURES, Check, Root, failed, json_ending, text_ending
from headrace.engine.language.runtime import Show, show
from headrace.engine.language.scope import Scope
from headrace.engine.language.syntax import parse_template, place, refuse
from headrace.engine.language.values import to_text

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_URL_TEXT = re.compile(r"[\x00-\x20\x7f\\]")
_FIXED_URL = re.compile(r"https?://[^\s/?#@\\{}]+(?=[/?#]|$)", re.IGNORECASE)
_BREAKS = re.compile(r"[\r\n\0]")


class Template:
    """A compiled template.

    `text` is what the author wrote; `is_literal`: nothing in it is Jinja, it renders as itself; `is_lone`: it is one
    lone `{{ … }}`, which gives the value with its type. `reads` are the paths that it reads and `places` the line and
    column of the first use of each.

    `render` takes a scope and gives the value of a lone `{{ … }}` as JSON (missing is null, a time its ISO 8601
    text), else the text; `render_text` gives the text, also of a lone one. Both raise NodeError.
    """

    __slots__ = ("is_literal", "is_lone", "places", "reads", "render", "render_text", "text")

    def __init__(self, text: str, root: Root | None, checker: Checker, *, is_lone: bool = False) -> None:
        self.text = text
        self.is_literal = root is None
        self.is_lone = is_lone
        self.places = {path: place(text, offset) for path, offset in checker.reads.items()}
        self.reads = frozenset(self.places)
        self.render: Root = root or (lambda _: text)
        self.render_text: Root = _as_text(text, self.render) if is_lone else self.render

    def __repr__(self) -> str:
        return f"Template({self.text!r})"


def compile_template(text: str, *, extra_names: Collection[str] = ()) -> Template:
    """Compile a template. Raises ExpressionError with line, column and, where there is one, the fix."""
    checker = Checker(text, extra_names)
    if "{" not in text:
        return Template(text, None, checker)
    tree = parse_template(text)
    if _literal_text(tree) == text:
        return Template(text, None, checker)
    checker.check_template(tree)
    lone = _lone_expression(tree)
    if lone is None:
        return Template(text, build(tree, checker, text_ending(), lone=False), checker)
    return Template(text, build(tree, checker, json_ending(lone), lone=True), checker, is_lone=True)


def _as_text(source: str, render: Root) -> Root:
    """Return the function that gives the text of what a lone `{{ … }}` gives."""
    finish = text_ending().finish

    def render_text(scope: Scope) -> str:
        value = render(scope)
        try:
            text: str = finish(to_text(value))
        except FAILURES as error:
            raise failed(source, error) from error
        return text

    return render_text


def compile_url_template(text: str, *, extra_names: Collection[str] = ()) -> Template:
    """Compile a template of an http(s) URL; it renders as text.

    Scheme, host and port must be written out before the first `{{`. Each value is percent-encoded as one part of a
    path or query. Rendering raises NodeError when a path segment would be `.` or `..`, or for control characters.
    """
    tree = parse_template(text)
    fixed = _start_of(tree)
    found = _FIXED_URL.match(fixed)
    if found is None or (found.end() == len(fixed) and _literal_text(tree) is None):
        refuse(text, len(fixed) if found else 0, *_NO_HOST)
    for part in tree.find_all(nodes.TemplateData):
        if bad := _NO_URL_TEXT.search(part.data):
            offset = part.lineno + bad.start()
            refuse(text, offset, f"{bad[0]!r} cannot stand in a URL", "write %20 for a space")
    return _compile_checked(text, tree, extra_names, show=_show_in_url, check=_url_problem)


def compile_header_template(text: str, *, extra_names: Collection[str] = ()) -> Template:
    """Compile a template of a header or mail subject; it renders as text.

    Rendering raises NodeError when CR, LF or NUL would stand in it.
    """
    if bad := _BREAKS.search(text):
        refuse(text, bad.start(), f"{bad[0]!r} cannot stand in a header", "leave it out")
    return _compile_checked(text, parse_template(text), extra_names, show=show, check=_header_problem)


_NO_HOST = (
    "scheme, host and port of a URL must be written out",
    "write https://host.example/ and use values after it",
)


def _compile_checked(
    text: str, tree: nodes.Template, extra_names: Collection[str], *, show: Show, check: Check
) -> Template:
    checker = Checker(text, extra_names)
    checker.check_template(tree)
    if _literal_text(tree) == text:
        if reason := check(text):
            refuse(text, 0, reason)
        return Template(text, None, checker)
    return Template(text, build(tree, checker, text_ending(check), lone=False, show=show), checker)


def _literal_text(tree: nodes.Template) -> str | None:
    parts = [
        part for node in tree.body for part in (node.nodes if isinstance(node, nodes.Output) else [node])
    ]
    if all(isinstance(part, nodes.TemplateData) for part in parts):
        return "".join(part.data for part in parts if isinstance(part, nodes.TemplateData))
    return None


def _start_of(tree: nodes.Template) -> str:
    start = ""
    for node in tree.body:
        for part in node.nodes if isinstance(node, nodes.Output) else [node]:
            if not isinstance(part, nodes.TemplateData):
                return start
            start += part.data
    return start


def _lone_expression(tree: nodes.Template) -> nodes.Expr | None:
    if len(tree.body) == 1 and isinstance(tree.body[0], nodes.Output) and len(tree.body[0].nodes) == 1:
        return tree.body[0].nodes[0]
    return None


def _show_in_url(scope: Scope, value: Any) -> str:
    text = to_text(value)
    if _CONTROL.search(text):
        raise EvaluationError("a control character cannot stand in a URL")
    scope.spend(3 * len(text))
    return quote(text, safe="")


def _url_problem(url: str) -> str:
    path = re.split(r"[?#]", url, maxsplit=1)[0]
    if any(unquote(segment) in (".", "..") for segment in path.split("/")[3:]):
        return "a path segment `.` or `..` cannot stand in a URL"
    return ""


def _header_problem(text: str) -> str:
    bad = _BREAKS.search(text)
    return f"{bad[0]!r} cannot stand in a header" if bad else ""
