"""Brings the indices of an older version to this one."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from headrace.engine.errors import StoreError, StoreRefused
from headrace.engine.store.elastic import layout
from headrace.engine.store.elastic.cluster import AwayError, Cluster, RefusedError
from headrace.engine.store.elastic.layout import MONTHLY, WHOLE, Mapping, alias, as_json
from headrace.engine.store.elastic.search import ANY_INDEX, EVERYTHING, refresh, search
from headrace.engine.store.elastic.setup import ABOUT_ID, MASTER_SECONDS, Setup

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
"""How long a cluster may be away in the middle of a migration."""

GRACE_SECONDS = 25.0
"""Between the last write to an old index and the first to the new one: longer than anybody has versions at hand.

Documents count their writes anew in the new index, so that a version of the old one must not be met there.
"""

ABOVE = 600
"""The priority of the template by which a new index is made without the alias, until it is whole."""

_OURS = re.compile(r"(?P<month>\d{4}\.\d{2})(-\d{6})?|\d{6}")
"""What stands behind the kind in the name of an index; another store's prefix may begin as one of ours."""


class Step(NamedTuple):
    """One index to be made anew: its kind, name and version, how many documents it has, the new index's name.

    `switched` says that the new one is in use and only the old one is still to be deleted.
    """

    kind: str
    old: str
    version: int
    docs: int
    new: str
    switched: bool = False


class Progress(NamedTuple):
    """How far an index is: documents copied, of how many."""

    kind: str
    name: str
    done: int
    total: int


class _Index(NamedTuple):
    name: str
    version: int
    aliases: frozenset[str]
    is_blocked: bool


class _Status(msgspec.Struct):
    total: int = 0
    created: int = 0
    updated: int = 0
    version_conflicts: int = 0


class _Work(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)
    description: str = ""


class _Task(msgspec.Struct):
    completed: bool = False
    task: _Work = msgspec.field(default_factory=_Work)
    response: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


_decode_task = msgspec.json.Decoder(_Task).decode


async def plan(cluster: Cluster) -> list[Step]:
    """Return what a migration would do; nothing when all is of this version. It changes nothing.

    Raises StoreRefused when there are indices of a newer version, StoreError.
    """
    steps: list[Step] = []
    for kind in (*(one for one in WHOLE if one != "about"), *MONTHLY, "about"):
        # `about` is last: by its version a server knows that the rest is done.
        found = await _indices(cluster, kind)
        used = {index.name for index in found if alias(cluster.place, kind) in index.aliases}
        for index in found:
            if index.version > layout.VERSION:
                raise StoreRefused(
                    f"{index.name} was made by a newer Headrace (version {index.version}, here {layout.VERSION}): "
                    "install that one."
                )
            if index.version == layout.VERSION:
                continue
            new = _new_name(cluster, kind, index.name)
            # One out of use goes only if it is surely what a migration left: written no more, and replaced.
            switched = index.is_blocked and new in used and index.name not in used
            if index.name in used or switched:
                await refresh(cluster, index.name)
                docs = await _count(cluster, index.name)
                steps.append(Step(kind, index.name, index.version, docs, new, switched))
    return steps


async def migrate(
    cluster: Cluster, *, grace_seconds: float = GRACE_SECONDS
) -> AsyncGenerator[Progress, None]:
    """Bring every index to this version, one after another, and yield how far each is.

    While an index is copied it takes no writes: servers answer 503 for that kind until the switch, and nothing is
    lost. Reads go on. A run that was ended in the middle can be started again, and goes on where that one was; one
    that is given up needs `abandon`. Raises StoreRefused for indices of a newer version, StoreError when the cluster
    is away for long or the copy is not whole.
    """
    steps = await plan(cluster)
    if not await _indices(cluster, "about"):
        return
    await Setup(cluster).put_templates()
    for step in steps:
        if not step.switched:
            async for progress in _copy(cluster, step, grace_seconds):
                yield progress
            await _switch(cluster, step)
        await _delete(cluster, step.old)
        yield Progress(step.kind, step.old, step.docs, step.docs)
    await _say_version(cluster)


