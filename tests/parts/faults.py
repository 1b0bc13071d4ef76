"""What the proxy can do to a request: the faults of a server and a network."""

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tests.parts.proxy import Exchange, Fault
from tests.parts.wire import Closed, Reply, Request, framed

TOO_MANY = {"type": "es_rejected_execution_exception", "reason": "rejected by a test"}


@dataclass(frozen=True)
class BulkItem:
    """One item of a bulk: what is to be done, where, and its lines."""

    operation: str
    place: dict[str, Any]
    lines: tuple[bytes, ...]


def answer(status: int, *, retry_after: int | None = None) -> Fault:
    """Answer with a status, in Elasticsearch's form, and do not forward."""

    async def fault(exchange: Exchange) -> None:
        headers = () if retry_after is None else ((b"retry-after", str(retry_after).encode()),)
        reply = json_reply(status, {"error": TOO_MANY, "status": status})
        await exchange.reply(Reply(reply.status, (*reply.headers, *headers), reply.body))

    return fault


def fail_items(which: Callable[[int, BulkItem], bool], *, status: int = 429) -> Fault:
    """Refuse some items of a bulk by their position and content, and forward only the others."""

    async def fault(exchange: Exchange) -> None:
        request = exchange.request
        items = list(bulk_items(plain_body(request)))
        refused = [which(position, item) for position, item in enumerate(items)]
        passed = [item for item, bad in zip(items, refused, strict=True) if not bad]
        reply = json_reply(200, {"took": 0, "errors": False, "items": []})
        if passed:
            body = b"".join(line + b"\n" for item in passed for line in item.lines)
            reply = await exchange.forward(
                request.changed(
                    body, "content-encoding", "accept-encoding", target=unfiltered(request.target)
                )
            )
        if reply.status == 200:
            reply = spliced(reply, items, refused, status)
        await exchange.reply(reply)

    return fault


async def hang_before(exchange: Exchange) -> None:
    """Never forward: the client's time runs out before the write was done."""
    await exchange.hang()


async def hang_after(exchange: Exchange) -> None:
    """Forward, and never reply: the client's time runs out after the write was done."""
    await exchange.forward()
    await exchange.hang()


async def drop_before(_: Exchange) -> None:
    """Close the connection and do not forward."""
    raise Closed


async def drop_after(exchange: Exchange) -> None:
    """Forward, then close the connection without a reply."""
    await exchange.forward()
    raise Closed


async def cut_reply(exchange: Exchange) -> None:
    """Forward, then close the connection in the middle of the reply."""
    reply = await exchange.forward()
    await exchange.client.send_half(reply)
    raise Closed


def delay(seconds: float) -> Fault:
    """Forward after some time, even when the client has left by then."""

    async def fault(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await exchange.reply(await exchange.forward())

    return fault


def json_reply(status: int, body: object) -> Reply:
    """Return a reply as Elasticsearch's own, which its client asks to be named so."""
    headers = ((b"content-type", b"application/json"), (b"x-elastic-product", b"Elasticsearch"))
    data = json.dumps(body).encode()
    return Reply(status, framed(headers, data), data)


def plain_body(request: Request) -> bytes:
    """Return a request's body, unpacked."""
    return gzip.decompress(request.body) if request.header("content-encoding") == "gzip" else request.body


def bulk_items(body: bytes) -> Iterator[BulkItem]:
    """Yield the items of a bulk; a deletion has one line, the others two."""
    lines = iter([line for line in body.split(b"\n") if line.strip()])
    for head in lines:
        ((operation, place),) = json.loads(head).items()
        yield BulkItem(operation, place, (head,) if operation == "delete" else (head, next(lines)))


def unfiltered(target: str) -> str:
    """Return a target that asks for the whole reply, whose items can then be counted."""
    path, _, query = target.partition("?")
    kept = [
        (name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != "filter_path"
    ]
    return f"{path}?{urlencode(kept)}" if kept else path


def spliced(reply: Reply, items: list[BulkItem], refused: list[bool], status: int) -> Reply:
    """Return the reply to a bulk with the refused items in their places."""
    said = json.loads(reply.body)
    done = iter(said["items"])
    said["items"] = [
        {item.operation: {**item.place, "status": status, "error": TOO_MANY}} if bad else next(done)
        for item, bad in zip(items, refused, strict=True)
    ]
    said["errors"] = said["errors"] or any(refused)
    return reply.changed(json.dumps(said).encode())
