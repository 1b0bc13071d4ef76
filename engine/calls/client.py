"""Sends calls to the world, and lets nobody lead it inside.

The addresses of a name are checked when it is connected to, and those are connected to: nothing can change in between.
The client library is imported at the first call: a server that calls nobody does without it.
"""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from importlib import import_module
from socket import AF_INET, AF_INET6
from time import perf_counter, time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, urljoin

import msgspec

from headrace.engine.calls.address import Rules, Target, literal, read_url
from headrace.engine.calls.call import Outgoing, Secrets, Tls, outgoing
from headrace.engine.calls.hosts import Hosts
from headrace.engine.calls.inflation import read_bounded
from headrace.engine.calls.resolver import Lookup, Threads, checked_addresses
from headrace.engine.errors import CallError

if TYPE_CHECKING:
    import aiohttp

ANSWER_BYTES = 1 << 20
MOST_REDIRECTS = 5
MOST_CONNECTIONS = 512
PER_HOST = 64
KEEP_SECONDS = 4.0
"""How long an idle connection is kept: less than servers do, or a call would meet one that was just closed."""
HEADERS_KEPT = 64
HEADER_CHARS_KEPT = 1_024
SHORTEST_HIDDEN = 4
"""A secret shorter than this is not looked for in answers: it would be found in anything."""

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_NOT_KEPT = frozenset(("set-cookie", "set-cookie2"))


