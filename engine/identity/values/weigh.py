"""Looks up whose an identifying value is, and weighs it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from headrace.engine.identity.values.decide import CLAIMED, TRUSTED, Decision, Said, decide
from headrace.engine.identity.values.kinds import Kind, claim_key
from headrace.engine.model import Doc
from headrace.engine.store.protocol import Claim


class Owner(NamedTuple):
    """Whose a value is: the profile, as it is now; None is one that nobody made yet, under the id of the claim.

    `since` is when the claim was made (`model.iso`).
    """

    id: str
    profile: Doc | None
    since: str = ""


class Draft(Protocol):
    """The part of a draft that this needs (`headrace.engine.draft` is the real one)."""

    tenant: str
    now: str
    profile: Doc | None
    own: dict[str, Any]


class Owners(Protocol):
    """Reads claims by their keys."""

    async def find_owners(self, keys: Sequence[str]) -> list[Owner | None]:
        """Return whom each claim names, by way of merges; None where there is no claim."""
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
    """Return whose values are, nobody's as None. What the profile is known to have is not looked up."""
    owners = [_mine(draft, one) for one in asked]
    keys = {
        number: claim_key(draft.tenant, one.kind.name, one.value, is_trusted=one.is_trusted)
        for number, (one, owner) in enumerate(zip(asked, owners, strict=True))
        if owner is None
    }
    found = await reads.find_owners(list(keys.values())) if keys else []
    for number, owner in zip(keys, found, strict=True):
        owners[number] = owner
    return owners


def _mine(draft: Draft, asked: Said) -> Owner | None:
    profile = draft.profile
    if profile is None:
        return None
    member = TRUSTED if asked.is_trusted else CLAIMED
    if asked.value in profile.get(member, {}).get(asked.kind.name, ()):
        return Owner(profile["id"], profile)
    return None


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
    return Claim(key, profile, {"kind": asked.kind.name, "at": draft.now})


def with_value(profile: Doc, asked: Said) -> Doc | None:
    """Return the profile's values, of all kinds, with one more; None when it is among them."""
    values: Doc = profile.get(TRUSTED if asked.is_trusted else CLAIMED, {})
    mine = values.get(asked.kind.name, [])
    return None if asked.value in mine else {**values, asked.kind.name: [*mine, asked.value]}
