"""One change, whole or not at all, without a transaction.

First the claims, by `create`; then the commit record with all other documents in its `pending`. The record's write is
the commit: before it nothing counts, after it everything does, whoever writes those documents; the backlog does.
"""

from time import monotonic

import msgspec

from headrace.engine.crash import crash_point
from headrace.engine.errors import BusyError, StoreError, TooLargeError
from headrace.engine.store.elastic.backlog import Backlog, Entry
from headrace.engine.store.elastic.bulk import Bulk, Done, Operation
from headrace.engine.store.elastic.claims import COMMITTED, CONFLICT, Claims, refused, what_came_first
from headrace.engine.store.elastic.cluster import RefusedError
from headrace.engine.store.elastic.documents import as_text, doc_id
from headrace.engine.store.elastic.owners import link, with_owner
from headrace.engine.store.elastic.parts import (
    REDO_MS,
    Part,
    carried,
    create_line,
    pending_members,
    replace_line,
)
from headrace.engine.store.elastic.place import Place
from headrace.engine.store.elastic.recent import Copy, Recent
from headrace.engine.store.elastic.records import Records
from headrace.engine.store.elastic.settle import THERE, UNREADABLE, WRITTEN, Settler
from headrace.engine.store.elastic.turns import Turns
from headrace.engine.store.elastic.work import Record, Work, base_of
from headrace.engine.store.protocol import Change, Frozen, Outcome, Ref, Taken

NEWEST_SECONDS = 2.0
"""How long a record's newest version is remembered: a migration counts versions anew."""

COMMIT_SECONDS = 6.0
"""How long a commit begins new attempts, all its writes together. With the last one it stays within a request's
deadline; what it does not come to after its record is left to whoever reads the record next, and to the sweeper."""

MOST_CARRIED = 8
"""Changes whose documents a record carries while they are on their way; then they are written first."""


class _Newest(msgspec.Struct, frozen=True, gc=False):
    """The newest version of a record that is known here: term and number, and until when that is believed."""

    version: tuple[int, int]
    until: float


