"""A store in memory, for tests of workflows and dry runs."""

import copy
from collections.abc import Sequence

from headrace.engine.model import Doc, iso
from headrace.engine.store.protocol import Change, Committed, Outcome, Page, Query, Ref, Row, Stored, Version


class MemoryStore:
    """Keeps documents in dictionaries: the write path, and the questions about events that nodes ask.

    There is one writer, who never loses a race: what a commit conflicts with is not looked for.
    """

    lags = False
    """What is committed is found at once."""

    def __init__(self) -> None:
        self.docs: dict[Ref, Doc] = {}
        self.events: dict[str, Doc] = {}
        self.effects: list[Doc] = []
        self.timers: list[Doc] = []
        self.failed: list[Doc] = []
        self._version: Version = (1, 0)

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:  # noqa: ARG002
        """Return copies of documents, which the reader may change."""
        found = [self.docs.get(ref) for ref in refs]
        return [None if doc is None else Stored(copy.deepcopy(doc), self._version) for doc in found]

    async def commit(self, change: Change) -> Outcome:
        """Take a change."""
        if change.profile is not None:
            self.docs[Ref("profile", change.profile.key)] = copy.deepcopy(change.profile.doc)
        if change.session is not None:
            self.docs[Ref("session", change.session.key)] = copy.deepcopy(change.session.doc)
        for claim in change.claims:
            ref = Ref("claim", claim.key)
            if ref not in self.docs or self.docs[ref]["profile"] == claim.instead:
                self.docs[ref] = {**claim.doc, "profile": claim.profile}
        for row in change.events:
            self.add_event(row)
        for row in change.marks:
            self.docs[Ref("seen", row.key)] = row.doc
        for rows, kept in (
            (change.effects, self.effects),
            (change.timers, self.timers),
            (change.failed, self.failed),
        ):
            kept += [row.doc for row in rows]
        return Committed()

    def add_event(self, row: Row) -> None:
        """Keep an event."""
        self.events[row.key] = row.doc
        seen = {"id": row.doc["id"], "profile": row.doc["profile"], "content": row.doc.get("content", "")}
        self.docs[Ref("seen", row.key)] = seen

    async def keep_workflow(self, row: Row) -> None:
        """Keep a version of a workflow's file."""
        self.docs[Ref("workflow", row.key)] = row.doc

    async def keep_traces(self, traces: Sequence[Row]) -> None:
        """Keep none: who asks for a trace here has the run itself."""

    async def get(self, kind: str, key: str) -> Doc | None:
        """Return a timer; other kinds are not looked for."""
        return next((doc for doc in self.timers if kind == "timer" and doc["id"] == key), None)

    async def find(self, query: Query) -> Page:
        """Return events, the newest first; other kinds are not looked for."""
        return Page(self._matching(query)[: query.limit], None)

    async def count(self, query: Query, at_most: int | None = None) -> int:
        """Count events, no further than `at_most`."""
        found = len(self._matching(query))
        return found if at_most is None else min(found, at_most)

    def _matching(self, query: Query) -> list[Doc]:
        since = "" if query.happened_since is None else iso(query.happened_since)
        wanted = {"tenant": query.tenant, "type": query.type, "source": query.source}
        owners = query.owners
        found = [
            event
            for event in self.events.values()
            if query.kind == "event"
            and event["time"]["happened"] >= since
            and (owners is None or event.get("profile") in owners)
            and all(value is None or event.get(name) == value for name, value in wanted.items())
        ]
        return sorted(found, key=lambda event: str(event["time"]["happened"]), reverse=True)
