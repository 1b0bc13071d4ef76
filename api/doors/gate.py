"""How much may be under way at once: requests and bytes of bodies."""

from headrace.engine.errors import BusyError


class Gate:
    """Counts what is in flight and refuses what is too much; closed, it lets nothing new in."""

    __slots__ = ("bytes", "closed", "max_bytes", "max_requests", "requests")

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0
        self.closed = False

    def enter(self) -> None:
        """Let a request in; raises BusyError when there is no room. Each `enter` needs a `leave`."""
        if self.closed:
            raise BusyError("The server is stopping.", retry_after_seconds=5)
        if self.requests >= self.max_requests:
            raise BusyError("Too many requests are under way.")
        self.requests += 1

    def hold(self, size: int) -> None:
        """Count bytes that a request holds; raises BusyError when they are too many."""
        if self.bytes + size > self.max_bytes:
            raise BusyError("Too many bytes are under way.")
        self.bytes += size

    def leave(self, held: int) -> None:
        """Let a request out with all the bytes that it held."""
        self.requests -= 1
        self.bytes -= held
