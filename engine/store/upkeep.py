"""Opens stores to check, copy or migrate them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from headrace.engine.errors import StoreRefused
from headrace.engine.store.finding import Finding
from headrace.engine.store.moving import Moving
from headrace.engine.store.open import cluster_place, sqlite_path

BUSY_SECONDS = 5.0


async def open_moving(url: str, *, data: Path, make: bool) -> Moving:
    """Open the store of a URL for copying; the caller closes it.

    Without `make` it must be there already. Raises StoreRefused, StoreError.
    """
    path = sqlite_path(url, data)
    if path is not None:
        from headrace.engine.store.sqlite.moving import SqliteMoving  # noqa: PLC0415 - when it is named

        if not make and not path.is_file():
            raise StoreRefused(f"There is no database {path}.")
        return await asyncio.to_thread(SqliteMoving, path, BUSY_SECONDS)
    place = cluster_place(url)
    from headrace.engine.store.elastic.moving import ElasticMoving  # noqa: PLC0415 - as above

    moving = ElasticMoving(place)
    try:
        await moving.begin(make=make)
    except BaseException:
        await moving.close()
        raise
    return moving


async def check_store(url: str, *, data: Path, thorough: bool = False) -> AsyncIterator[Finding]:
    """Look at the store of a URL and yield what was found; nothing is changed, nothing is made.

    With `thorough` a file's indices are compared with its rows, too, which takes long. Raises StoreRefused for a
    URL that is none.
    """
    path = sqlite_path(url, data)
    if path is not None:
        from headrace.engine.store.sqlite.checking import check_file  # noqa: PLC0415 - as above

        async for finding in check_file(path, thorough=thorough):
            yield finding
        return
    place = cluster_place(url)
    from headrace.engine.store.elastic.checking import check_cluster  # noqa: PLC0415 - as above

    async for finding in check_cluster(place):
        yield finding


class Planned(NamedTuple):
    """One thing that a migration would do: to which index or file, and what."""

    name: str
    text: str


class Migrated(NamedTuple):
    """How far an index or file is: documents copied, of how many; a file counts its steps."""

    name: str
    done: int
    total: int


async def plan_migration(url: str, *, data: Path) -> list[Planned]:
    """Return what a migration would do; nothing when the store has this version, or is not there yet.

    Raises StoreRefused for a store of a newer version, StoreError.
    """
    path = sqlite_path(url, data)
    if path is not None:
        from headrace.engine.store.sqlite.checking import steps_left  # noqa: PLC0415 - as above

        left = await asyncio.to_thread(steps_left, path)
        return (
            [Planned(str(path), f"its tables are {left} version{'s' * (left != 1)} behind")] if left else []
        )
    place = cluster_place(url)
    from headrace.engine.store.elastic.cluster import Cluster  # noqa: PLC0415 - as above
    from headrace.engine.store.elastic.migrate import plan  # noqa: PLC0415 - as above

    cluster = Cluster(place)
    try:
        return [
            Planned(step.old, "only the old index is left to be deleted")
            if step.switched
            else Planned(step.old, f"version {step.version}, {step.docs:,} documents, to be {step.new}")
            for step in await plan(cluster)
        ]
    finally:
        await cluster.close()


async def migrate_store(
    url: str, *, data: Path, abandon: bool = False, stopped: bool = False
) -> AsyncIterator[Migrated]:
    """Bring a store to this version and yield how far it is; with `abandon` give up a migration that was ended.

    With `stopped` no server runs, so no request of one has to be waited for.
    Raises StoreRefused for a store of a newer version, StoreError; then it can be started again.
    """
    path = sqlite_path(url, data)
    if path is not None:
        if abandon:
            raise StoreRefused(
                f"{path}: a file is migrated at once or not at all, there is nothing to give up."
            )
        from headrace.engine.store.sqlite.checking import bring_file  # noqa: PLC0415 - as above

        taken = await asyncio.to_thread(bring_file, path)
        yield Migrated(str(path), taken, taken)
        return
    place = cluster_place(url)
    from headrace.engine.store.elastic import migrate  # noqa: PLC0415 - as above
    from headrace.engine.store.elastic.cluster import Cluster  # noqa: PLC0415 - as above

    cluster = Cluster(place)
    try:
        if abandon:
            for name in await migrate.abandon(cluster):
                yield Migrated(name, 0, 0)
            return
        grace = 0.0 if stopped else migrate.GRACE_SECONDS
        async for at in migrate.migrate(cluster, grace_seconds=grace):
            yield Migrated(at.name, at.done, at.total)
    finally:
        await cluster.close()
