"""What this process did lately, in bounded memory."""

from collections import OrderedDict
from time import monotonic
from typing import TypeVar

import msgspec

from headrace.engine.store.elastic.parts import Part

MOST_COPIES = 10_000
MOST_COPY_BYTES = 32 << 20
COPY_SECONDS = 10.0
"""How long a copy is believed: a migration counts versions anew, and waits for longer than this and a request."""

T = TypeVar("T")


class Recent(OrderedDict[str, T]):
    """Remembers something of the names that were added last.

    Not a plain dictionary: in one of 200,000 whose oldest went before, finding the next oldest takes 50 µs.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def add(self, name: str, value: T) -> None:
        """Remember a name; the oldest goes when there are too many."""
        self[name] = value
        self.move_to_end(name)
        if len(self) > self._most:
            self.popitem(last=False)


class Copy(msgspec.Struct, frozen=True, gc=False):
    """A document as this process wrote it last: its version, its JSON, the parts that it carries.

    Of a session `n` is its number, and `owner` the profile that it names.
    """

    seq_no: int
    term: int
    doc: bytes
    parts: tuple[Part, ...] = ()
    n: int = 0
    owner: str | None = None


_NONE: tuple[None, float] = (None, 0.0)


class Copies:
    """Copies of profiles and sessions, by `_id`, for readers whose commit will have the version checked.

    A copy is stale when another process wrote the document since. Then the profile has another version too: a session
    is never written without the record that its number stands in.
    """

    def __init__(self) -> None:
        self._copies: OrderedDict[str, tuple[Copy, float]] = OrderedDict()
        self._bytes = 0

    def get(self, id: str) -> Copy | None:
        """Return a copy, or None."""
        copy, until = self._copies.get(id, _NONE)
        return copy if until > monotonic() else None

    def put(self, id: str, copy: Copy) -> None:
        """Keep a copy; the oldest go when there is too much."""
        self.drop(id)
        self._copies[id] = copy, monotonic() + COPY_SECONDS
        self._bytes += len(copy.doc)
        while len(self._copies) > MOST_COPIES or self._bytes > MOST_COPY_BYTES:
            self.drop(next(iter(self._copies)))

    def slim(self, id: str, change: str) -> None:
        """Let a copy carry of a change only what remains of it when its documents are written."""
        copy, until = self._copies.get(id, _NONE)
        if copy is not None:
            parts = tuple([part.stub() if part.id == change else part for part in copy.parts])
            slim = Copy(copy.seq_no, copy.term, copy.doc, parts, copy.n, copy.owner)
            self._copies[id] = slim, until

    def drop(self, id: str) -> None:
        """Forget a copy."""
        gone, _ = self._copies.pop(id, _NONE)
        if gone is not None:
            self._bytes -= len(gone.doc)

    def clear(self) -> None:
        """Forget all."""
        self._copies.clear()
        self._bytes = 0
