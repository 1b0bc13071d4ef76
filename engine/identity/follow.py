"""Finds the profile that an id means now."""

from collections.abc import Sequence
from typing import Protocol

from headrace.engine.model import Doc, doc_key
from headrace.engine.store.protocol import Ref, Stored

MERGED = "merged_into"
"""What a profile that was merged names: the one that it lives on in."""

MERGING = "merging_into"
"""The same while the merge is under way: nobody but the merge writes such a profile."""

SAID = "merging"
"""What a profile has beside `merging_into`: who merges it, since when, and by which strategies."""


def is_merged(profile: Doc) -> bool:
    """Say whether a profile was merged into another one, or is being merged."""
    return MERGED in profile or MERGING in profile


def without_notes(profile: Doc) -> Doc:
    """Return a profile as it was before it was frozen."""
    return {name: value for name, value in profile.items() if name not in (MERGING, SAID)}


class Reads(Protocol):
    """The part of a store that this needs."""

    async def read(self, refs: Sequence[Ref], *, recent: bool = False) -> list[Stored | None]:
        """Return each document by its id, or None."""
        ...


async def read_stored(store: Reads, tenant: str, profile: str) -> Stored | None:
    """Return what stands under a profile's own id, be it merged or not, or None. Raises StoreError."""
    (found,) = await store.read([Ref("profile", doc_key("profile", tenant, profile))])
    return found


async def find_living(store: Reads, tenant: str, profile: str) -> Doc | None:
    """Return the profile that an id means now, or None. Raises StoreError.

    Of a merge that is half done it is the one that has the values of both, or the loser as long as there is none.
    """
    found = await read_stored(store, tenant, profile)
    while found is not None:
        doc = found.doc
        into = doc.get(MERGED) or doc.get(MERGING)
        if into is None:
            return doc
        after = await read_stored(store, tenant, into)
        if MERGED not in doc and (after is None or doc["id"] not in _all_ids(after.doc)):
            return without_notes(doc)
        found = after
    return None


async def follow(store: Reads, tenant: str, profile: str) -> str:
    """Return the id of the profile that an id means now; the id itself when there is none. Raises StoreError."""
    found = await find_living(store, tenant, profile)
    return profile if found is None else str(found["id"])


async def ids_of(store: Reads, tenant: str, profile: str) -> tuple[str, ...]:
    """Return the ids under which the documents of a profile stand, the one that was asked for among them.

    What was a merged profile's stands under its id until it is re-owned.
    """
    found = await find_living(store, tenant, profile)
    return tuple(dict.fromkeys((profile, *_all_ids(found or {}))))


def _all_ids(doc: Doc) -> list[str]:
    """Return the ids of a profile, of one that was merged since as it was before."""
    whole = doc.get("frozen") or doc
    return list(whole.get("ids") or ())
