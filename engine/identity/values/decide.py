"""What an identifying value means for the profile of an event."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from headrace.engine.identity.values.kinds import Kind, kind_of
from headrace.engine.model import Doc

TRUSTED, CLAIMED = "identities", "claimed"
"""Members of a profile: values that a trusted source said are its own, and values that anybody said."""

BY_CLAIMED = "claimed:"
"""How `by` of a merge begins that only an untrusted value is the reason for."""


class Decision(StrEnum):
    """What is done; every word stands in the event's document as it is here."""

    KEPT = "kept"
    """Nobody had the value: it is the profile's from now on."""
    NOTED = "noted"
    """The same, of a value that is not trusted."""
    KNOWN = "known"
    """The profile has it."""
    MERGED = "merged"
    """Another profile has it, and both are one person."""
    MOVED = "moved"
    """Another profile has it, or none, and it cannot be this one: the session goes to that other one."""
    ATTACHED = "attached"
    """The event had no profile, and got the one that has the value."""
    UNTRUSTED = "untrusted"
    """Anybody may have sent it, and it is about a person who is known: nothing is done."""
    OUTWEIGHED = "outweighed"
    """A value that goes first says who it is."""
    FULL = "full"
    """The profile has as many values of the kind as it may have."""
    NOBODY = "nobody"
    """The event has no profile, and none has the value."""


KEEPING = frozenset((Decision.KEPT, Decision.NOTED))
"""By what a profile gets a value that nobody had."""

SETTLING = frozenset((Decision.KEPT, Decision.KNOWN, Decision.ATTACHED))
"""What ends the question who it is, for the trusted values that follow."""

WHY: Mapping[str, str] = {
    Decision.KEPT: "nobody had the value, and it is the profile's own from now on",
    Decision.NOTED: "nobody had claimed the value; its source is not trusted, so it is only noted",
    Decision.KNOWN: "the profile has the value",
    Decision.MERGED: "another profile had the value, and the two became one",
    Decision.MOVED: "it is somebody else's, or a second person's, so the session went to that one",
    Decision.ATTACHED: "the event had no profile, and got the one that has the value",
    Decision.UNTRUSTED: "its source is not trusted, and this would be about somebody who is known",
    Decision.OUTWEIGHED: "a value that goes first says who it is",
    Decision.FULL: "the profile has as many values of the kind as it may have",
    Decision.NOBODY: "the event has no profile, and nobody has the value",
}
"""The same in words, for who asks what happened to an event."""


class Said(NamedTuple):
    """A value of an event: its kind, whether its source is trusted to say it, whether a value before it was settled."""

    kind: Kind
    value: str
    is_trusted: bool
    is_settled: bool = False


def decide(asked: Said, mine: Doc | None, other: Doc | None, kinds: Mapping[str, Kind]) -> Decision:
    """Return what a value means.

    `mine` is the profile of the event, or None; `other` the one that has the value now, maybe the same, or None.
    """
    if mine is None:
        return Decision.ATTACHED if asked.is_trusted and other is not None else Decision.NOBODY
    if other is not None and other["id"] == mine["id"]:
        return Decision.KNOWN
    return _trusted(asked, mine, other, kinds) if asked.is_trusted else _untrusted(asked, mine, other, kinds)


def _trusted(asked: Said, mine: Doc, other: Doc | None, kinds: Mapping[str, Kind]) -> Decision:
    kind = asked.kind
    if other is None:
        fits = has_room(mine, TRUSTED, kind) and not is_doubtful(mine)
        moves = Decision.MOVED
        good = Decision.KEPT
    else:
        fits = may_be_one(kind, mine, other, kinds) and not is_doubtful(mine)
        moves, good = Decision.MOVED, Decision.MERGED
    if fits:
        return good
    # What goes first has said who it is: two values of one event must not send a session to and fro.
    return Decision.OUTWEIGHED if asked.is_settled else moves


def _untrusted(asked: Said, mine: Doc, other: Doc | None, kinds: Mapping[str, Kind]) -> Decision:
    kind = asked.kind
    if is_identified(mine) or (other is not None and is_identified(other)):
        return Decision.UNTRUSTED
    if other is None:
        return Decision.NOTED if has_room(mine, CLAIMED, kind) else Decision.FULL
    if not may_be_one(kind, mine, other, kinds):
        return Decision.UNTRUSTED
    return Decision.MERGED if _fit(CLAIMED, mine, other, kinds) else Decision.FULL


def is_identified(profile: Doc) -> bool:
    """Say whether it is known, from somebody who is trusted, who the profile is."""
    return any(profile.get(TRUSTED, {}).values())


def is_doubtful(profile: Doc) -> bool:
    """Say whether it is nobody known, and several visitors who may be strangers to each other.

    What made one of them was only said: no person who signs in on one of these visits gets the others with it, or they
    would read what is known of that person.
    """
    return not is_identified(profile) and any(
        str(one.get("by", "")).startswith(BY_CLAIMED) for one in profile.get("absorbed", ())
    )


def has_room(profile: Doc, member: str, kind: Kind) -> bool:
    """Say whether a profile may get another value of a kind."""
    return len(profile.get(member, {}).get(kind.name, ())) < kind.per_profile


def may_be_one(kind: Kind, mine: Doc, other: Doc, kinds: Mapping[str, Kind]) -> bool:
    """Say whether nothing stands against two profiles being one person."""
    if len(mine["ids"]) + len(other["ids"]) > kind.most_profiles:
        return False
    return not is_apart(mine, other) and _fit(TRUSTED, mine, other, kinds)


def is_apart(mine: Doc, other: Doc) -> bool:
    """Say whether somebody took the two profiles apart."""
    return _meet(mine.get("apart", ()), other["ids"]) or _meet(other.get("apart", ()), mine["ids"])


def terms_of(said: Said, kinds: Mapping[str, Kind]) -> Doc:
    """Return on what terms two profiles are merged for a value, as data: they are looked at again as it is done."""
    return {
        "trusted": said.is_trusted,
        "most_profiles": said.kind.most_profiles,
        "limits": {kind.name: kind.per_profile for kind in kinds.values()},
    }


def holds(terms: Doc, one: Doc, other: Doc) -> bool:
    """Say whether two profiles may become one on these terms: either may have changed since it was decided."""
    kinds = {name: Kind(name, limit) for name, limit in terms["limits"].items()}
    if not may_be_one(Kind("", most_profiles=terms["most_profiles"]), one, other, kinds):
        return False
    if terms["trusted"]:
        return not is_doubtful(one) and not is_doubtful(other)
    return not is_identified(one) and not is_identified(other) and _fit(CLAIMED, one, other, kinds)


def _meet(some: Iterable[str], others: Iterable[str]) -> bool:
    return not set(some).isdisjoint(others)


def _fit(member: str, mine: Doc, other: Doc, kinds: Mapping[str, Kind]) -> bool:
    """Say whether the two would have no more values of any kind than one profile may have."""
    theirs = other.get(member, {})
    return all(
        len({*values, *theirs.get(name, ())}) <= kind_of(kinds, name).per_profile
        for name, values in mine.get(member, {}).items()
        if theirs.get(name)
    )
