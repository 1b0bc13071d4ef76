"""One lane a host: who waits there, how many go at once."""

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

import msgspec

from headrace.engine.model import Doc
from headrace.engine.outbox.breaker import Breaker
from headrace.engine.outbox.retry import BUSY, Outcome
from headrace.engine.store.protocol import Leased

FIRST_AT_ONCE = 4
"""Calls at a time to a host of which nothing is known; one more after each success, half when it is away or busy."""

MOVING_PER_SECOND = 50.0
"""A lane that sends so many is worth waiting for."""

AHEAD_SECONDS = 0.5
"""A lane holds as many as it sends in this time."""

MOST_AHEAD = 512
MOST_AHEAD_UNKNOWN = 256
FIRST_GUESS_SECONDS = 0.05
"""How long a call takes, as long as none was answered; later what they took."""

STALL_SECONDS = 2.0
"""When nothing came back for so long, a lane may not move any more."""

FIRST_PUT_OFF_SECONDS = 2.0
LONGEST_PUT_OFF_SECONDS = 60.0
"""What a lane has no room for comes again within this time: the first time soon, since the host may be well by then,
and each further time within twice as long."""

MOST_IDLE = 1_000
"""Hosts that are remembered although nothing waits for them."""

BUSY_HOLD_SECONDS = 60.0
"""How long one 429 or 503 may hold up its host; the effect itself waits as long as was asked."""

Clock = Callable[[], float]


class Item(msgspec.Struct, eq=False):
    """An effect in the hands of this process; `claimed` is when it was taken, by the process's clock.

    `followers` are ordered effects that may not go before it.
    """

    leased: Leased
    host: str
    claimed: float
    followers: list["Item"] = []

    @property
    def doc(self) -> Doc:
        """The effect."""
        return self.leased.doc


class Lane:
    """What waits for one host, and how it does."""

    __slots__ = (
        "_clock",
        "_dice",
        "_most",
        "_slot",
        "at_once",
        "breaker",
        "busy",
        "host",
        "queue",
        "seconds",
        "since",
    )

    def __init__(self, host: str, most: int, clock: Clock, dice: random.Random) -> None:
        self.host = host
        self.queue: deque[Item] = deque()
        self.busy = 0
        self.breaker = Breaker(dice)
        self.at_once = float(min(FIRST_AT_ONCE, most))
        self.seconds = FIRST_GUESS_SECONDS
        self.since = 0.0
        self._most = most
        self._clock = clock
        self._dice = dice
        self._slot = 0.0

    @property
    def per_second(self) -> float:
        """How many it sends, by how long the last calls took, or those under way take already."""
        waited = self._clock() - self.since if self.busy else 0.0
        return self.at_once / max(self.seconds, waited if waited > STALL_SECONDS else 0.0005)

    @property
    def is_moving(self) -> bool:
        """Say whether it sends so quickly that what waits in it does not wait long."""
        return self.breaker.is_closed and self._room() > 0 and self.per_second >= MOVING_PER_SECOND

    @property
    def is_full(self) -> bool:
        """Say whether no more should be claimed for it."""
        ahead = min(self.per_second * AHEAD_SECONDS, MOST_AHEAD) if self.is_moving else 0.0
        return len(self.queue) >= max(ahead, 2 * self._room())

    def _room(self) -> int:
        return self.breaker.room(int(self.at_once), self._clock())

    def takes(self) -> bool:
        """Say whether one more may wait here: a lane that moves takes what was claimed for it anyway."""
        most = 2 * MOST_AHEAD if self.at_once > FIRST_AT_ONCE else MOST_AHEAD_UNKNOWN
        return not self.is_full or (self.is_moving and len(self.queue) < most)

    def ready(self) -> Iterator[Item]:
        """Take out what may go now."""
        while self.queue and self.busy < self._room():
            if not self.busy:
                self.since = self._clock()
            self.busy += 1
            yield self.queue.popleft()

    def ended(self, outcome: Outcome) -> None:
        """Note how an attempt ended: the more succeed, the more go at a time."""
        self.busy -= 1
        self.seconds += (outcome.ms / 1000 - self.seconds) * 0.1
        self.since = now = self._clock()
        if outcome.down:
            if outcome.status is None or outcome.status in BUSY:
                self.at_once = max(self.at_once / 2, 1.0)
            self.breaker.failed(now)
            if outcome.wait:
                self.breaker.hold(min(outcome.wait, BUSY_HOLD_SECONDS), now)
        else:
            self.at_once = min(self.at_once + 1, float(self._most))
            self.breaker.succeeded()

    def put_off(self, times: int) -> float:
        """Return after how many seconds one that there is no room for should come again; it was put off so often.

        They are spread over the time as the lane can take them, so that they need not be put off again.
        """
        now = self._clock()
        self._slot = max(self._slot, now + len(self.queue) / self.per_second, self.breaker.until)
        self._slot = min(self._slot + 1 / self.per_second, now + LONGEST_PUT_OFF_SECONDS)
        longest = min(FIRST_PUT_OFF_SECONDS * 2.0 ** min(times, 30), LONGEST_PUT_OFF_SECONDS)
        return min(self._slot - now, longest * self._dice.uniform(0.5, 1.0))

    def shed(self, *, all_of_it: bool = False) -> list[Item]:
        """Take out what waits and should not, since the lane does not move any more; or all."""
        keep = 0 if all_of_it else len(self.queue) if self.is_moving else 2 * self._room()
        return [self.queue.pop() for _ in range(len(self.queue) - keep)][::-1]


class Lanes:
    """The lanes of a process. A host of which nothing waits is forgotten after many others."""

    def __init__(self, most: int, clock: Clock, dice: random.Random) -> None:
        self._most = most
        self._clock = clock
        self._dice = dice
        self._lanes: OrderedDict[str, Lane] = OrderedDict()

    def of(self, host: str) -> Lane:
        """Return the lane of a host."""
        lane = self._lanes.get(host)
        if lane is None:
            lane = self._lanes[host] = Lane(host, self._most, self._clock, self._dice)
            self._forget()
        self._lanes.move_to_end(host)
        return lane

    def _forget(self) -> None:
        if len(self._lanes) <= MOST_IDLE:
            return
        for host, lane in list(self._lanes.items())[: len(self._lanes) - MOST_IDLE]:
            if not lane.queue and not lane.busy:
                del self._lanes[host]

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))
