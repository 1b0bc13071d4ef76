"""What a node's step gives for calls: the client and its answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class HttpAnswer(msgspec.Struct, frozen=True):
    """What an inline call brought: `body` is JSON when the answer says so, else text; None when it is neither."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Http:
    """The HTTP client of a step. What is called, how long it took and how it ended stands in the trace."""

    async def send(self, call: Mapping[str, Any]) -> HttpAnswer:
        """Send a call, given as JSON: `url` and, where wanted, what `request` takes, `as_` as `as`.

        Secrets are named in it, `{"secret": "NAME"}`: as URL, header, token, password or key. A call that was made in
        an attempt that lost a race is not made again: its answer is remembered.
        Raises CallError, a NodeError, when there is no answer.
        """
        raise NotImplementedError

    async def request(
        self,
        method: str,
        url: str | Mapping[str, str],
        *,
        headers: Mapping[str, str | Mapping[str, str]] | None = None,
        body: Any = None,
        as_: str = "json",
        auth: Mapping[str, Any] | None = None,
        sign: Sequence[Mapping[str, str]] = (),
        tls: Mapping[str, Any] | None = None,
        timeout_seconds: float = 10,
    ) -> HttpAnswer:
        """Send one request and return its answer, whatever its status; raises CallError when there is none."""
        call: dict[str, Any] = {"method": method, "url": url, "timeout_seconds": timeout_seconds}
        call |= {"headers": dict(headers)} if headers else {}
        call |= {"body": body, "as": as_} if body is not None else {}
        call |= {"auth": auth} if auth else {}
        call |= {"sign": list(sign)} if sign else {}
        call |= {"tls": tls} if tls else {}
        return await self.send(call)

    def at(self, passage: Any, step: Any) -> "Http":  # noqa: ARG002 - for those that want to know
        """Return the client for one node at work for one event."""
        return self
