"""Looks up whose an identifying value is, and weighs it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from headrace.engine.identity.values.decide import CLAIMED, KEEPING, TRUSTED, Decision, Said, decide
from headrace.engine.identity.values.kinds import Kind, claim_key
from headrace.engine.model import Doc
from headrace.engine.store.protocol import Claim


class Owner(NamedTuple):
    """Whose a value is: the profile, as it is now; None is one that nobody made yet, under the id of the claim.

    `since` is when the claim was made (`model.iso`), `named` the profile that it names, which may be merged since.
    """

    id: str
    profile: Doc | None
    since: str = ""
    named: str = ""


class Draft(Protocol):
    """The part of a draft that this needs (`headrace.engine.draft` is the real one)."""

    tenant: str
    now: str
    profile: Doc | None
    own: dict[str, Any]
    unused: dict[str, str]


class Owners(Protocol):
    """Reads claims by their keys."""

    async def find_owners(self, keys: Sequence[str]) -> list[Owner | None]:
        """Return whom each claim names, by way of merges; None where there is no claim."""
        ...

    async def find_own(self, id: str) -> Doc:
        """Return what stands under an id, of a merged profile as it was before; nothing when there is nothing."""
        ...


class Ground(NamedTuple):
    """What identifying stands on: declared kinds, whether the source is trusted, and what may be done.

    Where nothing `identifies`, as in a replay, no value is kept and no detour is made.
    """

    kinds: Mapping[str, Kind] = {}
    is_trusted: bool = False
    identifies: bool = False
    detours: frozenset[Decision] = frozenset()


NO_GROUND = Ground()
"""Where nothing is identified: in examples."""


async def find_owners(reads: Owners, draft: Draft, asked: Sequence[Said]) -> list[Owner | None]:
    """Return whose values are, nobody's as None. What the profile is known to have is not looked up.

    A profile that only has the claim, for who made it was killed before the commit, has the value if it may keep it.
    """
    owners = [_mine(draft, one) for one in asked]
    keys = {
        number: claim_key(draft.tenant, one.kind.name, one.value, is_trusted=one.is_trusted)
        for number, (one, owner) in enumerate(zip(asked, owners, strict=True))
        if owner is None
    }
    found = await reads.find_owners(list(keys.values())) if keys else []
    for (number, key), owner in zip(keys.items(), found, strict=True):
        owners[number] = owner
        if owner is None or await _is_used(reads, draft, asked[number], owner):
            continue
        draft.unused[key] = owner.named
        if decide(asked[number], _now(draft, owner), None, {}) not in KEEPING:
            # Nobody can write it with the value any more: whoever decided to had read it before it was as it is.
            owners[number] = None
    return owners


async def _is_used(reads: Owners, draft: Draft, asked: Said, owner: Owner) -> bool:
    """Say whether a profile has what it claims, or comes to have it: who is just being made, or taken apart."""
    profile = _now(draft, owner)
    if profile is None or _has(profile, asked):
        return True
    # Who is just taken out of another one gets it back, or has it by now.
    return owner.named != owner.id and _has(await reads.find_own(owner.named), asked)


def _now(draft: Draft, owner: Owner) -> Doc | None:
    """Return whose a value is, as the draft has it."""
    mine = draft.profile
    return {**mine, **draft.own} if mine is not None and mine["id"] == owner.id else owner.profile


def _has(profile: Doc, asked: Said) -> bool:
    member = TRUSTED if asked.is_trusted else CLAIMED
    return asked.value in profile.get(member, {}).get(asked.kind.name, ())


def _mine(draft: Draft, asked: Said) -> Owner | None:
    profile = draft.profile
    if profile is None:
        return None
    return Owner(profile["id"], profile) if _has(profile, asked) else None


def weigh(draft: Draft, asked: Said, owner: Owner | None, kinds: Mapping[str, Kind]) -> Decision:
    """Return what a value means for the draft's profile. A claimed profile that is not made yet counts as none."""
    mine = draft.profile
    if mine is not None:
        if owner is not None and owner.id == mine["id"]:
            return Decision.KNOWN
        # What it absorbed is the engine's own, and stands beside it.
        mine = {**mine, **draft.own}
    return decide(asked, mine, None if owner is None else owner.profile, kinds)


def claim_of(draft: Draft, profile: str, asked: Said) -> Claim:
    """Return the claim of a value for a profile."""
    key = claim_key(draft.tenant, asked.kind.name, asked.value, is_trusted=asked.is_trusted)
    return Claim(key, profile, {"kind": asked.kind.name, "at": draft.now}, draft.unused.get(key))


def with_value(profile: Doc, asked: Said) -> Doc | None:
    """Return the profile's values, of all kinds, with one more; None when it is among them."""
    values: Doc = profile.get(TRUSTED if asked.is_trusted else CLAIMED, {})
    mine = values.get(asked.kind.name, [])
    return None if asked.value in mine else {**values, asked.kind.name: [*mine, asked.value]}
