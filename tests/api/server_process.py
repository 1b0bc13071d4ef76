"""A real server in a process of its own."""

import json
import os
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.api.conftest import body_of, write_workspace

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from headrace.api import protocol
from headrace.api.logs import set_up_logs
from headrace.api.server import serve
from headrace.engine.catalog import find_plugins
from headrace.engine.engine import Engine
from headrace.engine.settings import Settings
from headrace.engine.store.open import open_store
from headrace.engine.files.watch import LiveWorkspace

protocol.MAX_HEAD_SECONDS = float(os.environ["HEAD_SECONDS"])

class Slow(Engine):
    async def track(self, request):
        await asyncio.sleep(float(os.environ["SLOW"]))
        return await super().track(request)

settings = Settings.load(os.environ)
set_up_logs(settings.log_format, settings.log_level)
secrets = {}.get
live = LiveWorkspace(settings.workspace, find_plugins(), secrets)
engine = Slow(settings, open_store(settings.store, data=settings.data), live, secrets)
sys.exit(serve(engine, settings))
"""


class Process:
    """A server of its own, on a free port, whose requests take a while."""

    def __init__(self, path: Path, slow: float = 0, **environ: str) -> None:
        self.workspace = path / "workspace"
        if not self.workspace.exists():
            write_workspace(self.workspace)
        self.log = (path / "log").open("w+")
        self.running = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            stderr=self.log,
            env={
                "PATH": os.environ["PATH"],
                "HEADRACE_WORKSPACE": str(self.workspace),
                "HEADRACE_DATA": str(path / "data"),
                "HEADRACE_PORT": "0",
                "HEADRACE_ADMIN_TOKEN": "a",
                "SLOW": str(slow),
                "HEAD_SECONDS": "1",
                **environ,
            },
        )
        self.port = self._port()

    def lines(self) -> list[dict[str, Any]]:
        """Return the log: every line is JSON."""
        self.log.seek(0)
        return [json.loads(line) for line in self.log]

    def _port(self) -> int:
        for _ in range(200):
            if self.running.poll() is not None:
                break
            self.log.seek(0)
            for line in self.log.read().splitlines():
                if '"listening"' in line:
                    return int(json.loads(line)["address"].rpartition(":")[2])
            time.sleep(0.05)
        self.log.seek(0)
        raise AssertionError(self.log.read())

    def post(self, body: Any = None) -> int:
        """Send one request; returns the status."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", "/track", json.dumps(body or body_of("page-view")))
            return connection.getresponse().status
        finally:
            connection.close()

    def end(self) -> None:
        """Kill it, if it still runs."""
        if self.running.poll() is None:
            self.running.kill()
        self.running.wait()
        self.log.close()
