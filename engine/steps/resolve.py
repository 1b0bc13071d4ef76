"""Step 2: which session and which profile? Reads only, under their locks."""

import msgspec

from headrace.engine.draft import Draft
from headrace.engine.errors import InputError
from headrace.engine.identity.follow import is_merged
from headrace.engine.identity.merge import Merging
from headrace.engine.locks import Held
from headrace.engine.model import Doc, doc_key
from headrace.engine.request import Incoming, Job, Wants
from headrace.engine.restart import StartAgain
from headrace.engine.steps import stats
from headrace.engine.store.protocol import Ref, Store, Stored
from headrace.engine.view import plain

LARGEST_PART = 256 * 1024
"""Bytes of a session's context, or properties, as JSON: what would make it larger is kept with the events only."""

_encode = msgspec.json.Encoder().encode


async def resolve(
    job: Job, events: list[Incoming], wants: Wants, store: Store, held: Held
) -> tuple[Draft, list[Stored | None]]:
    """Return a draft with the request's session and profile, and what is known of its events' keys.

    The session is locked before it is read. The profile is known only then; it is read again if another request held
    its lock meanwhile. All that the client named is read at once; a second read is needed only when the session
    belongs to another profile than the client said.

    What the commit will check by its version may be a recent copy. A conflict then reads anew, and so does a request
    with events sent before, since it may commit nothing.
    """
    request = job.request
    draft = Draft(job.tenant, job.received, save_session=request.options.save_session)
    draft.adopt = job.adopt
    draft.timed, draft.came_by = job.workspace.timed, job.came_by
    session_id = request.session_id or wants.session
    profile_id = wants.profile if request.profile_less else request.profile_id
    # Without a client's id there is nothing to compare, but an attempt whose reply was lost may have been written.
    checked = [event for event in events if event.content or job.attempts > 1]
    refs = [Ref("seen", event.key) for event in checked]
    if session_id is not None:
        session_key = doc_key("session", job.tenant, session_id)
        await held.take(session_key)
        refs.append(Ref("session", session_key))
    if profile_id is not None:
        refs.append(Ref("profile", doc_key("profile", job.tenant, profile_id)))
    recent = job.attempts == 1 and request.options.save_session and not request.profile_less
    found = await store.read(refs, recent=recent) if refs else []
    if recent and any(found[: len(checked)]):
        recent = False
        found[len(checked) :] = await store.read(refs[len(checked) :])
    profile = found.pop() if profile_id is not None else None
    if session_id is not None:
        draft.sessions[session_id] = found.pop()
    reader = ProfileReader(draft, store, held, recent=recent)
    if profile_id is not None and profile is not None:
        reader.known[profile_id] = profile
    await _settle(job, draft, session_id, profile_id, reader)
    return draft, _of_each(events, checked, found)


def _of_each(
    events: list[Incoming], checked: list[Incoming], found: list[Stored | None]
) -> list[Stored | None]:
    """Return what is known of each event's key, of those that were not looked for too."""
    if len(found) == len(events):
        return found
    seen = dict(zip((event.key for event in checked), found, strict=True))
    return [seen.get(event.key) for event in events]