class Committer:
    """Commits changes. Used from one event loop; other processes commit to the same cluster.

    `remember_ms` is how long a record says which events came lately: longer than any request may take.
    """

    def __init__(
        self,
        place: Place,
        bulk: Bulk,
        records: Records,
        settler: Settler,
        backlog: Backlog,
        remember_ms: int,
    ) -> None:
        self._place = place
        self._bulk = bulk
        self._settler = settler
        self._backlog = backlog
        self._records = records
        self._remember_ms = remember_ms
        self._turns = Turns()
        self._keys: Recent[str] = Recent(200_000)
        self._newest: Recent[_Newest] = Recent(10_000)
        self._came: Recent[str] = Recent(50_000)

    async def commit(self, change: Change) -> Outcome:
        """Write a change durably, whole or not at all. Raises StoreError, BusyError, TooLargeError."""
        # The first attempt may always begin.
        seconds = COMMIT_SECONDS if change.seconds is None else min(COMMIT_SECONDS, max(0.1, change.seconds))
        ends = monotonic() + seconds
        if change.profile is None:
            owned = await with_owner(change, self._records)
            if isinstance(owned, Frozen):
                return owned
            change = owned
        work = await Work.in_turns(change, self._place, ends)
        keys = work.turns()
        turn = await self._turns.enter(keys)
        try:
            return await self._commit_in_turn(work)
        finally:
            self._turns.leave(keys, turn)

    async def _commit_in_turn(self, work: Work) -> Outcome:
        work.check_time()
        if work.change.id in self._came:
            return COMMITTED
        if self._is_stale(work.record):
            return CONFLICT
        outcome: Outcome = CONFLICT
        try:
            outcome = await self._commit(work)
        finally:
            if outcome is not COMMITTED:
                self._forget(work)
        return outcome

    async def _commit(self, work: Work) -> Outcome:
        if work.is_idle:
            return COMMITTED if await self._is_as_read(work.record) else CONFLICT
        if (lost := await self._is_behind(work)) is not None:
            return lost
        await self._make_room(work)
        claims = Claims(work, self._bulk, self._records, self._settler)
        outcome = await claims.make()
        if outcome is None and work.is_linking and not await link(work, self._records, self._bulk):
            outcome = CONFLICT
        crash_point("store.claimed")
        if outcome is None:
            outcome = await self._write_within_limits(work)
        if outcome is not COMMITTED:
            await claims.give_back()
            return outcome
        crash_point("store.after_commit")
        await self._finish(work)
        return COMMITTED

    # Before

    async def _make_room(self, work: Work) -> None:
        """Wait until not too much is still to be written after its record. Raises BusyError when that takes long."""
        if self._backlog.is_full and not await self._backlog.has_room(work.patience):
            raise BusyError(f"{self._backlog.documents} documents wait for Elasticsearch already.")
        if len(work.base_parts) > MOST_CARRIED and len(self._left(work)) > MOST_CARRIED:
            await self._backlog.flush(work.patience)
            if not await self._settler.settle(self._left(work), work.patience):
                raise BusyError("Elasticsearch does not take what a document still holds.")

    def _left(self, work: Work) -> list[Part]:
        """Return the parts of the record of which it is not known here that they are written."""
        return [part for part in work.base_parts if part.left and part.id not in self._settler.done]

    def _is_stale(self, record: Record | None) -> bool:
        """Say whether a record is known here to have another version by now, so that nothing need be tried."""
        if record is None or record.base is None:
            return False
        known = self._newest.get(record.id)
        return (
            known is not None
            and known.until > monotonic()
            and known.version > (record.base.term, record.base.seq_no)
        )

    async def _is_as_read(self, record: Record | None) -> bool:
        """Say whether a record that need not be written still has the version that was read, maybe of a copy."""
        found = None if record is None else await self._records.source(record.where, record.id)
        if found is None or record is None or record.base is None:
            return False
        return (found[0].seq_no, found[0].term) == (record.base.seq_no, record.base.term)

    async def _is_behind(self, work: Work) -> Outcome | None:
        """Return what became of a change whose record, when it was read, knew more than its reader; else None."""
        of_session = work.session_base.parts if work.session_base is not None else ()
        # What goes on to another record gives its documents up first: who comes there does not look for them here.
        held = (*of_session, *self._left(work)) if work.is_leaving else of_session
        if held and not await self._settler.settle(held, work.patience):
            raise StoreError("Elasticsearch does not take what a document still holds.")
        keys = frozenset(work.keys)
        for part in (*work.base_parts, *of_session) if of_session else work.base_parts:
            if (keys and not keys.isdisjoint(part.keys)) or (part.session and work.is_older(part.session)):
                await self._settler.settle([part], work.patience)
                return CONFLICT
        if work.is_unguarded and await self._is_session_newer(work):
            return CONFLICT
        taken = [key for key in work.keys if self._keys.get(key) not in (None, work.change.id)]
        # What this process remembers may be erased since.
        if taken and any(await self._records.events(taken)):
            return await what_came_first(work, self._records) or CONFLICT
        return None

    async def _is_session_newer(self, work: Work) -> bool:
        """Say whether the session was written since it was read. From now on only who writes the record can do that."""
        session, read = work.change.session, work.session_base
        assert session is not None and read is not None  # noqa: S101, PT018 - who asks has looked
        (found,) = await self._records.read([Ref("session", session.key)])
        now = None if found is None else base_of(found.version)
        return now is None or now.n != read.n

    # The record

    async def _write_within_limits(self, work: Work) -> Outcome:
        """Write the record. One that is too large only because of what it carries is written without in a new attempt.

        Raises TooLargeError when the cluster takes no request as large as the change (`http.max_content_length`).
        """
        try:
            return await self._write_record(work)
        except RefusedError as error:
            if error.status != 413:
                raise
            if not (held := self._left(work)):
                raise TooLargeError(f"A change is too large for Elasticsearch: {error}") from None
        await self._backlog.flush(work.patience)
        if not await self._settler.settle(held, work.patience):
            raise StoreError("Elasticsearch does not take what a document still holds.")
        return CONFLICT

    async def _write_record(self, work: Work) -> Outcome:
        work.check_time()
        record = work.record
        if record is None:
            operations = [Operation(one.line(), one.source) for one in work.planned]
            for done in await self._bulk.write(operations, patience=work.patience):
                if done.status not in (*WRITTEN, THERE):
                    raise refused(done)
            work.planned = []
            return COMMITTED
        if record.kind == "event" and await self._is_seen(work):
            return CONFLICT
        if record.kind == "event" and work.change.continues:
            # What came before it in its request is written before it: events of one moment are listed in that order.
            await self._backlog.flush(work.patience)
        crash_point("store.before_commit")
        done = await self._write_one(work, record)
        if done.status == UNREADABLE:
            # Elasticsearch cannot read something in it: as a text it need not.
            work.planned = [one.as_text() for one in work.planned]
            record = record._replace(source=as_text(record.source + b"}")[:-1])
            done = await self._write_one(work, record)
        if done.status in WRITTEN:
            return COMMITTED
        if done.status not in (THERE, 404):
            raise refused(done)
        return await self._after_conflict(work, record)

    async def _write_one(self, work: Work, record: Record) -> Done:
        session, done = work.session_number[0] if work.session_number else None, self._settler.done
        parts = carried(work.base_parts, done, self._came, work.now_ms, self._remember_ms, session)
        if record.kind != "event" or work.planned:
            parts.append(work.part())
        source = record.source + pending_members(parts) + b"}"
        line = (
            create_line(record.where, record.id)
            if record.base is None
            else replace_line(record.where, record.id, record.base.seq_no, record.base.term)
        )
        (wrote,) = await self._bulk.write([Operation(line, source)], patience=work.patience)
        if wrote.status in WRITTEN:
            self._newest.add(record.id, _Newest((wrote.term, wrote.seq_no), monotonic() + NEWEST_SECONDS))
        if record.kind == "profile":
            self._copy(record, wrote, parts)
        return wrote

    async def _after_conflict(self, work: Work, record: Record) -> Outcome:
        """Return what a 409 means: lost, or that an answer of the cluster was."""
        found = await self._records.source(record.where, record.id)
        if found is None:
            return CONFLICT
        got, source = found
        self._newest.add(record.id, _Newest((got.term, got.seq_no), monotonic() + NEWEST_SECONDS))
        if source.holds(work.change.id):
            return COMMITTED
        if record.kind == "session" and record.base is None and work.change.session is not None:
            return Taken(work.change.session.key, source.profile)
        return CONFLICT

    async def _is_seen(self, work: Work) -> bool:
        """Say whether an event of a change without profile and session is there already, by another change."""
        rows = [*work.change.events, *work.change.marks]
        if len(rows) == 1:
            return False
        found = await self._records.events([row.key for row in rows])
        return any(source is not None and source.change != work.change.id for source in found)

    # After

    async def _finish(self, work: Work) -> None:
        """Send what stands in `pending` on its way; the change is committed whatever becomes of that."""
        self._came.add(work.change.id, "")
        late = [part for part in work.base_parts if part.left and work.now_ms - part.at > REDO_MS]
        for key in work.keys:
            self._keys.add(key, work.change.id)
        if late:
            await self._settler.settle(late, work.patience)
        if work.record is None or not work.planned:
            self._settler.done.add(work.change.id, "")
            return
        # Another process that gets some of these events again looks for each, and not in the record of the first.
        is_many = work.record.kind == "event" and len(work.keys) > 1
        if is_many and await self._settler.write(work.planned, work.patience) is not None:
            self._settler.done.add(work.change.id, "")
            return
        self._backlog.add(Entry(work.change.id, work.record.id, work.planned))

    def _copy(self, record: Record, done: Done, parts: list[Part]) -> None:
        """Keep a copy of a profile that this process wrote; one that another wrote since is none."""
        if done.status in WRITTEN:
            copy = Copy(done.seq_no, done.term, record.doc, tuple(parts))
            self._records.copies.put(record.id, copy)
        else:
            self._records.copies.drop(record.id)

    def _forget(self, work: Work) -> None:
        """Drop the copies of what a change that did not come wanted to write."""
        for write in (work.change.profile, work.change.session):
            if write is not None:
                self._records.copies.drop(doc_id(write.key))
