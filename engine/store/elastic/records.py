"""Reads the write path's documents by id, in real time."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from headrace.engine.errors import BusyError
from headrace.engine.model import Doc, doc_key, utc_now
from headrace.engine.store.elastic.backlog import Backlog
from headrace.engine.store.elastic.documents import doc_id
from headrace.engine.store.elastic.gets import Get, Gets, Got
from headrace.engine.store.elastic.layout import INDEX_OF, alias, months_known
from headrace.engine.store.elastic.parts import Part
from headrace.engine.store.elastic.place import Place
from headrace.engine.store.elastic.recent import Copies
from headrace.engine.store.elastic.work import Base
from headrace.engine.store.encoding import decode_doc, text_or_none
from headrace.engine.store.protocol import CLAIMED, Ref, Stored

HOUR = timedelta(hours=1)


class Source(msgspec.Struct):
    """What the write path reads of a document's source."""

    tenant: str = ""
    doc: msgspec.Raw = msgspec.Raw(b"")
    text: str | None = None
    change: str = ""
    pending: list[Part] = []
    n: int = 0
    profile: str | None = None
    content: str | None = None
    id: str | None = None
    linked: bool = False

    def whole(self) -> Doc | None:
        """Return the document itself; None for a mark and for a claimed session."""
        if self.doc:
            return decode_doc(memoryview(self.doc))
        return None if self.text is None else decode_doc(self.text.encode())

    @property
    def merged_into(self) -> str | None:
        """Of a profile, the id of the one that it was merged into, or None."""
        if b'"merged_into"' not in bytes(self.doc):
            return None
        return text_or_none((self.whole() or {}).get("merged_into"))

    @property
    def is_bare(self) -> bool:
        """Say whether there is no document in it: a mark, or a session that is only claimed."""
        return not self.doc and self.text is None

    def holds(self, change: str) -> bool:
        """Say whether a change was written here."""
        return self.change == change or any(part.id == change for part in self.pending)


_decode = msgspec.json.Decoder(Source).decode


def source_of(got: Got) -> Source:
    """Return a source decoded."""
    return _decode(got.source)


