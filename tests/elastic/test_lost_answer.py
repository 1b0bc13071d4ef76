"""A commit whose answer was lost is known as one, whatever others did to its record meanwhile."""

import asyncio
from typing import Any

from headrace.engine.store.elastic import ElasticStore
from headrace.engine.store.elastic.cluster import AwayError
from headrace.engine.store.protocol import Committed, Conflict
from tests.elastic.conftest import DEDUP_DAYS, Rig
from tests.store_contract import change, event_row, has_committed, key_of, profile_write, session_write, there
from tests.stores import written

PROFILE, SESSION = key_of("profile", "p"), key_of("session", "s")


class Lost:
    """Lets a store's next write of a profile be done, and its answer be lost when `goes_on` is set."""

    def __init__(self, store: ElasticStore) -> None:
        self._ask = store._cluster.ask
        store._cluster.ask = self.ask  # type: ignore[method-assign, assignment]
        self.is_done, self.goes_on = asyncio.Event(), asyncio.Event()

    async def ask(self, method: str, path: str, body: bytes = b"", **more: Any) -> bytes:
        answer = await self._ask(method, path, body, **more)
        if (
            path.startswith("/_bulk")
            and PROFILE.encode() in body.partition(b"\n")[0]
            and not self.is_done.is_set()
        ):
            self.is_done.set()
            await self.goes_on.wait()
            raise AwayError("the answer is lost")
        return answer


async def test_others_who_finish_it_leave_its_mark(rig: Rig) -> None:
    """An event without an id of its client is known by nothing else: made again, it would count twice."""
    other = ElasticStore(rig.cluster.place, dedup_days=DEDUP_DAYS, request_seconds=10)
    try:
        first = change(profile=profile_write("p"), session=session_write("s", "p"))
        assert has_committed(await rig.store.commit(first))
        await written(rig.store)
        profile, session = await there(other, "profile", PROFILE), await there(other, "session", SESSION)
        lost = Lost(rig.store)
        mine = change(
            profile=profile_write("p", profile, n=1),
            session=session_write("s", "p", session, n=1),
            events=[event_row("e", "p", content=None)],
        )
        committing = asyncio.create_task(rig.store.commit(mine))
        await lost.is_done.wait()
        # Its session was read before, so what the record still holds is written first.
        newer = await there(other, "profile", PROFILE)
        late = change(profile=profile_write("p", newer, n=2), session=session_write("s", "p", session, n=2))
        assert await other.commit(late) == Conflict()
        for n in (2, 3):
            newer, session = await there(other, "profile", PROFILE), await there(other, "session", SESSION)
            late = change(
                profile=profile_write("p", newer, n=n), session=session_write("s", "p", session, n=n)
            )
            assert has_committed(await other.commit(late))
        lost.goes_on.set()
        assert await committing == Committed()
    finally:
        await other.close()
