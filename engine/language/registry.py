"""How a function of the expression language is declared and documented."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class BadLiteral(ValueError):  # noqa: N818 - it is about the literal, and says so at the place
    """A literal argument that cannot be used: the reason, and what would be right."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


class Prepared(NamedTuple):
    """How a literal text argument is turned into what the function works with, once, when the file is loaded.

    `make` raises BadLiteral. When `only` is true the argument must be a literal text.
    """

    make: Callable[[str], Any]
    only: bool = True


@dataclass(frozen=True)
class Function:
    """One function: `f(x, a)`, also written `x | f(a)` when it takes a value first."""

    name: str
    call: Callable[..., Any]
    signature: str
    summary: str
    example: str
    result: str
    parameters: inspect.Signature
    takes_scope: bool = False
    is_filter: bool = True
    makes_data: bool = True
    prepared: Mapping[str, Prepared] = field(default_factory=dict)


def function(**prepared: Prepared) -> Callable[[Callable[..., Any]], Function]:
    """Declare a function of the language.

    Its docstring is a sentence, an example after `>>>` and the example's result as JSON. A first parameter called
    `scope` gets the Scope and is not the author's. A name may end in `_` where Python has the word for itself.
    """

    def declare(call: Callable[..., Any]) -> Function:
        name = call.__name__.rstrip("_")
        summary, example, result = _read_docstring(call)
        parameters = list(inspect.signature(call).parameters.values())
        takes_scope = parameters[0].name == "scope"
        own = [each.replace(annotation=each.empty) for each in parameters[takes_scope:]]
        shown = inspect.Signature(own)
        return Function(
            name,
            call,
            signature=f"{name}{shown}",
            summary=summary,
            example=example,
            result=result,
            parameters=shown,
            takes_scope=takes_scope,
            is_filter=own[0].name not in prepared,
            makes_data=inspect.signature(call).return_annotation is not bool,
            prepared=prepared,
        )

    return declare


def _read_docstring(call: Callable[..., Any]) -> tuple[str, str, str]:
    text, _, rest = inspect.cleandoc(call.__doc__ or "").partition(">>> ")
    example, _, result = rest.partition("\n")
    return " ".join(text.split()), example.strip(), result.strip()
