"""A server as a process of its own: started, watched, killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.stores import Place

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-for-tests"

SOURCES: dict[str, Any] = {
    "web": {"about": "Public.", "answers_profile": True, "debugger": True, "bots": "mark"},
    "backend": {"keys": [{"secret": "BACKEND_KEY"}], "trust_profile_ids": True},
}
COUNTING: dict[str, Any] = {
    "about": "Counts the events of each profile.",
    "on": {"event": ["count"]},
    "nodes": {
        "seen": {"plugin": "increment", "config": {"field": "profile.stats.counters.seen"}},
        "last": {
            "plugin": "set_fields",
            "config": {"fields": {"profile.traits.last": "{{ event.id }}"}},
        },
    },
}

Doc = dict[str, Any]


OUTGOING: Doc = {
    "on": {"event": ["outgoing"]},
    "nodes": {
        "tell": {
            "plugin": "webhook",
            "config": {"url": "https://receiver.example/"},
            "then": {"queued": ["wait"]},
        },
        "wait": {"plugin": "wait", "config": {"period": "1d"}},
    },
}
"""Leaves an effect that nobody takes, and a run that waits."""


def write_workspace(path: Path, **workflows: Doc) -> Path:
    """Write a workspace with two sources, and the workflow that counts unless others are given."""
    (path / "workflows").mkdir(parents=True)
    (path / "sources.json").write_text(json.dumps({"sources": SOURCES}))
    for name, workflow in (workflows or {"count": COUNTING}).items():
        (path / "workflows" / f"{name}.json").write_text(json.dumps(workflow))
    return path


def track_body(*types: str, session: str = "s1", ids: Sequence[str] = (), **more: Any) -> Doc:
    """Return the body of a request to /track; `ids` are the ids of its events."""
    events: list[Doc] = [{"type": name} for name in types]
    for event, event_id in zip(events, ids, strict=False):
        event["id"] = event_id
    return {"source": {"id": "web"}, "session": {"id": session}, "events": events, **more}


class Server:
    """One server process. Everything that it writes goes to `log`; `end` is always safe."""

    def __init__(
        self,
        workspace: Path,
        data: Path,
        *,
        place: Place,
        command: str = "serve",
        port: int = 0,
        before: Sequence[str] = (),
        **environ: str,
    ) -> None:
        self.workspace = workspace
        self.data = data
        self.place = place
        data.parent.mkdir(parents=True, exist_ok=True)
        # Beside the data folder, which may be on a disk without room.
        self.log = workspace.parent / f"server-{time.monotonic_ns()}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        clean |= {
            "PYTHONPATH": str(ROOT),
            "HEADRACE_STORE": place.url,
            "HEADRACE_ADMIN_TOKEN": TOKEN,
            "HEADRACE_LOG_FORMAT": "json",
            "BACKEND_KEY": "backend-key",
            **environ,
        }
        arguments = [sys.executable, "-m", "headrace", command, str(workspace)]
        arguments += ["--port", str(port), "--data", str(data)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*before, *arguments], cwd=ROOT, env=clean, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.port = port

    def wait_until_ready(self, seconds: float = 30) -> "Server":
        """Wait until requests are taken; raises AssertionError with the log when the process ends before."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            said = self.said("listening")
            if said:
                self.port = int(said[0]["address"].rpartition(":")[2])
                with suppress(OSError):
                    if self.get("/readyz")[0] == 200:
                        return self
            time.sleep(0.02)
        raise AssertionError(f"the server is not ready, exit code {self.process.poll()}:\n{self.text()}")

    def wait_until_ended(self, seconds: float = 30) -> int:
        """Wait for the end of the process and return its exit code; a signal counts as its negative number."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server still runs:\n{self.text()}") from None

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop it in order; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait_until_ended()

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.kill()

    def text(self) -> str:
        """Return all that it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def said(self, event: str) -> list[Doc]:
        """Return the lines of the log about an event."""
        found = []
        for line in self.text().splitlines():
            if line.startswith("{"):
                # The last line may not be whole yet.
                with suppress(ValueError):
                    found.append(json.loads(line))
        return [line for line in found if line.get("event") == event]

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a connection of its own; returns status, headers in lower case, and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(
                method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
            )
            answer = connection.getresponse()
            return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, Doc]:
        """Ask the read API with the token, once it sees what was written."""
        if path.startswith("/api/"):
            self.wait_until_written()
            self.place.show()
        status, _, body = self.request("GET", path, Authorization=f"Bearer {TOKEN}")
        return status, json.loads(body)

    def wait_until_written(self, seconds: float = 20) -> None:
        """Wait until what it has answered is where questions look for it."""
        until = time.monotonic() + seconds
        while waiting := self.get("/readyz")[1].get("facts", {}).get("waiting_documents", 0):
            assert time.monotonic() < until, f"{waiting} documents still wait"
            time.sleep(0.02)

    def post(self, body: Doc | bytes, path: str = "/track", **headers: str) -> tuple[int, Doc]:
        """Post a JSON body; returns status and answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, answer = self.request("POST", path, data, **headers)
        return status, json.loads(answer)

    def resident_mib(self) -> float:
        """Return its resident memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS")
