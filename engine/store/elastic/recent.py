"""What this process did lately, in bounded memory."""

from typing import Generic, NamedTuple, TypeVar

from headrace.engine.store.elastic.parts import Part

MOST_COPIES = 10_000
MOST_COPY_BYTES = 32 << 20


T = TypeVar("T")


class Recent(Generic[T]):
    """Remembers something of the names that were added last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, T] = {}

    def add(self, name: str, value: T) -> None:
        """Remember a name; the oldest goes when there are too many."""
        self._known.pop(name, None)
        self._known[name] = value
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def get(self, name: str) -> T | None:
        """Return what is remembered of a name, or None."""
        return self._known.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._known


class Copy(NamedTuple):
    """A document as this process wrote it last: its version, its source, the parts that it carries."""

    seq_no: int
    term: int
    source: bytes
    parts: tuple[Part, ...]


class Copies:
    """Copies of profiles and sessions, by `_id`, for readers whose commit will have the version checked.

    A copy is stale when another process wrote the document since. Then the profile has another version too: a session
    is never written without the record that its number stands in.
    """

    def __init__(self) -> None:
        self._copies: dict[str, Copy] = {}
        self._bytes = 0

    def get(self, id: str) -> Copy | None:
        """Return a copy, or None."""
        return self._copies.get(id)

    def put(self, id: str, copy: Copy) -> None:
        """Keep a copy; the oldest go when there is too much."""
        self.drop(id)
        self._copies[id] = copy
        self._bytes += len(copy.source)
        while len(self._copies) > MOST_COPIES or self._bytes > MOST_COPY_BYTES:
            self.drop(next(iter(self._copies)))

    def slim(self, id: str, change: str) -> None:
        """Let a copy carry of a change only what remains of it when its documents are written."""
        copy = self._copies.get(id)
        if copy is not None:
            parts = tuple(part.stub() if part.id == change else part for part in copy.parts)
            self._copies[id] = copy._replace(parts=parts)

    def drop(self, id: str) -> None:
        """Forget a copy."""
        if (gone := self._copies.pop(id, None)) is not None:
            self._bytes -= len(gone.source)

    def clear(self) -> None:
        """Forget all."""
        self._copies.clear()
        self._bytes = 0
