"""Every error that Headrace raises on purpose, as one tree.

HeadraceError
├── InputError          what a client sent cannot be taken (status, code, places)
├── NodeError           a node failed; its journal is dropped, the run goes on by port `error`
│   └── CallError       an outgoing call that brought no answer
│       └── UnsetSecretError  it names a secret that is not set
├── ExpressionError     an expression or template that does not compile
├── PathError           a path that does not compile, or an operation that cannot be applied
├── WorkspaceError      a workspace that cannot be read at all
├── StoreError          the store cannot take it now (503)
│   ├── StoreRefused    the store cannot be opened; says what to do
│   └── TooLargeError   a change that the store will never take, because of its size (413)
└── BusyError           too many wait, or the deadline passed (503)
"""

from collections.abc import Sequence
from typing import NamedTuple


class HeadraceError(Exception):
    """The root: catching it catches whatever Headrace raises on purpose."""


class FieldError(NamedTuple):
    """One bad field of a request: a JSON pointer into the body and a sentence."""

    pointer: str
    message: str


class InputError(HeadraceError):
    """A request that cannot be taken: an HTTP status, a code word, a sentence and the bad fields.

    `retry_after_seconds` is there when the same request may be taken later (429).
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        fields: Sequence[FieldError] = (),
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.fields = tuple(fields)
        self.retry_after_seconds = retry_after_seconds


class NodeError(HeadraceError):
    """A plugin's way to fail its node; the text is what the author of the workflow reads."""


class CallError(NodeError):
    """An outgoing call that brought no answer, or was not made; never a secret in its text.

    `retryable`: the same call may succeed later.
    """

    def __init__(self, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable


class UnsetSecretError(CallError):
    """A call that names a secret which is not set."""


class ExpressionError(HeadraceError):
    """An expression or template that does not compile.

    `line` and `column` count from 1 within the text; `fix` says what would be right, or is empty.
    """

    def __init__(self, message: str, *, line: int = 1, column: int = 1, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.fix = fix


class PathError(HeadraceError):
    """A path that does not compile, or an operation that cannot be applied at it.

    `column` counts from 1 within the path; `fix` says what would be right, or is empty.
    """

    def __init__(self, message: str, *, column: int = 1, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        self.fix = fix


class WorkspaceError(HeadraceError):
    """A workspace that cannot be used at all, such as one whose sources.json cannot be read."""


class StoreError(HeadraceError):
    """The store cannot take a request now; nothing of it was acknowledged."""


class StoreRefused(StoreError):  # noqa: N818 - what happened, not a kind of fault
    """The store cannot be opened: damaged, locked, of a newer version; the text says what to do."""


class TooLargeError(StoreError):
    """A change that the store will never take, because of its size; nothing of it was kept."""


class BusyError(HeadraceError):
    """Too many requests wait for the same thing, or the request's deadline passed."""

    def __init__(self, detail: str, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
