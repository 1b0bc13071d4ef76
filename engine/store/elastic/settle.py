"""Writes the documents that a commit record holds for its changes."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import structlog

from headrace.engine.errors import BusyError, StoreError
from headrace.engine.store.elastic.bulk import PATIENCE_SECONDS, Bulk, Done, Operation
from headrace.engine.store.elastic.parts import Part, Planned
from headrace.engine.store.elastic.recent import Recent

WRITTEN = (200, 201)
THERE = 409
UNREADABLE = 400
KEPT = frozenset((*WRITTEN, THERE))
"""What says that a document is there, whoever wrote it."""

PORTION_BYTES = 32 << 20
"""Of one bulk: much less than a cluster takes, so that what fitted into a record is never too large beside it."""

_log = structlog.get_logger(__name__)


class Settler:
    """Writes planned documents, as often as anybody asks: a second time nothing changes."""

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self.done: Recent[str] = Recent(100_000)
        """Changes of which this process knows that every document is written; more than a record says of the last
        seconds, in which a process makes some thousand a second."""
        self.trouble = ""
        """Why documents could not be written, the last time that this happened."""

    async def settle(self, parts: Iterable[Part], patience: float = PATIENCE_SECONDS) -> bool | None:
        """Write what parts still hold, where it is not known to be written; says whether it all is now.

        What is refused of one part keeps no other from being known as written. None: the cluster did not say.
        """
        left = [part for part in parts if part.left and part.id not in self.done]
        written = await self.attempt([one for part in left for one in part.planned()], patience)
        if written is None:
            return None
        results = iter(written)
        is_all = True
        for part in left:
            mine = list(islice(results, len(part.left)))
            if all(done.status in KEPT for done in mine):
                self.done.add(part.id, "")
            else:
                is_all = False
        return is_all

    async def write(
        self, planned: Sequence[Planned], patience: float = PATIENCE_SECONDS
    ) -> list[Done] | None:
        """Write planned documents and return what became of each; None when not all are written."""
        written = await self.attempt(planned, patience)
        if written is None or any(done.status not in KEPT for done in written):
            return None
        return written

    async def attempt(
        self, planned: Sequence[Planned], patience: float = PATIENCE_SECONDS
    ) -> list[Done] | None:
        """Write planned documents and return what became of each; None when it is not known.

        With no `patience` left nothing is tried.
        """
        if not planned:
            return []
        if patience <= 0:
            return None
        try:
            operations = [Operation(one.line(), one.source) for one in planned]
            written: list[Done] = []
            for portion in _portions(operations):
                written += await self._bulk.write(portion, patience=patience)
            for place, done in enumerate(written):
                if done.status == UNREADABLE:
                    # Elasticsearch cannot read something in it: as a text it need not.
                    one = planned[place].as_text()
                    (written[place],) = await self._bulk.write([Operation(one.line(), one.source)])
        except (StoreError, BusyError) as error:
            self.trouble = str(error)
            _log.warning("store.documents_wait", documents=len(planned), error=self.trouble)
            return None
        refused = [done for done in written if done.status not in KEPT]
        if refused:
            self.trouble = refused[0].reason
            _log.error("store.documents_refused", documents=len(refused), error=self.trouble)
        return written


def _portions(operations: Sequence[Operation]) -> Iterator[Sequence[Operation]]:
    """Yield operations in their order, no more at once than one bulk may have."""
    first = size = 0
    for place, one in enumerate(operations):
        weight = len(one.source or b"")
        if place > first and size + weight > PORTION_BYTES:
            yield operations[first:place]
            first, size = place, 0
        size += weight
    yield operations[first:]
