"""The floor's store in a cluster: it only writes.

Many requests are in one bulk. Profiles and sessions are remembered in the process, so a second process, or a restart,
loses them: it is the least that can be written, not a store.
"""

import asyncio
from typing import Any

import msgspec

IN_FLIGHT = 4
MAX_REQUESTS = 500
INDEX = "floor"

Row = tuple[Any, ...]
Rows = tuple[Row | None, Row | None, list[Row]]

decode = msgspec.json.Decoder().decode


class ClusterStore:
    """Gathers what requests write into bulks, some in flight at once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client: Any = None
        self.known: dict[tuple[str, bytes], tuple[int, bytes]] = {}
        self.waiting: list[tuple[Rows, asyncio.Future[None]]] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def read(self, table: str, key: bytes) -> tuple[int, dict[str, Any]] | None:
        """Return version and document of a session or profile, from memory."""
        found = self.known.get((table, key))
        return None if found is None else (found[0], decode(found[1]))

    def seen(self, key: bytes) -> bool:  # noqa: ARG002 - it does not look
        """Say that an event was not sent before."""
        return False

    def seen_of(self, keys: list[bytes]) -> set[bytes]:  # noqa: ARG002 - as above
        """Say that none was sent before."""
        return set()

    async def write(self, rows: Rows) -> None:
        """Write rows, together with what else waits."""
        future = asyncio.get_running_loop().create_future()
        profile, session, _ = rows
        for table, row in (("profiles", profile), ("sessions", session)):
            if row is not None:
                self.known[table, row[0]] = (row[1], row[-1])
        self.waiting.append((rows, future))
        if len(self.tasks) < IN_FLIGHT:
            self._send()
        await future

    def _send(self) -> None:
        batch, self.waiting = self.waiting[:MAX_REQUESTS], self.waiting[MAX_REQUESTS:]
        task = asyncio.get_running_loop().create_task(self._bulk(batch))
        self.tasks.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        task.result()
        if self.waiting:
            self._send()

    async def _bulk(self, batch: list[tuple[Rows, asyncio.Future[None]]]) -> None:
        if self.client is None:
            # Imported when it is used: the floor with a file does not pay for it.
            from elasticsearch import AsyncElasticsearch  # noqa: PLC0415

            self.client = AsyncElasticsearch(self.url, request_timeout=30)
        lines: list[bytes] = []
        for (profile, session, events), _ in batch:
            for kind, row in (
                ("profiles", profile),
                ("sessions", session),
                *(("events", row) for row in events),
            ):
                if row is not None:
                    lines += [
                        b'{"index":{"_index":"%s-%s","_id":"%s"}}'
                        % (INDEX.encode(), kind.encode(), row[0].hex().encode()),
                        row[-1],
                    ]
        lines.append(b"")
        answer = await self.client.perform_request(
            "POST",
            "/_bulk?filter_path=errors",
            headers={"content-type": "application/x-ndjson", "accept": "application/json"},
            body=b"\n".join(lines),
        )
        if answer.body["errors"]:
            raise SystemExit("the cluster refused something")
        for _, future in batch:
            future.set_result(None)
