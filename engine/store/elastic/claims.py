"""A change's claims: made before its record, given back when it loses."""

from typing import NamedTuple

import structlog

from headrace.engine.errors import BusyError, StoreError
from headrace.engine.model import make_key
from headrace.engine.store.elastic.bulk import Bulk, Done, Operation
from headrace.engine.store.elastic.gets import Got
from headrace.engine.store.elastic.parts import create_line, delete_line, replace_line
from headrace.engine.store.elastic.records import Records
from headrace.engine.store.elastic.settle import THERE, WRITTEN, Settler
from headrace.engine.store.elastic.work import Claiming, Work
from headrace.engine.store.protocol import Committed, Conflict, Outcome, Ref, Taken

COMMITTED = Committed()
CONFLICT = Conflict()

_log = structlog.get_logger(__name__)


class _Made(NamedTuple):
    """A claim that this attempt made: where it is, and its version."""

    where: str
    id: str
    seq_no: int
    term: int


class Claims:
    """Makes the claims of one attempt, and knows which of them are its own."""

    def __init__(self, work: Work, bulk: Bulk, records: Records, settler: Settler) -> None:
        self._work = work
        self._bulk = bulk
        self._records = records
        self._settler = settler
        self._made: list[_Made] = []

    async def make(self) -> Outcome | None:
        """Make all of them; returns what the change lost, or None when they are its own."""
        work = self._work
        if not work.claims:
            return None
        lines = [
            create_line(one.where, one.id)
            if one.base is None
            else replace_line(one.where, one.id, one.base.seq_no, one.base.term)
            for one in work.claims
        ]
        written = await self._bulk.write(
            [Operation(line, one.source) for line, one in zip(lines, work.claims, strict=True)],
            patience=work.patience,
        )
        lost: Outcome | None = None
        for one, done in zip(work.claims, written, strict=True):
            if done.status in WRITTEN:
                if one.base is None:
                    self._note(one, done.seq_no, done.term)
            elif done.status == THERE:
                lost = lost or await self._lost_to_owner(one)
            else:
                raise refused(done)
        return None if lost is None else await self._lost_profile() or lost

    async def give_back(self) -> None:
        """Delete what was made for an attempt that lost, unless somebody has taken it over."""
        if not self._made:
            return
        lines = [delete_line(one.where, one.id, one.seq_no, one.term) for one in self._made]
        try:
            await self._bulk.write([Operation(line, None) for line in lines], patience=0)
        except (StoreError, BusyError) as error:
            # The next who wants them makes the profile that they name.
            _log.warning("store.claims_left", claims=len(self._made), error=str(error))

    def _note(self, one: Claiming, seq_no: int, term: int) -> None:
        """Note a claim as this attempt's, to be given back."""
        self._made.append(_Made(one.where, one.id, seq_no, term))

    async def _lost_to_owner(self, one: Claiming) -> Outcome | None:
        """Return what a claim that is there already means; None when it is this change's after all."""
        work = self._work
        found = await self._records.source(one.where, one.id)
        if found is None or one.base is not None:
            return CONFLICT
        got, source = found
        is_session = work.change.session is not None and one.key == work.change.session.key
        if source.change == work.change.id:
            if source.is_bare or not is_session:
                self._note(one, got.seq_no, got.term)
            return None
        if source.profile is not None and source.profile in (one.profile, one.instead) and not is_session:
            return await self._take_over(one, got, is_given_up=source.profile != one.profile)
        if one.key in work.keys and source.profile is not None:
            return await self._lost_to_event(one, got, source.profile)
        return Taken(one.key, source.profile)

    async def _take_over(self, one: Claiming, got: Got, *, is_given_up: bool) -> Outcome | None:
        """Write a claim anew, so that who made it does not take it away if that one loses.

        One that another profile gives up is this attempt's from now on; one for the same profile stays if it loses.
        """
        line = replace_line(one.where, one.id, got.seq_no, got.term)
        (done,) = await self._bulk.write([Operation(line, one.source)], patience=self._work.patience)
        if done.status not in (*WRITTEN, THERE, 404):
            raise refused(done)
        if done.status not in WRITTEN:
            return CONFLICT
        if is_given_up:
            self._note(one, done.seq_no, done.term)
        return None

    async def _lost_to_event(self, one: Claiming, got: Got, profile: str) -> Outcome | None:
        """Return what an event's claim means: it is written with its profile, or that one is still to be made.

        None when the event was forgotten since, so that its id may come again: then the claim is this change's.
        """
        ref = Ref("profile", make_key("profile", self._work.change.tenant, profile))
        (stored,) = await self._records.read([ref])
        if stored is None:
            return Taken(one.key, profile)
        # Whoever made the profile made it with its event: what is neither in it nor written is not on its way either.
        is_written = await self._settler.settle(stored.version[3], self._work.patience)
        if not is_written or any(await self._records.events([one.key])):
            return CONFLICT
        return await self._take_over(one, got, is_given_up=True)

    async def _lost_profile(self) -> Outcome | None:
        """Return Conflict when the profile was written by another since it was read, else None."""
        outcome = await what_came_first(self._work, self._records)
        return None if isinstance(outcome, Taken) else outcome


async def what_came_first(work: Work, records: Records) -> Outcome | None:
    """Return what a change lost first: its profile, then its session; None for neither. Raises StoreError.

    Committed says that it came itself: its answer was lost.
    """
    change = work.change
    wanted = [Ref("profile", change.profile.key)] if change.profile is not None else []
    if change.session is not None and change.session.version is None:
        wanted.append(Ref("session", change.session.key))
    for ref, stored in zip(wanted, await records.read(wanted), strict=True):
        if ref.kind == "session" and stored is not None:
            return Taken(ref.key, stored.doc.get("profile"))
        base = work.record.base if work.record is not None else None
        if ref.kind == "profile" and (stored and stored.version[:2]) != (base and base[:2]):
            holds = stored is not None and any(part.id == change.id for part in stored.version[3])
            return COMMITTED if holds else CONFLICT
    return None


def refused(done: Done) -> StoreError:
    """Return what to raise for a document that the cluster does not take."""
    return StoreError(f"Elasticsearch refused a document: {done.status} {done.reason}")
