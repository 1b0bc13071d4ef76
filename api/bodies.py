"""Reads the bodies that the API takes, as the doors read theirs."""

from starlette.requests import Request

from headrace.api.doors.body import read_body
from headrace.api.doors.call import Call
from headrace.api.doors.gate import Gate
from headrace.engine.settings import Settings

UNREAD = "headrace.unread"
"""In the scope of a request whose body is not read to its end: its connection is closed."""


class Bodies:
    """Reads bodies within the limits of the doors: their size, their time, and what may be under way at once."""

    def __init__(self, settings: Settings, gate: Gate) -> None:
        self._settings = settings
        self._gate = gate

    async def read(self, request: Request, most_bytes: int | None = None) -> bytes:
        """Return the body, unpacked; of at most so many bytes, else of as many as a door takes.

        Raises InputError 400, 408, 413, 415, BusyError, or ClientGoneError.
        """
        call = Call(request.scope, request.receive, self._gate, self._settings)
        self._gate.enter()
        try:
            return await read_body(call, most_bytes)
        finally:
            self._gate.leave(call.held)
            if call.unread:
                request.scope[UNREAD] = True
