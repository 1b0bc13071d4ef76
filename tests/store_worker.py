"""A second process on a store: counts, or writes until killed."""

import asyncio
import sys
from pathlib import Path

from headrace.engine.crash import set_crash_point
from headrace.engine.store.open import open_store
from tests.store_contract import add_one, change, event_row, profile_write, read_profile


async def increment(url: str, data: str, name: str, times: str) -> None:
    store = open_store(url, data=Path(data), busy_seconds=20)
    await asyncio.gather(*(add_one(store, name) for _ in range(int(times))))
    await store.close()


async def write_for_ever(url: str, data: str, start: str, point: str) -> None:
    """Write events in 8 tasks, counting them in a profile of each; print the names of those that are durable."""
    store = open_store(url, data=Path(data))
    set_crash_point(point)

    async def visitor(who: int) -> None:
        name = f"{start} {who}"
        await store.commit(change(profile=profile_write(name, value=0)))
        for number in range(100_000):
            found = await read_profile(store, name)
            write = profile_write(name, found, value=found.doc["value"] + 1)
            await store.commit(change(profile=write, events=[event_row(f"{name} {number}", name)]))
            sys.stdout.write(f"{name} {number}\n")
            sys.stdout.flush()

    await asyncio.gather(*(visitor(who) for who in range(8)))


if __name__ == "__main__":
    work = {"increment": increment, "write": write_for_ever}[sys.argv[1]]
    asyncio.run(work(*sys.argv[2:]))