class ProfileReader:
    """Reads profiles and locks them, using what was read already."""

    def __init__(self, draft: Draft, store: Store, held: Held, *, recent: bool) -> None:
        self.draft = draft
        self.store = store
        self.held = held
        self.recent = recent
        self.known: dict[str, Stored] = {}

    async def hold(self, profile_id: str) -> Stored | None:
        """Return the profile that an id means as it is under its lock, or None when there is none.

        Raises StartAgain when it was merged, and what was read may be older than that.
        """
        found = self.known.get(profile_id) or await self._read(profile_id)
        if found is not None and await self._take(found.doc["id"]):
            found = await self._read(found.doc["id"])
            if found is None:
                # Erased meanwhile; never two profiles' locks at once.
                self._give_back(profile_id)
        while found is not None and is_merged(found.doc):
            found = await self._lead_on(found.doc)
        self.draft.profiles[profile_id] = found
        return found

    async def _lead_on(self, merged: Doc) -> Stored | None:
        """Return the profile that a merged one lives on in, under its lock; a merge that is half done is finished."""
        self._give_back(merged["id"])
        if self.recent:
            # Its session may be in a write of the profile that was merged: only a reader of all that is new sees it.
            raise StartAgain
        held = self.held
        merging = Merging(self.store, held.locks, held.ends)
        living = await merging.settled(self.draft.tenant, merged["id"])
        if living is None:
            return None
        await self._take(living["id"])
        found = await self._read(living["id"])
        if found is None:
            self._give_back(living["id"])
        return found

    async def _read(self, profile_id: str) -> Stored | None:
        ref = Ref("profile", doc_key("profile", self.draft.tenant, profile_id))
        (found,) = await self.store.read([ref], recent=self.recent)
        return found

    async def _take(self, profile_id: str) -> bool:
        return await self.held.take(doc_key("profile", self.draft.tenant, profile_id))

    def _give_back(self, profile_id: str) -> None:
        self.held.give_back(doc_key("profile", self.draft.tenant, profile_id))


async def _settle(
    job: Job, draft: Draft, session_id: str | None, profile_id: str | None, reader: ProfileReader
) -> None:
    request = job.request
    if request.session_id is None and session_id is not None:
        # A node wants to attach this session: its profile comes along, so it must be locked too.
        stored = draft.sessions[session_id]
        profile_id = (stored.doc["profile"] if stored else None) or profile_id
    elif session_id is not None:
        draft.join_session(session_id, job.source.id)
        _take_over(job, draft)
    if request.profile_less:
        if profile_id is not None:
            await reader.hold(profile_id)
        return
    await _choose_profile(job, draft, profile_id, reader)
    if draft.session_is_new:
        stats.count_visit(draft)
    draft.link_session()


async def _choose_profile(job: Job, draft: Draft, named: str | None, reader: ProfileReader) -> None:
    of_session = draft.session["profile"] if draft.session else None
    ways: tuple[tuple[str | None, str], ...] = (
        (of_session, "session"),
        (named, "client"),
        (job.adopt, "claim"),
    )
    if job.identified is not None:
        # Whom an identifying value named goes before whom the client named; a session that is stored was moved, maybe
        # to a profile that is still to be made.
        of_session = None if draft.session_is_new else of_session
        ways = ((of_session, "session") if of_session else (job.identified, "identified"),)
    for profile_id, by in ways:
        found = await reader.hold(profile_id) if profile_id is not None else None
        if found is not None:
            draft.use_profile(found.doc, found.version)
            draft.profile_by = by
            if named is not None and profile_id != named:
                draft.profile_asked = named
            return
    if not job.makes_profiles:
        raise InputError(404, "no_profile", "There is no such profile any more.")
    # An id that the server did not give out is not adopted, unless the source may choose ids.
    # An id that a session names, or that was claimed, for a profile nobody made is taken, so that all who want it make
    # one.
    claimed = of_session or job.identified or job.adopt
    chosen = named if job.source.trust_profile_ids else None
    made = draft.create_profile(claimed or chosen)
    draft.profile_by = "chosen" if made["id"] == chosen else "new"
    if named is not None and made["id"] != named:
        draft.profile_asked = named


def _take_over(job: Job, draft: Draft) -> None:
    """Keep the request's context and properties with its session, as far as the session stays of a bounded size."""
    session = draft.session
    for name, given in (("context", job.request.context), ("properties", job.request.properties)):
        if session is not None and given:
            # A copy: what a node writes into the session must not reach the request, which may run again.
            merged = session[name] | plain(given)
            if len(_encode(merged)) > LARGEST_PART:
                continue
            session[name] = merged
            draft.touched.add("session")