async def abandon(cluster: Cluster) -> list[str]:
    """Give a migration up: what was not switched takes writes again, half-made copies go. Returns their old names."""
    steps = [step for step in await plan(cluster) if not step.switched]
    for step in steps:
        task = await _running(cluster, step)
        if task is not None:
            path = f"/_tasks/{quote(task)}/_cancel?wait_for_completion=true"
            await cluster.ask("POST", path, seconds=PATIENCE_SECONDS)
        await _delete(cluster, step.new)
        body = {"index.blocks.write": None}
        await cluster.ask_json("PUT", f"/{step.old}/_settings", body, seconds=MASTER_SECONDS)
    return [step.old for step in steps]


async def _copy(cluster: Cluster, step: Step, grace_seconds: float) -> AsyncGenerator[Progress, None]:
    """Copy an index into the new one, which gets no alias yet."""
    await cluster.ask("PUT", f"/{step.old}/_block/write", seconds=MASTER_SECONDS)
    blocked = monotonic()
    await refresh(cluster, step.old)
    total = await _count(cluster, step.old)
    await _make_new(cluster, step)
    task = await _running(cluster, step) or await _begin(cluster, step)
    while True:
        said = await _ask_task(cluster, task)
        done = said.task.status.created + said.task.status.updated + said.task.status.version_conflicts
        yield Progress(step.kind, step.old, min(done, total), total)
        if said.completed:
            break
        await asyncio.sleep(POLL_SECONDS)
    _check(step, said)
    await refresh(cluster, step.new)
    copied = await _count(cluster, step.new)
    if copied != total:
        # It holds what the old one has no more; the next run begins it anew.
        await _delete(cluster, step.new)
        raise StoreError(f"{step.new} has {copied} documents, {step.old} {total}: run the migration again.")
    # What a request that is under way read from the old index must not be met in the new one.
    await asyncio.sleep(max(0.0, blocked + grace_seconds - monotonic()))


async def _make_new(cluster: Cluster, step: Step) -> None:
    """Make the new index, if it is not there; by a template of its own, for the usual one would give it the alias."""
    place = cluster.place
    name = f"{place.prefix}-migration"
    usual = next(body for found, body in layout.templates(place) if found == alias(place, step.kind))
    body = usual | {
        "index_patterns": [step.new],
        "priority": ABOVE,
        "template": {"mappings": layout.mapping(step.kind)},
    }
    await _put(cluster, f"/_index_template/{name}", body)
    try:
        await _put(cluster, f"/{step.new}", {})
    except RefusedError as error:
        if error.kind != "resource_already_exists_exception":
            raise
    finally:
        await cluster.ask("DELETE", f"/_index_template/{name}", seconds=MASTER_SECONDS)


async def _begin(cluster: Cluster, step: Step) -> str:
    """Begin to copy; what is there already, from a run before, is left as it is. Returns the task's id."""
    body = {
        "conflicts": "proceed",
        "source": {"index": step.old},
        # With their versions: a session is written by its own, and an older one must stay refused.
        "dest": {"index": step.new, "version_type": "external"},
    }
    path = "/_reindex?wait_for_completion=false&slices=auto"
    answer = await cluster.ask_json("POST", path, body, seconds=MASTER_SECONDS)
    return str(answer["task"])


async def _running(cluster: Cluster, step: Step) -> str | None:
    """Return the id of a task of an earlier run that still copies this index, if there is one."""
    found = await cluster.ask_json("GET", "/_tasks?actions=*reindex&detailed&group_by=none")
    for task in found.get("tasks", ()):
        said = task.get("description", "")
        if "parent_task_id" not in task and f"[{step.old}]" in said and f"[{step.new}]" in said:
            return f"{task['node']}:{task['id']}"
    return None


