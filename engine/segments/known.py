"""Remembers which conditions of segments all profiles were asked."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from headrace.engine.files.segment import Segment
from headrace.engine.files.watched import Computed, Watched
from headrace.engine.files.workspace import Workspace
from headrace.engine.model import Doc, iso_now, make_key
from headrace.engine.store.protocol import Ask, Query, Ref, Row, State


class Kept(State, Ask, Protocol):
    """The part of a store that this needs."""


def tenants_of(workspace: Workspace) -> list[str]:
    """Return the tenants that have sources, each once."""
    return list(dict.fromkeys(source.tenant for source in workspace.sources.values()))


async def not_known(store: Kept, tenant: str, segments: Sequence[Computed]) -> list[str]:
    """Return the names of segments whose condition, as it is now, was not asked of all profiles yet.

    Raises StoreError.
    """
    refs = [Ref("workflow", _key(tenant, segment)) for segment in segments]
    found = await store.read(refs) if refs else []
    return [segment.name for segment, kept in zip(segments, found, strict=True) if kept is None]


async def keep_known(store: Kept, tenant: str, segments: Iterable[Computed]) -> None:
    """Remember that all profiles were asked. Raises StoreError."""
    for segment in segments:
        doc = {
            "name": f"segments/{segment.name}",
            "version": segment.mark,
            "text": segment.when.source,
            "tenant": tenant,
            "created": iso_now(),
        }
        await store.keep_workflow(Row(_key(tenant, segment), doc))


async def due(store: Kept, tenant: str, segments: Sequence[Computed]) -> list[str]:
    """Return the names of segments for which a rebuild is due; where there are no profiles, none is.

    Raises StoreError.
    """
    names = await not_known(store, tenant, segments)
    if names and not await store.count(Query("profile", tenant), 1):
        await keep_known(store, tenant, [segment for segment in segments if segment.name in names])
        return []
    return names


async def describe(store: Kept, tenant: str, segments: Mapping[str, Segment], watched: Watched) -> list[Doc]:
    """Return what is to be said of each segment: its condition, how many are in it, whether a rebuild is due.

    Raises StoreError.
    """
    late = await due(store, tenant, watched.lasting())
    told = []
    for name, segment in segments.items():
        members = await store.count(Query("profile", tenant, where={"segments": name}))
        one: Doc = {"segment": name, "about": segment.about, "members": members}
        if segment.when is not None:
            one |= {
                "when": segment.when.source,
                "by_time": segment.when.is_timed and segment.when.is_lasting,
                "rebuild": "due" if name in late else "done" if segment.when.is_lasting else "never",
            }
        told.append(one)
    return told


def _key(tenant: str, segment: Computed) -> str:
    return make_key("segment", tenant, segment.name, segment.mark)
