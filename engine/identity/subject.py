"""Who an event is about: what identifying values mean for its profile."""

from typing import Any, Protocol

from headrace.engine.draft import Draft, without_own
from headrace.engine.errors import NodeError
from headrace.engine.identity.values.decide import (
    BY_CLAIMED,
    CLAIMED,
    KEEPING,
    SETTLING,
    TRUSTED,
    Decision,
    Said,
    is_apart,
    terms_of,
)
from headrace.engine.identity.values.kinds import kind_of
from headrace.engine.identity.values.weigh import Ground, Owner, claim_of, find_owners, weigh, with_value
from headrace.engine.model import Doc
from headrace.engine.needs import Reads
from headrace.engine.restart import Detour


class Budget(Protocol):
    """The part of a budget that this needs: whether a trusted value has said who the event is about."""

    is_settled: bool


class Passage(Protocol):
    """The part of an event's passage that this needs (`headrace.engine.passage` is the real one)."""

    draft: Draft
    key: str

    @property
    def budget(self) -> Budget:
        """What the event has left."""
        ...

    @property
    def ground(self) -> Ground:
        """What identifying stands on."""
        ...

    @property
    def reads(self) -> Reads:
        """What nodes may look up."""
        ...

    def put(self, container: Doc, key: str, value: Any, where: str) -> None:
        """Write one member of the event's documents so that it can be taken back."""
        ...

    def attach_profile(self, profile_id: str | None) -> str:
        """Give the event a stored profile."""
        ...


class Subject:
    """Whom one event is about. First `ask` whose a value is, then `identify`; a node does the second in its journal."""

    __slots__ = ("_ground", "_passage")

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self._ground = passage.ground

    async def ask(self, kind: str, value: Any) -> tuple[Said, Owner | None] | None:
        """Return a value of a kind as it is compared, and whose it is; None for one that identifies nobody."""
        wanted = kind_of(self._ground.kinds, kind)
        text = wanted.normalise(value)
        if text is None:
            return None
        asked = Said(wanted, text, self._ground.is_trusted or wanted.takes_any)
        (owner,) = await find_owners(self._passage.reads, self._passage.draft, [asked])
        return asked, owner

    async def find(self, kind: str, value: Any) -> Doc | None:
        """Return the profile that has a value of a kind, as nodes may see it; for a source that is not trusted None."""
        found = await self.ask(kind, value)
        if found is None or not found[0].is_trusted or found[1] is None or found[1].profile is None:
            return None
        return without_own(found[1].profile)

    def decide(self, asked: Said, owner: Owner | None) -> Decision:
        """Return what a value means for the event's profile."""
        passage, ground = self._passage, self._ground
        settled = asked._replace(is_settled=passage.budget.is_settled)
        decision = weigh(passage.draft, settled, owner, ground.kinds)
        if decision is Decision.MOVED and decision not in ground.detours:
            # A run that goes on, or a replay, belongs to its profile.
            return Decision.OUTWEIGHED
        return decision

    def identify(self, asked: Said, owner: Owner | None) -> Decision:
        """Let the event's profile have a value, as far as it may, and return what it means.

        Raises Detour when profiles are to be merged, or the session moves, Needs when another profile must be locked.
        """
        decision = self.decide(asked, owner)
        passage, ground = self._passage, self._ground
        profile = passage.draft.profile
        if decision is Decision.ATTACHED and owner is not None:
            passage.attach_profile(owner.id)
            if ground.identifies and passage.draft.profile is not None:
                # It may only have the claim, and not the value yet.
                self._keep(passage.draft.profile, asked)
        elif profile is None or not ground.identifies:
            return decision
        elif owner is not None and owner.profile is None and owner.id != profile["id"]:
            again = Detour(passage.key, asked.kind.name, None, profile)
            again.asked, again.owner = asked, owner
            raise again
        elif decision in ground.detours:
            again = self._detour(asked.kind.name, decision, None if owner is None else owner.id)
            again.terms = terms_of(asked, ground.kinds)
            again.by = asked.kind.name if asked.is_trusted else BY_CLAIMED + asked.kind.name
            raise again
        elif decision in KEEPING or decision is Decision.KNOWN:
            self._keep(profile, asked)
        if asked.is_trusted and decision in SETTLING:
            passage.budget.is_settled = True
        return decision

    async def may_merge(self, other: str) -> tuple[str, str]:
        """Return whether the event's profile may be merged with another one, and the id that this one has now.

        The first is `merged`, `known` (they are one), `not_found`, or `refused`: the source is not trusted, or somebody
        took the two apart.
        """
        if not self._ground.is_trusted:
            return "refused", other
        doc = await self._passage.reads.find_living(other)
        if doc is None:
            return "not_found", other
        profile = self._profile()
        if doc["id"] == profile["id"]:
            return "known", other
        return ("refused" if is_apart(profile, doc) else "merged"), str(doc["id"])

    def merge(self, other: str, by: str) -> None:
        """Have the event's profile merged with another stored one. Raises Detour, unless they are one already.

        Raises NodeError when the event has no profile.
        """
        if other != self._profile()["id"] and Decision.MERGED in self._ground.detours:
            raise self._detour(by, Decision.MERGED, other)

    def _profile(self) -> Doc:
        profile = self._passage.draft.profile
        if profile is None:
            raise NodeError("the event has no profile to merge")
        return profile

    def _detour(self, name: str, decision: Decision, other: str | None) -> Detour:
        draft = self._passage.draft
        again = Detour(self._passage.key, name, decision, draft.profile)
        again.other = other
        again.is_new = draft.profile_is_new
        return again

    def _keep(self, profile: Doc, asked: Said) -> None:
        values = with_value(profile, asked)
        if values is not None:
            passage = self._passage
            member = TRUSTED if asked.is_trusted else CLAIMED
            passage.put(profile, member, values, f"profile.{member}")
            passage.draft.claims.append(claim_of(passage.draft, profile["id"], asked))