async def _ask_task(cluster: Cluster, task: str) -> _Task:
    """Return how far a task is. Raises AwayError when the cluster was away for long."""
    ends = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return _decode_task(await cluster.ask("GET", f"/_tasks/{quote(task)}"))
        except AwayError:
            if monotonic() > ends:
                raise
        except RefusedError as error:
            if error.status != 404:
                raise
            raise StoreError("The copying ended with its node: run the migration again.") from None
        await asyncio.sleep(POLL_SECONDS)


def _check(step: Step, said: _Task) -> None:
    """Raise StoreError when a copy failed."""
    failures = (said.response or {}).get("failures", [])
    if said.error is not None or failures:
        what = str(said.error or failures[0])[:500]
        raise StoreError(f"{step.old} could not be copied: {what}")


async def _switch(cluster: Cluster, step: Step) -> None:
    """Let the new index take the old one's place, in one step."""
    names = [alias(cluster.place, step.kind)]
    orders: list[dict[str, Any]] = [{"add": {"index": step.new, "alias": names[0]}}]
    if step.kind in MONTHLY:
        # Writers name the month: that name stands for the new index from now on.
        month = _month(cluster, step.kind, step.old)
        if step.old == month:
            orders.insert(0, {"remove_index": {"index": step.old}})
        else:
            names.append(month)
        orders.append({"add": {"index": step.new, "alias": month}})
    if step.kind in WHOLE or len(names) > 1:
        orders += [{"remove": {"index": step.old, "alias": name}} for name in names]
    body = {"actions": orders}
    await cluster.ask_json("POST", "/_aliases", body, seconds=MASTER_SECONDS)


async def _delete(cluster: Cluster, index: str) -> None:
    """Delete an index, if it is there and is one: the name of a month may be a new index's alias by now."""
    found = await cluster.ask_json("GET", f"/{index}/_settings/index.uuid?{ANY_INDEX}")
    if index in found:
        await cluster.ask("DELETE", f"/{index}?ignore_unavailable=true", seconds=MASTER_SECONDS)


async def _say_version(cluster: Cluster) -> None:
    """Write into `about` that all is of this version."""
    path = f"/{alias(cluster.place, 'about')}/_update/{ABOUT_ID}"
    body = {"doc": {"key": ABOUT_ID, "version": layout.VERSION}, "doc_as_upsert": True}
    await cluster.ask_json("POST", path, body, seconds=MASTER_SECONDS)


async def _indices(cluster: Cluster, kind: str) -> list[_Index]:
    """Return the indices of a kind, with or without its alias, the oldest first."""
    pattern = f"{alias(cluster.place, kind)}-*"
    path = f"/{pattern}?{ANY_INDEX}&features=mappings,aliases,settings&expand_wildcards=open"
    found: dict[str, Mapping] = await cluster.ask_json("GET", path)
    return sorted(one for one in _read_indices(found) if _OURS.fullmatch(one.name, len(pattern) - 1))


def _read_indices(found: dict[str, Mapping]) -> Iterator[_Index]:
    for name, about in found.items():
        version = about.get("mappings", {}).get("_meta", {}).get("version", 0)
        blocks = about.get("settings", {}).get("index", {}).get("blocks", {})
        yield _Index(name, version, frozenset(about.get("aliases", {})), blocks.get("write") == "true")


def _new_name(cluster: Cluster, kind: str, index: str) -> str:
    known_as = alias(cluster.place, kind) if kind in WHOLE else _month(cluster, kind, index)
    return f"{known_as}-{layout.VERSION:06}"


def _month(cluster: Cluster, kind: str, index: str) -> str:
    """Return the name by which writers know an index of a month."""
    name = alias(cluster.place, kind)
    return index[: len(name) + len("-YYYY.MM")]


async def _count(cluster: Cluster, index: str) -> int:
    body = {"size": 0, "query": EVERYTHING, "track_total_hits": True}
    return (await search(cluster, index, body)).hits.total.value


async def _put(cluster: Cluster, path: str, body: Mapping) -> None:
    await cluster.ask("PUT", path, as_json(body), seconds=MASTER_SECONDS)
