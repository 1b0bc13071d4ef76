"""Documents as this process wrote them last, for checked commits."""

from collections import OrderedDict
from time import perf_counter
from typing import NamedTuple

from headrace.engine.store.encoding import decode_doc
from headrace.engine.store.protocol import Committed, Stored
from headrace.engine.store.sqlite.rows import Key, Prepared

MOST_DOCS = 4096
MOST_BYTES = 32 << 20

TRUSTED_SECONDS = 0.05
"""How long after a transaction nobody else is taken to have written: no longer than a race may last anyway."""

QUIET_SECONDS = 10.0
"""How long nothing is remembered after somebody else wrote: two who write one file had better read it."""


_Name = tuple[str, Key]


class _Doc(NamedTuple):
    data: bytes
    version: int


class Recent:
    """Profiles and sessions by key, bounded in number and bytes.

    What it gives may be older than the file when another process wrote it, by no more than `TRUSTED_SECONDS`. Who
    writes something back then gets a conflict, since the version is checked, and reads the file. The event loop's
    thread reads and keeps; the writer's thread says when it looked for others (`checked`, `others_wrote`).
    """

    def __init__(self) -> None:
        # Not a plain dictionary: in one whose oldest went before, finding the next oldest takes 3 µs.
        self._docs: OrderedDict[_Name, _Doc] = OrderedDict()
        self.bytes = 0
        """Of all documents."""
        self._trusted_until = 0.0
        self._quiet_until = 0.0

    def __len__(self) -> int:
        return len(self._docs)

    def get(self, kind: str, key: Key) -> Stored | None:
        """Return a document, or None when only the file can tell."""
        found = self._docs.get((kind, key))
        if found is None or not self._quiet_until < perf_counter() < self._trusted_until:
            return None
        return Stored(decode_doc(found.data), (found.version, 0))

    def checked(self) -> None:
        """Note that a transaction has begun and found that nobody else wrote since the last one."""
        self._trusted_until = perf_counter() + TRUSTED_SECONDS

    def others_wrote(self) -> None:
        """Note that somebody else wrote since the last transaction."""
        self._quiet_until = perf_counter() + QUIET_SECONDS

    def settle(self, change: Prepared, outcome: object) -> None:
        """Remember what a change wrote; forget what it touched when it wrote nothing, or nobody knows."""
        if perf_counter() < self._quiet_until:
            self.forget()
            return
        written = change.taken and isinstance(outcome, Committed)
        for kind, row, changed in (
            ("profile", change.profile, change.profile_changed),
            ("session", change.session, change.session_changed),
        ):
            if row and (changed or not written):
                self._drop((kind, row[0]))
                if written:
                    self._put((kind, row[0]), _Doc(row[-1], row[1]))

    def _put(self, key: _Name, doc: _Doc) -> None:
        self._docs[key] = doc
        self.bytes += len(doc.data)
        while len(self._docs) > MOST_DOCS or self.bytes > MOST_BYTES:
            self._drop(next(iter(self._docs)))

    def _drop(self, key: _Name) -> None:
        gone = self._docs.pop(key, None)
        if gone is not None:
            self.bytes -= len(gone.data)

    def forget(self) -> None:
        """Forget everything."""
        self._docs.clear()
        self.bytes = 0
