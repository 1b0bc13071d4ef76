"""The contract of carrying everything from one store into another.

Every store passes the suite in tests/moving_contract.py.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from headrace.engine.model import Doc

MovedKind = Literal[
    "workflow", "profile", "session", "claim", "mark", "event", "failed", "effect", "timer", "trace"
]

MOVED: tuple[MovedKind, ...] = (
    *("workflow", "profile", "session", "claim", "mark", "event", "failed", "effect", "timer", "trace"),
)
"""Every kind, in the order in which they are copied: an event after the marks, for it says more about the same key."""


class Kept(NamedTuple):
    """A document with all that a store keeps of it and no store could read off it.

    `doc` is its JSON, byte for byte; a mark has none. `fields` are what stands beside it: of profiles and sessions
    `created`, `updated`; of claims `profile`; of events `received`; of marks `received`, `profile`, `session`,
    `content`, `id`; of workflows `created`; of the others `created`, `profile`, and `next` where a worker will take it.
    """

    key: str
    tenant: str
    doc: bytes | None
    fields: dict[str, str | None]


class Batch(NamedTuple):
    """A part of a kind's documents; `after` names the place behind them, or is None at the end."""

    rows: list[Kept]
    after: str | None


class Moving(Protocol):
    """Everything that a store keeps, to be carried into another one. Any method may raise StoreError, BusyError."""

    def shown(self) -> str:
        """Name the place, without secrets; the same place has the same name every time."""
        ...

    async def settle(self) -> None:
        """Finish what a process that died left half done, and let the other methods see all that was written."""
        ...

    async def tally(self) -> dict[MovedKind, int]:
        """Count every kind exactly, as it is now or was at the last `settle`."""
        ...

    async def dump(self, kind: MovedKind, after: str | None, n: int) -> Batch:
        """Return about `n` documents behind a place, fewer when they are large; None is the beginning.

        A place stays good when the process ends. What is written meanwhile may be left out.
        """
        ...

    async def load(self, kind: MovedKind, rows: Sequence[Kept], *, replace: bool) -> int:
        """Write documents durably; returns how many were written.

        A key that is there keeps its document; with `replace` it gets the new one if it differs and `load` wrote the
        one that is there too. What a server wrote since is never replaced.
        """
        ...

    async def pick(self, kind: MovedKind, keys: Sequence[str]) -> list[Kept]:
        """Return what stands under some keys, in any order, nothing for a key that is not there."""
        ...

    async def sample(self, kind: MovedKind, n: int) -> list[Kept]:
        """Return about `n` documents by chance; one may be among them twice."""
        ...

    async def note(self) -> Doc | None:
        """Return the note that a copy left here, or None."""
        ...

    async def keep_note(self, note: Doc) -> None:
        """Keep a note of a copy, in place of the one before."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...
