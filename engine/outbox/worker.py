"""Claims effects that are due and sends them, lane by lane."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from time import monotonic

from headrace.engine.crash import crash_point
from headrace.engine.errors import BusyError, StoreError
from headrace.engine.logs import logger
from headrace.engine.metrics import Metrics
from headrace.engine.model import Doc, from_iso, iso, utc_now
from headrace.engine.outbox.finisher import Finisher
from headrace.engine.outbox.lanes import Item, Lane, Lanes
from headrace.engine.outbox.retry import Outcome
from headrace.engine.outbox.sending import Limits, Sender, end, host_of, is_old, told
from headrace.engine.settings import Settings
from headrace.engine.store.protocol import Store

POLL_SECONDS = 1.0
"""How long an effect that another process wrote may be due before it is seen."""

GATHER_SECONDS = 0.01
FULL_SECONDS = 0.05
BATCH = 256
PROBE = 16
"""So many are claimed at once. While a lane that moves is full fewer, twice as many each time, and the newest: others
must not wait behind a host that has much to take."""

TURNED_AWAY_SECONDS = 0.001
"""What has no room in a lane that stands still is work for nothing: after so many such, so long nothing is claimed.
Then few at a time, and every other time the newest, since what has just come may be for another host."""

MOST_HELD = 2_000
"""Effects in the hands of one process."""

SENDING_SHARE = 0.6
WAITING_SHARE = 0.2
"""Of a lease: an attempt takes at most so much of it, and begins only that soon after the claim."""

ORDER_SECONDS = 0.5
UNWRITTEN_SECONDS = 60.0
"""A predecessor that is not found, and is younger than this, may still have to be written by its commit."""

FAULT_SECONDS = 60.0
"""After how long an effect comes again that met a fault of ours."""

STOP_SECONDS = 10.0
CLAIM_SECONDS = 3.0
"""How long a stop waits for what is under way, and for a claim."""

Tell = Callable[[Doc], Awaitable[None]]
"""Makes the event of an effect that is given up."""


class Outbox:
    """Sends what is due. Several of them, in several processes, share the work of one store."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        metrics: Metrics,
        bell: asyncio.Event,
        send: Sender,
        tell: Tell,
        *,
        clock: Callable[[], float] = monotonic,
        dice: random.Random | None = None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._bell = bell
        self._send = send
        self._tell = tell
        self._clock = clock
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._lease = settings.outbox_lease_seconds
        self._limits = Limits(settings.outbox_attempts, settings.outbox_max_age_hours * 3600.0)
        self._lanes = Lanes(settings.outbox_per_host, clock, self._dice)
        self._finisher = Finisher(store, clock, self._written)
        self._held: dict[str, Item] = {}
        self._holding = 0
        self._freed: deque[tuple[Item, Doc]] = deque()
        self._is_freeing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming: asyncio.Task[None] | None = None
        self._stopping = False
        self._said = ""
        self._probe = PROBE
        self._turned_away = 0
        self._newest = False

    # Claiming

    def start(self) -> None:
        """Begin to send what is due."""
        self._finisher.start()
        self._claiming = asyncio.create_task(self._run(), name="outbox")

    async def _run(self) -> None:
        while not self._stopping:
            self._bell.clear()
            began, more = self._clock(), False
            try:
                more = await self._claim()
            except (StoreError, BusyError) as error:
                self._say(str(error))
            # The edge of the task: whatever went wrong, the next look tries again.
            except Exception:  # noqa: BLE001
                logger().exception("effects not claimed")
            if not more:
                await self._rest(self._clock() - began)

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._said:
            logger().warning("effects not claimed", error=trouble)
        self._said = trouble

    async def _rest(self, took: float) -> None:
        """Wait for the bell; then for more to come, longer where a claim is dear."""
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._bell.wait()
                await asyncio.sleep(max(GATHER_SECONDS, 2 * took))

    async def _claim(self) -> bool:
        """Claim some effects; returns whether to look again at once. Raises StoreError, BusyError."""
        self._shed()
        is_full = any(lane.is_full and lane.is_moving for lane in self._lanes)
        if is_full or self._holding >= MOST_HELD:
            await asyncio.sleep(FULL_SECONDS)
        stands = self._turned_away > 0
        self._probe = min(2 * self._probe, BATCH) if is_full else PROBE // 2
        room = min(self._probe if is_full else 4 * PROBE if stands else BATCH, MOST_HELD - self._holding)
        if room <= 0:
            return True
        self._turned_away = 0
        self._newest = stands and not self._newest
        newest = is_full or self._newest
        claimed = await self._store.claim_due("effect", room, self._lease, utc_now(), newest=newest)
        self._say("")
        if claimed:
            crash_point("effects.claimed")
        now = self._clock()
        for leased in claimed:
            item = Item(leased, host_of(leased.doc.get("request") or {}), now)
            with self._guard(item):
                self._admit(item)
        await asyncio.sleep(self._turned_away * TURNED_AWAY_SECONDS)
        return len(claimed) == room

    @contextmanager
    def _guard(self, item: Item) -> Iterator[None]:
        """Give an effect back when a fault would leave it in nobody's hands."""
        try:
            yield
        # The edge of what is done with one effect: the others go on.
        except Exception:  # noqa: BLE001
            logger().exception("effect not done", effect=item.leased.key)
            if self._held.get(item.leased.key) is item:
                self._put_off(item, FAULT_SECONDS)

    def _admit(self, item: Item) -> None:
        """Let a claimed effect into its lane, or find out whether it may go."""
        self._holding += 1
        self._held[item.leased.key] = item
        if item.doc.get("ending"):
            self._begin(item, self._bury)
        elif item.doc.get("after"):
            self._follow(item)
        else:
            self._queue(item)

    def _queue(self, item: Item) -> None:
        if self._stopping:
            self._put_off(item, 0.0)
            return
        lane = self._lanes.of(item.host)
        now = utc_now()
        if is_old(item.doc, self._limits, now):
            self._end(item, end(item.doc, f"{item.host} could not be reached in time", now))
        elif lane.takes():
            lane.queue.append(item)
            self._pump(lane)
        else:
            self._no_room(lane, item)

    # In order

    def _follow(self, item: Item) -> None:
        """Let an effect wait for the one that must go before it."""
        key = item.doc["after"]["key"]
        before = self._held.get(key)
        ended = self._finisher.doc_of(key)
        if before is not None:
            before.followers.append(item)
        elif ended is not None:
            self._go_after(item, ended)
        else:
            self._begin(item, self._look_before)

    async def _look_before(self, item: Item) -> None:
        """Read the effect that goes before one; another process may hold it."""
        try:
            before = await self._store.get("effect", item.doc["after"]["key"])
        except (StoreError, BusyError):
            self._put_off(item, POLL_SECONDS)
            return
        if before is not None:
            self._go_after(item, before)
        elif (utc_now() - from_iso(item.doc["after"]["at"])).total_seconds() < UNWRITTEN_SECONDS:
            self._put_off(item, POLL_SECONDS)
        else:
            self._queue(item)

    def _go_after(self, item: Item, before: Doc) -> None:
        if before["status"] != "pending" or before.get("ending"):
            self._queue(item)
            return
        wait = (from_iso(before["due"]) - utc_now()).total_seconds()
        self._put_off(item, max(wait + 0.01, ORDER_SECONDS))

    # Sending

    def _pump(self, lane: Lane) -> None:
        if self._stopping:
            return
        for item in lane.ready():
            if self._clock() - item.claimed > self._lease * WAITING_SHARE:
                # It waited so long that its lease might end before the attempt does.
                lane.busy -= 1
                self._put_off(item, 0.0)
                continue
            self._begin(item, partial(self._attempt, lane))

    def _begin(self, item: Item, work: Callable[[Item], Awaitable[None]]) -> None:
        task = asyncio.create_task(self._guarded(item, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, item: Item, work: Callable[[Item], Awaitable[None]]) -> None:
        with self._guard(item):
            await work(item)

    async def _attempt(self, lane: Lane, item: Item) -> None:
        try:
            outcome = await self._send(item.doc)
        # The edge to what a sender does: an effect must not be lost for a fault of ours.
        except Exception as error:  # noqa: BLE001
            logger().exception("effect not sent", effect=item.leased.key)
            outcome = Outcome("again", 0.0, error=f"a fault of Headrace: {type(error).__name__}")
        if outcome.verdict == "sent":
            crash_point("effects.sent")
        lane.ended(outcome)
        doc = told(item.doc, outcome, self._limits, utc_now(), self._dice)
        self._metrics.effect(item.host, "retried" if outcome.verdict == "again" else outcome.verdict)
        self._end(item, doc)
        if lane.breaker.room(1, self._clock()):
            self._pump(lane)
            return
        self._shed_lane(lane)

    def _shed(self) -> None:
        for lane in self._lanes:
            if lane.queue:
                self._shed_lane(lane)

    def _shed_lane(self, lane: Lane) -> None:
        """Give back what would wait too long in its lane."""
        for item in lane.shed():
            self._no_room(lane, item)

    async def _bury(self, item: Item) -> None:
        """Tell that an effect is dead; then it is."""
        try:
            await self._tell(item.doc)
        except (StoreError, BusyError):
            self._put_off(item, POLL_SECONDS)
            return
        # The edge to the workflows: what they do wrong must not keep an effect from its end.
        except Exception:  # noqa: BLE001
            logger().exception("no webhook-dead event", effect=item.leased.key)
        doc = {name: value for name, value in item.doc.items() if name != "ending"}
        logger().warning(
            "effect dead",
            effect=item.leased.key,
            workflow=doc.get("workflow"),
            node=doc.get("node"),
            reason=item.doc["ending"],
        )
        self._end(item, doc | {"status": "dead", "reason": item.doc["ending"]})

    # Ending

    def _no_room(self, lane: Lane, item: Item) -> None:
        """Give back an effect that its lane has no room for."""
        self._turned_away += not lane.is_moving
        times = item.doc.get("put_off", 0)
        due = iso(utc_now() + timedelta(seconds=lane.put_off(times)))
        self._end(item, item.doc | {"due": due, "put_off": times + 1})

    def _put_off(self, item: Item, seconds: float) -> None:
        """Give an effect back, to be claimed again later."""
        self._end(item, item.doc | {"due": iso(utc_now() + timedelta(seconds=seconds))})

    def _end(self, item: Item, doc: Doc) -> None:
        self._held.pop(item.leased.key, None)
        self._finisher.add(item.leased, doc, item.claimed + self._lease)
        self._freed.extend((follower, doc) for follower in item.followers)
        self._let_followers_go()

    def _let_followers_go(self) -> None:
        """Go on with those whose predecessor ended, one by one: a line may be as long as all that is held."""
        if self._is_freeing:
            return
        self._is_freeing = True
        while self._freed:
            follower, before = self._freed.popleft()
            with self._guard(follower):
                self._go_after(follower, before)
        self._is_freeing = False

    def _written(self, doc: Doc) -> None:
        self._holding -= 1
        if doc.get("ending"):
            self._bell.set()

    async def stop(self) -> None:
        """Let what is under way come to its end, and give back what waits or takes too long."""
        self._stopping = True
        self._bell.set()
        if self._claiming is not None:
            # Not cancelled at once: what it is about to get would be nobody's until the lease ends.
            await asyncio.wait([self._claiming], timeout=CLAIM_SECONDS)
            self._claiming.cancel()
        for lane in self._lanes:
            for item in lane.shed(all_of_it=True):
                self._put_off(item, 0.0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for item in list(self._held.values()):
            if item.leased.key in self._held:
                self._put_off(item, 0.0)
        await self._finisher.close()
