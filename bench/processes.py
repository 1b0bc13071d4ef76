"""Servers as real processes: started, watched, measured, ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TICKS = os.sysconf("SC_CLK_TCK")

TOKEN = "a-token-for-benchmarks"  # noqa: S105 - of a server that lives for seconds

Doc = dict[str, Any]


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process, ended when the block is left. `start_seconds`: until it said that it is ready."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        ready: str,
        log: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.command = command
        self.environ = environ or {}
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.ready = ready
        self.log = log
        self.start_seconds = 0.0

    def __enter__(self) -> "Server":
        began = time.perf_counter()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        environ |= {"PYTHONPATH": str(ROOT), **self.environ}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        while not self._is_ready():
            if self.process.poll() is not None or time.perf_counter() - began > 30:
                self.__exit__(None, None, None)
                raise SystemExit(f"the server did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.01)
        self.start_seconds = time.perf_counter() - began
        return self

    def _is_ready(self) -> bool:
        try:
            with urlopen(self.url + self.ready, timeout=2) as answer:  # noqa: S310 - our own loopback
                return int(answer.status) == 200
        except (URLError, OSError):
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(25)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu_seconds(self) -> float:
        """Return the CPU time that all its threads took so far, user and system."""
        return cpu_seconds(self.process.pid)

    def resident_mib(self) -> float:
        """Return its resident memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process took so far, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def headrace(workspace: Path, data: Path, store: str = "sqlite:") -> Server:
    """Return a server of ours, not started yet."""
    port = free_port()
    command = [sys.executable, "-m", "headrace", "serve", str(workspace)]
    command += ["--port", str(port), "--data", str(data)]
    environ = {"HEADRACE_STORE": store, "HEADRACE_ADMIN_TOKEN": TOKEN}
    return Server(command, port, "/readyz", data.parent / "headrace.log", environ)


def floor(data: Path, cluster: str = "") -> Server:
    """Return a floor server, not started yet; `cluster` is the URL of a node that it writes to instead of a file."""
    port = free_port()
    command = [sys.executable, str(HERE / "floor.py"), "--port", str(port), "--data", str(data)]
    command += ["--cluster", cluster] if cluster else []
    return Server(command, port, "/", data.parent / "floor.log")


class Load:
    """The process that sends requests."""

    def __enter__(self) -> "Load":
        command = [sys.executable, str(HERE / "load.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None  # noqa: S101 - it was asked for
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def run(self, plan: Doc) -> Doc:
        """Run a plan and return what was measured; ends the benchmark when an answer was not 200."""
        assert self.process.stdin is not None  # noqa: S101 - it was asked for
        assert self.process.stdout is not None  # noqa: S101 - it was asked for
        self.process.stdin.write(json.dumps(plan) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the load ended early")
        found: Doc = json.loads(line)
        if set(found["statuses"]) != {"200"}:
            raise SystemExit(f"not every request was taken: {found['statuses']}")
        return found