class Reply(msgspec.Struct, frozen=True):
    """What came back: headers in lower case, the body unpacked, secrets of the call hidden.

    `problem` says what is wrong with the body (too large, cut off, slow), which is then empty; '' if nothing is.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    ms: float
    problem: str = ""


class Client:
    """Sends calls; one of it is shared by a process. It must be closed if it was used."""

    def __init__(
        self,
        rules: Rules,
        secrets: Secrets,
        *,
        answer_bytes: int = ANSWER_BYTES,
        per_host: int = PER_HOST,
        lookup: Lookup | None = None,
    ) -> None:
        self._rules = rules
        self._secrets = secrets
        self._answer_bytes = answer_bytes
        self.per_host = per_host
        self._threads = Threads() if lookup is None else None
        self._lookup = lookup or self._threads
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self._contexts: dict[Tls, ssl.SSLContext] = {}
        self._is_closed = False

    async def send(
        self,
        call: Mapping[str, Any],
        *,
        key: str,
        traceparent: str | None = None,
        hosts: Hosts | None = None,
    ) -> Reply:
        """Send a call (see `headrace.engine.calls.call`) and return what came back.

        `key` goes with it as `Idempotency-Key` and `webhook-id`; `hosts` may keep it from going.
        Raises CallError when nothing came back.
        """
        ready = outgoing(call, self._secrets, key=key, now=int(time()), traceparent=traceparent)
        with hosts.entered(ready.target.place) if hosts else nullcontext():
            return await self._send(ready)

    async def _send(self, ready: Outgoing) -> Reply:
        started = perf_counter()
        try:
            async with asyncio.timeout(ready.seconds):
                return await self._follow(ready, started)
        except TimeoutError:
            text = f"{ready.target.place} did not answer within {ready.seconds:.3g} s"
            raise CallError(text, retryable=True) from None

    async def _follow(self, ready: Outgoing, started: float) -> Reply:
        """Send, and send again where a redirect leads that stays on the host."""
        for _ in range(MOST_REDIRECTS + 1):
            reply, location = await self._exchange(ready, started)
            if location is None:
                return reply
            is_read = ready.method in ("GET", "HEAD")
            if not is_read and reply.status not in (307, 308):
                return reply
            ready = ready._replace(target=redirected(ready.target, location))
        raise CallError(f"{ready.target.place} redirected more than {MOST_REDIRECTS} times")

    async def _exchange(self, ready: Outgoing, started: float) -> tuple[Reply, str | None]:
        target = ready.target
        if (address := literal(target.host)) is not None:
            # A name's addresses are checked when they are looked up.
            self._rules.check(target.host, target.port, address)
        session = await self._open()
        from aiohttp import ClientError  # noqa: PLC0415 - see the top
        from yarl import URL  # noqa: PLC0415

        try:
            answer = await session.request(
                ready.method,
                URL(target.url, encoded=True),
                headers=ready.headers,
                data=ready.body or None,
                allow_redirects=False,
                ssl=await self._tls(ready.tls) if target.scheme == "https" else True,
            )
        except CallError:
            raise
        except (ClientError, OSError, ssl.SSLError, ValueError) as error:
            raise _failure(target, error) from None
        try:
            reply = await self._read(ready, answer, started)
        finally:
            answer.close() if not answer.content.at_eof() else answer.release()
        location = answer.headers.get("location") if answer.status in _REDIRECTS else None
        return reply, location

    async def _read(self, ready: Outgoing, answer: "aiohttp.ClientResponse", started: float) -> Reply:
        """Read an answer whose status is here: whatever is wrong with the rest, it was one."""
        from aiohttp import ClientError  # noqa: PLC0415

        body, problem = b"", ""
        left = ready.seconds - (perf_counter() - started)
        try:
            async with asyncio.timeout(left * 0.95):
                chunks = answer.content.iter_any()
                encoding = answer.headers.get("content-encoding", "") if ready.method != "HEAD" else ""
                body = await read_bounded(chunks, encoding, self._answer_bytes)
        except TimeoutError:
            problem = f"the answer was not complete within {ready.seconds:.3g} s"
        except CallError as error:
            problem = error.reason
        except (ClientError, OSError, ValueError):
            problem = "the answer was cut off"
        hide = Hiding(ready.hide)
        headers = kept_headers(answer.headers, hide)
        ms = round((perf_counter() - started) * 1000, 3)
        return Reply(answer.status, headers, hide.in_bytes(body), ms, problem)

    async def _tls(self, tls: Tls) -> ssl.SSLContext:
        """Return what checks certificates; made once for each way, in a thread, since it reads many of them."""
        found = self._contexts.get(tls)
        if found is None:
            found = self._contexts[tls] = await asyncio.to_thread(tls_context, tls)
        return found

    async def _open(self) -> "aiohttp.ClientSession":
        """Return what holds the connections; made at the first call."""
        if self._session is not None:
            return self._session
        async with self._opening:
            if self._is_closed:
                raise CallError("Headrace is stopping", retryable=True)
            if self._session is None:
                await asyncio.to_thread(import_module, "aiohttp")
                self._session = self._new_session()
        return self._session

    def _new_session(self) -> "aiohttp.ClientSession":
        import aiohttp  # noqa: PLC0415

        connector = aiohttp.TCPConnector(
            limit=MOST_CONNECTIONS,
            limit_per_host=self.per_host,
            keepalive_timeout=KEEP_SECONDS,
            use_dns_cache=False,
            resolver=_resolver(self._rules, self._lookup),  # type: ignore[arg-type]
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            # The whole call has a time, which is kept by `send`.
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None),
            raise_for_status=False,
        )

    async def close(self) -> None:
        """Close the connections; calls under way fail."""
        self._is_closed = True
        async with self._opening:
            if self._session is not None:
                await self._session.close()
                self._session = None
        if self._threads is not None:
            self._threads.close()


def _resolver(rules: Rules, lookup: Lookup) -> Any:
    """Return the client library's resolver, whose addresses are checked."""
    from aiohttp.abc import AbstractResolver, ResolveResult  # noqa: PLC0415 - see the top

    class Checked(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:  # noqa: ARG002
            name = host.rstrip(".")
            return [
                {
                    "hostname": host,
                    "host": address,
                    "port": port,
                    "family": AF_INET6 if ":" in address else AF_INET,
                    "proto": 0,
                    "flags": 0,
                }
                for address in await checked_addresses(rules, lookup, name, port)
            ]

        async def close(self) -> None:
            pass

    return Checked()


def redirected(target: Target, location: str) -> Target:
    """Return where a redirect leads. Raises CallError when that is not the same host, or less safe."""
    try:
        there = read_url(urljoin(target.url, location))
    except (CallError, ValueError):
        raise CallError(f"{target.place} redirected to what is no URL that can be called") from None
    is_same = there[:3] == target[:3]
    is_upgrade = (target.scheme, target.port, there.scheme, there.port) == ("http", 80, "https", 443)
    if is_same or (is_upgrade and there.host == target.host):
        return there
    raise CallError(
        f"{target.place} redirected to {there.scheme}://{there.place}; only the same host is followed"
    )


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return what checks a certificate. Raises CallError when the file of certificates cannot be read."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no certificates"
        raise CallError(f"tls.ca {tls.ca}: cannot be read ({reason})", retryable=True) from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _failure(target: Target, error: Exception) -> CallError:
    """Say why nothing came back, in words of ours: a library's text may hold the URL."""
    from aiohttp import client_exceptions as of  # noqa: PLC0415

    place = target.place
    if isinstance(error, of.ClientConnectorCertificateError | of.ClientConnectorSSLError | ssl.SSLError):
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
        reason = getattr(inner, "verify_message", None) or getattr(inner, "reason", None) or "TLS failed"
        return CallError(f"{place}: no safe connection ({reason})", retryable=True)
    if isinstance(error, of.ClientConnectorDNSError):
        return CallError(f"{target.host}: the name has no address", retryable=True)
    if isinstance(error, of.ClientConnectorError):
        return CallError(f"{place}: no connection ({error.os_error.strerror or 'refused'})", retryable=True)
    if isinstance(error, of.ServerDisconnectedError | of.ClientOSError | OSError):
        return CallError(f"{place}: closed the connection without an answer", retryable=True)
    if isinstance(error, of.ClientResponseError | of.ClientPayloadError):
        return CallError(f"{place}: the answer is not HTTP, or its headers are too large", retryable=True)
    return CallError(f"{place}: the call failed ({type(error).__name__})", retryable=True)


def _forms(text: str) -> Iterator[str]:
    """Yield the ways in which a text stands in URLs, forms and JSON."""
    in_json = msgspec.json.encode(text).decode()[1:-1]
    yield from (quote(text, safe=""), quote(text), quote_plus(text))
    yield from (in_json, in_json.replace("/", "\\/"))


class Hiding:
    """Takes secrets out of what comes back: a server may say what it was told."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        texts = {text for text in secrets if len(text) >= SHORTEST_HIDDEN}
        texts |= {form for text in texts for form in _forms(text)}
        self._texts = sorted(texts, key=len, reverse=True)

    def in_text(self, text: str) -> str:
        """Return a text without them."""
        for secret in self._texts:
            text = text.replace(secret, "(hidden)")
        return text

    def in_bytes(self, data: bytes) -> bytes:
        """Return bytes without them."""
        for secret in self._texts:
            data = data.replace(secret.encode(), b"(hidden)")
        return data


def kept_headers(headers: "Mapping[str, str]", hide: Hiding) -> dict[str, str]:
    """Return the headers that are kept: not cookies, not too many, not too long."""
    found: dict[str, str] = {}
    for given, value in headers.items():
        name = given.lower()
        if name in _NOT_KEPT or (name not in found and len(found) == HEADERS_KEPT):
            continue
        # Half a character, or a byte that is none, cannot be kept.
        clean = hide.in_text(value).encode("utf-8", "replace").decode()[:HEADER_CHARS_KEPT]
        found[name] = f"{found[name]}, {clean}"[:HEADER_CHARS_KEPT] if name in found else clean
    return found