class Records:
    """Reads profiles, sessions, claims, and what is known of events' keys."""

    def __init__(
        self,
        place: Place,
        gets: Gets,
        dedup_days: int,
        copies: Copies | None = None,
        backlog: Backlog | None = None,
    ) -> None:
        self.copies = copies or Copies()
        self._backlog = backlog
        self._place = place
        self._gets = gets
        self._dedup_days = dedup_days
        self._looked = datetime.min.replace(tzinfo=UTC)
        self._months: list[str] = []
        self._current: set[str] = set()

    def where(self, ref: Ref) -> list[Get]:
        """Return where a document may be: an event's key is looked for in every month that is remembered."""
        if ref.kind != "seen":
            return [Get(alias(self._place, INDEX_OF[ref.kind]), doc_id(ref.key))]
        now = utc_now()
        if now.hour != self._looked.hour or abs(now - self._looked) > HOUR:
            self._looked = now
            self._months = months_known(self._place, "events", now, self._dedup_days)
            self._current = set(months_known(self._place, "events", now, 0))
        id = doc_id(ref.key)
        return [
            Get(name, id, light=True)
            for name in self._months
            # An index of a month that is over is not made any more.
            if name in self._current or not self._gets.is_absent(name)
        ]

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:
        """Return each document as it is now, or None; with `recent` from a copy where there is one."""
        made: list[Stored | None] = []
        wanted: list[Get] = []
        places: list[int] = []
        for place, ref in enumerate(refs):
            copy = self._copy(ref) if recent and ref.kind != "seen" else None
            made.append(copy)
            if copy is None:
                gets = self.where(ref)
                wanted += gets
                places += [place] * len(gets)
        if not wanted:
            return made
        sessions: dict[int, Source] = {}
        for place, got in zip(places, await self._get(wanted), strict=True):
            if got is None or made[place] is not None:
                continue
            ref, source = refs[place], source_of(got)
            if ref.kind == "session" and source.profile is not None and not recent:
                sessions[place] = source
            made[place] = _stored(ref, source, got.seq_no, got.term)
        while sessions:
            sessions = await self._take_pending(refs, made, sessions)
        return made

    async def _take_pending(
        self, refs: Sequence[Ref], made: list[Stored | None], sessions: dict[int, Source]
    ) -> dict[int, Source]:
        """Take sessions from their profile's `pending`, where another process is about to write a newer one.

        Returns those that are another profile's there, or whose profile was merged into another one: that may hold a
        still newer one.
        """
        moved: dict[int, Source] = {}
        where = alias(self._place, INDEX_OF["profile"])
        owners = [
            Get(where, doc_id(doc_key("profile", one.tenant, one.profile or ""))) for one in sessions.values()
        ]
        for (at, source), got in zip(sessions.items(), await self._get(owners), strict=True):
            if got is None:
                continue
            owner = source_of(got)
            newer = _newer_session(owner, refs[at].key, source.n)
            if newer is not None:
                old = made[at]
                assert old is not None  # noqa: S101 - it was found
                made[at] = _stored(refs[at], newer, *old.version[:2])
                source.n = newer.n
                if newer.profile not in (None, source.profile):
                    moved[at] = newer
                    continue
            if (into := owner.merged_into) is not None:
                moved[at] = msgspec.structs.replace(source, profile=into)
        return moved

    def _copy(self, ref: Ref) -> Stored | None:
        """Return a profile or session as this process wrote it last."""
        copy = self.copies.get(doc_id(ref.key)) if ref.kind in ("profile", "session") else None
        if copy is None:
            return None
        return Stored(
            decode_doc(copy.doc), Base(copy.seq_no, copy.term, copy.n, copy.parts, copy.owner, linked=False)
        )

    async def events(self, keys: Sequence[str]) -> list[Source | None]:
        """Return what is known of events' keys, with the change that wrote each."""
        wanted = [self.where(Ref("seen", key)) for key in keys]
        found = iter(await self._get([get for gets in wanted for get in gets]))
        firsts = [
            next((one for one in [next(found) for _ in gets] if one is not None), None) for gets in wanted
        ]
        return [None if got is None else source_of(got) for got in firsts]

    async def _get(self, gets: list[Get]) -> list[Got | None]:
        """Read documents; those that are on their way from here are written first.

        When the cluster does not take them, a session is found in its profile's `pending`, and an event is not.
        """
        backlog = self._backlog
        if backlog is not None and backlog.holds(get.id for get in gets):
            is_written = await backlog.flush()
            if not is_written and backlog.holds(get.id for get in gets if get.light):
                raise BusyError("Elasticsearch does not take an event that came before.")
        return await self._gets.read(gets)

    async def source(self, where: str, id: str) -> tuple[Got, Source] | None:
        """Return one document's version and source, or None."""
        (got,) = await self._get([Get(where, id)])
        return None if got is None else (got, source_of(got))


def _newer_session(owner: Source, key: str, n: int) -> Source | None:
    """Return the newest write of a session that waits in a record, if its number is above `n`."""
    newest = None
    for part in owner.pending:
        for one in part.planned() if part.session and part.session[0] == key else ():
            if one.kind == "session" and one.n > n:
                newest, n = one, one.n
    return None if newest is None else _decode(newest.source)


def _stored(ref: Ref, source: Source, seq_no: int, term: int) -> Stored:
    version = Base(seq_no, term, source.n, tuple(source.pending), source.profile, linked=source.linked)
    if ref.kind == "seen":
        return Stored({"profile": source.profile, "content": source.content, "id": source.id}, version)
    doc = source.whole()
    if doc is None:
        doc = {CLAIMED: True, "profile": source.profile}
    elif ref.kind == "claim":
        doc["profile"] = source.profile
    return Stored(doc, version)
