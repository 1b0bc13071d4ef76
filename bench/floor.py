"""The floor: the least server that does the same work.

Raw ASGI, typed decoding, the workflow as closures. It reads and writes the same rows and indexes as the embedded
store, and answers after the commit. It has no keys, limits, locks, versions, trace or error handling, so it is no
server to use: two requests for one session at the same time lose updates here.
"""

import argparse
import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter, time_ns
from typing import Any

import closures
import msgspec
import uuid_utils
import uvicorn
from floor_cluster import ClusterStore

from headrace.engine.model import Doc, iso, new_profile, new_session, utc_now
from headrace.engine.store.sqlite.apply import insert_rows
from headrace.engine.store.sqlite.files import connect, open_file

Send = Callable[[Doc], Awaitable[None]]
Receive = Callable[[], Awaitable[Doc]]
Rows = tuple[tuple[Any, ...] | None, tuple[Any, ...] | None, list[tuple[Any, ...]]]

UPDATE = (
    "ON CONFLICT (key) DO UPDATE SET version = excluded.version, change = excluded.change,"
    " updated = excluded.updated, doc = excluded.doc"
)
VERSION = "0123456789ab"


class Named(msgspec.Struct):
    """Something with an id."""

    id: str


class Event(msgspec.Struct):
    """One event of a request."""

    type: str
    properties: Doc = {}
    context: Doc = {}
    id: str | None = None
    time: str | None = None


class Request(msgspec.Struct):
    """The body of a request to /track."""

    source: Named
    session: Named
    events: list[Event]
    profile: Named | None = None
    context: Doc = {}
    properties: Doc = {}


decode = msgspec.json.Decoder(Request).decode
decode_doc = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode
canonical = msgspec.json.Encoder(order="sorted").encode


def key_of(*parts: str) -> bytes:
    """Return the key of a row, as the store has it."""
    return blake2b(encode(parts), digest_size=16).digest()


