"""What the next commit will write, while it is worked on."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from headrace.engine.model import Doc, doc_key, new_id, new_profile, new_session
from headrace.engine.store.protocol import CLAIMED, Change, Claim, Row, Stored, Version, Write
from headrace.engine.writing import path

WAITS = "waits"
"""What the runs of a profile wait for; only profiles for which some do have it."""

PAST = "past"
"""What its segments know of the events of a profile; see `segments.past`."""

CHANGED = "changed"
"""When its fields were last written; only profiles that may be merged by that have it."""

CAME_BY = "sources"
"""The sources by which it came; only profiles of tenants have it of whose sources one asks for consents."""

FIRST_SET = "first_set"
"""The strategy for fields of which the value counts that was there first."""

OWN = (WAITS, PAST, CHANGED, CAME_BY, "absorbed")
"""Members of a profile that are the engine's own: no node, no expression and no door sees them."""

NOTES = frozenset((*OWN, "throttles", "ordered"))
"""All members of a profile in which the engine remembers what is going on; they are for the read API."""

HIDDEN = "hidden"
"""Marks a session that was not to be saved: it only says which profile its id belongs to."""

PROFILE_BY = {
    "session": "the session belongs to it",
    "client": "the client named it, and it is one that is known",
    "claim": "another request of the same session made it",
    "new": "it was made with this request: nothing said whose the event is",
    "chosen": "it was made with this request, under the id that the source chose",
    "identified": "an identifying value of the event, or of one before it in the request, is its own",
}
"""How an event comes to its profile before its workflows run; afterwards one of them may attach one."""


def without_own(profile: Doc) -> Doc:
    """Return a profile as nodes may see it."""
    return {name: value for name, value in profile.items() if name not in OWN}


def merged_owner(session: Doc, profile: Doc) -> str | None:
    """Return whose a session was that is to go to a profile, if that one was merged into it and nothing says so yet.

    It is noted as `profile_then`: un-merging gives the session back.
    """
    before: str | None = session["profile"]
    return before if before in profile["ids"] and "profile_then" not in session else None


class Draft:
    """Profile, session and new documents of one visitor, and from what versions they started.

    `profiles` and `sessions` hold what a run may attach, by id: documents that were read under their lock, or None.
    `waits` are the events that runs of the profile wait for, a list that is never changed in place. `own` are the other
    members of the profile that are the engine's own, by name.
    `timed` has the paths, beside traits, of which it is noted when they were last written, with their strategies; None
    where nobody asks, and then only a profile that has such times keeps them right.
    `unused` are claims, by their keys, of profiles that did not come to have what they claim.
    `session_attached` says that a node brought the session, which then belongs to the profile of the event.
    `came_by` is the source that is to be noted in the profile, or None. `profile_by` says how the request came to its
    profile, one of `PROFILE_BY`; `profile_asked` is an id that the client named and did not get.
    """

    def __init__(self, tenant: str, now: str, *, save_session: bool = True) -> None:
        self.id = new_id()
        self.save_session = save_session
        self.tenant = tenant
        self.now = now
        self.profile: Doc | None = None
        self.profile_version: Version | None = None
        self.profile_is_new = False
        self.profile_by: str | None = None
        self.profile_asked: str | None = None
        self.session: Doc | None = None
        self.session_version: Version | None = None
        self.session_is_new = False
        self.session_was_hidden = False
        self.session_attached = False
        self.session_before: Doc | None = None
        self.linked = False
        self.adopt: str | None = None
        self.touched: set[str] = set()
        self.profiles: dict[str, Stored | None] = {}
        self.sessions: dict[str, Stored | None] = {}
        self.claims: list[Claim] = []
        self.unused: dict[str, str] = {}
        self.events: list[Row] = []
        self.marks: list[Row] = []
        self.failed: list[Row] = []
        self.effects: list[Row] = []
        self.timers: list[Row] = []
        self.waits: list[Doc] = []
        self.own: dict[str, Any] = {}
        self.timed: Mapping[str, str] | None = None
        self.came_by: str | None = None

    def use_profile(self, doc: Doc, version: Version | None) -> Doc:
        """Take a profile as the visitor's, and return it; `version` None says that it is new.

        What is the engine's own is taken out of it, so that no node sees it, until it is written.
        """
        own = {name: doc[name] for name in OWN if name in doc}
        if own:
            doc = without_own(doc)
        self.waits = own.pop(WAITS, [])
        self.own = own
        self.profile = doc
        self.profile_version = version
        self.profile_is_new = version is None
        if version is None:
            self.touched.add("profile")
        return doc

    def create_profile(self, profile_id: str | None = None) -> Doc:
        """Make a new profile and take it; without an id that was claimed and never used, under a new one."""
        return self.use_profile(
            new_profile(profile_id or self.adopt or new_id(), self.tenant, self.now), None
        )

    def use_session(self, doc: Doc, version: Version | None) -> Doc:
        """Take a session as the visit, and return it; `version` None says that its id is not claimed yet.

        A hidden one was never saved: the visit is known, with its source and times, and nothing else of it.
        """
        self.session_was_hidden = bool(doc.get(HIDDEN))
        if self.session_was_hidden:
            kept = {name: value for name, value in doc.items() if name != HIDDEN}
            doc = new_session(doc["id"], self.tenant, doc["source"], self.now) | kept
        elif version is not None and not self.save_session and doc["profile"] is None:
            self.session_before = deepcopy(doc)
        self.session = doc
        self.session_version = version
        self.session_is_new = version is None
        if version is None:
            self.touched.add("session")
        return doc

    def join_session(self, session_id: str, source: str) -> Doc:
        """Take a session that was read under its lock, or begin it; one that is only claimed begins too."""
        stored = self.sessions[session_id]
        if stored is not None and not stored.doc.get(CLAIMED):
            return self.use_session(stored.doc, stored.version)
        doc = self.use_session(new_session(session_id, self.tenant, source, self.now), None)
        if stored is not None:
            doc["profile"] = stored.doc["profile"]
            self.session_version = stored.version
        return doc

    def claims_key(self, key: str) -> bool:
        """Say whether a key is that of an identifying value which the change claims."""
        return any(claim.key == key for claim in self.claims)

    def snapshot(self) -> dict[str, Any]:
        """Return which profile and session are taken, for `restore`; their contents are not copied."""
        return {**vars(self), "touched": set(self.touched)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take the profile and session as they were."""
        vars(self).update(snapshot)

    def link_session(self) -> None:
        """Let the session say whose it is."""
        if self.session is None or self.profile is None or self.session["profile"] == self.profile["id"]:
            return
        if (merged := merged_owner(self.session, self.profile)) is not None:
            self.session["profile_then"] = merged
        self.session["profile"] = self.profile["id"]
        self.linked = True
        self.touched.add("session")

    def touch(self, edits: list[path.Edit]) -> None:
        """Note which documents an event changed."""
        if self.timed is not None or CHANGED in self.own:
            self._note_times(edits)
        if "profile" in self.touched and "session" in self.touched:
            return
        for edit in edits:
            self.touched.add(edit.path.partition(".")[0])

    def _note_times(self, edits: list[path.Edit]) -> None:
        """Note when fields of the profile were written: which of two is newer decides when profiles are merged."""
        timed, known = self.timed or {}, self.own.get(CHANGED, {})
        times = {
            edit.path: self.now
            for edit in edits
            if (edit.path.startswith("profile.traits") or edit.path in timed)
            # Of some fields it is asked when they first had a value.
            and not (edit.path in known and timed.get(edit.path) == FIRST_SET)
        }
        if times:
            self.own[CHANGED] = known | times

    def change(self) -> Change:
        """Return everything as one change of the store."""
        if self.came_by is not None and self.profile is not None:
            self._note_source(self.came_by)
        if "profile" in self.touched and self.profile is not None:
            self.profile["time"]["updated"] = self.now
        if self.profile is not None:
            if self.waits:
                self.profile[WAITS] = self.waits
            if self.own:
                self.profile |= self.own
        return Change(
            id=self.id,
            tenant=self.tenant,
            profile=self._write("profile", self.profile, self.profile_version),
            session=self._session_write(),
            claims=self.claims,
            events=self.events,
            marks=self.marks,
            failed=self.failed,
            effects=self.effects,
            timers=self.timers,
        )

    def _note_source(self, source: str) -> None:
        """Note by which source the profile came; one that is older than such notes may have come by any, for good."""
        known = self.own.get(CAME_BY, [] if self.profile_is_new else None)
        if known is not None and source not in known:
            self.own = {**self.own, CAME_BY: [*known, source]}
            self.touched.add("profile")

    def _session_write(self) -> Write | None:
        if self.session is None or self.save_session:
            if self.session is not None and "session" in self.touched:
                self.session["n"] += 1
                self.session["time"]["updated"] = self.now
            return self._write("session", self.session, self.session_version)
        if not (self.session_is_new or self.session_was_hidden):
            return self._claim_write()
        hidden = {
            "id": self.session["id"],
            "tenant": self.tenant,
            "profile": self.session["profile"],
            "source": self.session["source"],
            "time": self.session["time"],
            "n": self.session["n"],
            HIDDEN: True,
        }
        if "profile_then" in self.session:
            hidden["profile_then"] = self.session["profile_then"]
        write = self._write("session", hidden, self.session_version)
        if write is not None:
            write.changed = self.session_is_new or self.linked
        return write

    def _claim_write(self) -> Write | None:
        """Return a session that was saved before as it was then, with the profile that it has got now."""
        if self.session is None or self.session_before is None or not self.linked:
            return None
        doc = {**self.session_before, "profile": self.session["profile"], "n": self.session_before["n"] + 1}
        if "profile_then" in self.session:
            doc["profile_then"] = self.session["profile_then"]
        return Write(doc_key("session", self.tenant, doc["id"]), doc, self.session_version)

    def _write(self, kind: str, doc: Doc | None, version: Version | None) -> Write | None:
        if doc is None:
            return None
        return Write(doc_key(kind, self.tenant, doc["id"]), doc, version, changed=kind in self.touched)