class Store:
    """One reading connection, and a thread that writes what waits in one transaction."""

    def __init__(self, path: Path) -> None:
        self.writer = open_file(path, 5.0, 8192)
        self.reader = connect(str(path), busy_seconds=1.0, cache_kib=4096, read_only=True)
        self.queue: SimpleQueue[tuple[Rows, asyncio.Future[None]]] = SimpleQueue()
        self.loop: asyncio.AbstractEventLoop | None = None
        threading.Thread(target=self._work, daemon=True).start()

    def read(self, table: str, key: bytes) -> tuple[int, Doc] | None:
        """Return version and document of a session or profile."""
        row = self.reader.execute(f"SELECT version, doc FROM {table} WHERE key = ?", (key,)).fetchone()
        return (row[0], decode_doc(row[1])) if row else None

    def seen(self, key: bytes) -> bool:
        """Say whether an event was sent before."""
        found = self.reader.execute("SELECT profile, content, id FROM events WHERE key = ?", (key,))
        return found.fetchone() is not None

    def seen_of(self, keys: list[bytes]) -> set[bytes]:
        """Return which of many events were sent before."""
        marks = ", ".join("?" * len(keys))
        found = self.reader.execute(
            f"SELECT key, profile, content, id FROM events WHERE key IN ({marks})", keys
        )
        return {row[0] for row in found}

    async def write(self, rows: Rows) -> None:
        """Write rows durably, together with what else waits."""
        self.loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = self.loop.create_future()
        self.queue.put((rows, future))
        await future

    def _work(self) -> None:
        while True:
            batch = [self.queue.get()]
            try:
                while len(batch) < 256:
                    batch.append(self.queue.get_nowait())
            except Empty:
                pass
            self._commit(self.writer, [rows for rows, _ in batch])
            if self.loop is not None:
                self.loop.call_soon_threadsafe(answer, [future for _, future in batch])

    def _commit(self, connection: sqlite3.Connection, batch: list[Rows]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        insert_rows(connection, "profiles", [profile for profile, _, _ in batch if profile], UPDATE)
        insert_rows(connection, "sessions", [session for _, session, _ in batch if session], UPDATE)
        insert_rows(connection, "events", [event for _, _, events in batch for event in events])
        connection.execute("COMMIT")


def answer(futures: list[asyncio.Future[None]]) -> None:
    """Wake those who wait."""
    for future in futures:
        future.set_result(None)


class Floor:
    """The ASGI application."""

    def __init__(self, store: Store | ClusterStore) -> None:
        self.store = store
        self.run = closures.compile_closures()

    async def __call__(self, scope: Doc, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        reply = await self.track(decode(body)) if scope["method"] == "POST" else b"{}"
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    async def track(self, request: Request) -> bytes:
        """Take a request: read, run, write, answer."""
        now, store = iso(utc_now()), self.store
        change = uuid_utils.uuid4().bytes
        session_id = request.session.id
        session_key = key_of("session", "main", session_id)
        ids = [event.id or str(uuid_utils.uuid7()) for event in request.events]
        keys = [key_of("event", "main", request.source.id, event_id) for event_id in ids]
        given = [key for key, event in zip(keys, request.events, strict=True) if event.id]
        known = store.seen_of(given) if len(given) > 2 else {key for key in given if store.seen(key)}
        session_version, session = store.read("sessions", session_key) or (
            0,
            new_session(session_id, "main", request.source.id, now),
        )
        profile_id = session["profile"] or str(uuid_utils.uuid4())
        profile_key = key_of("profile", "main", profile_id)
        profile_version, profile = store.read("profiles", profile_key) or (
            0,
            new_profile(profile_id, "main", now),
        )
        if session["profile"] is None:
            session["profile"] = profile_id
            profile["stats"]["visits"] += 1
        session["context"] |= request.context
        rows = []
        for event, event_id, key in zip(request.events, ids, keys, strict=True):
            if key not in known:
                rows.append(self.process(request, event, event_id, key, profile, session, now, change))
        session["n"] += 1
        session["time"]["updated"] = profile["time"]["updated"] = now
        first = time_ns() // 1000
        profile_row = (
            *(profile_key, profile_version + 1 if profile_version else first, change, "main"),
            *(0, profile["time"]["created"], now, encode(profile)),
        )
        session_row = (
            *(session_key, session_version + 1 if session_version else first, change, "main"),
            *(session["source"], profile_id, 0, session["time"]["created"], now, encode(session)),
        )
        await store.write((profile_row, session_row, rows))
        return encode(
            {"profile": {"id": profile_id}, "session": {"id": session_id}, "source": {"consent": False}}
        )

    def process(
        self,
        request: Request,
        event: Event,
        event_id: str,
        key: bytes,
        profile: Doc,
        session: Doc,
        now: str,
        change: bytes,
    ) -> tuple[Any, ...]:
        """Run the workflow and return the event's row."""
        content = None
        if event.id:
            content = blake2b(
                canonical((event.type, event.properties, event.time)), digest_size=16
            ).hexdigest()
        page = request.context.get("page", {})
        doc = {
            "id": event_id,
            "key": key.hex(),
            "type": event.type,
            "properties": event.properties,
            "context": {**request.context, **event.context},
            "source": request.source.id,
            "tenant": "main",
            "session": session["id"],
            "profile": profile["id"],
            "time": {"happened": now, "received": now, "processed": now},
            "door": "track",
            "device": {"ip": "127.0.0.0"},
            "page": {**page, "path": "/checkout"},
            "utm": {},
            "errors": [],
        }
        if content is not None:
            doc["content"] = content
        session["stats"]["events"] += 1
        started = perf_counter()
        path, _ = self.run(doc, profile, session)
        doc["runs"] = [
            {
                "workflow": "order",
                "version": VERSION,
                "path": " ".join([f"{name}.{port}" for name, port in path]),
                "ms": round((perf_counter() - started) * 1000, 3),
            }
        ]
        return (
            *(key, change, "main", event.type, request.source.id, profile["id"], session["id"]),
            *(now, now, content, event_id, encode(doc)),
        )


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cluster", default="", help="write to Elasticsearch at this URL, and read nothing")
    options = parser.parse_args()
    store = ClusterStore(options.cluster) if options.cluster else Store(options.data / "headrace.db")
    uvicorn.run(
        Floor(store),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
