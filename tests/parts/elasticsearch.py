"""A real Elasticsearch node for tests: got, started, killed, ended.

python -m tests.parts.elasticsearch --port 9200 --data DIR starts one and prints its URL.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tests.parts import guard
from tests.parts.download import Say, get_elasticsearch, say
from tests.parts.elastic_folder import ElasticFolder, new_memory_folder, new_temporary_folder, user_prefix
from tests.parts.errors import PartError
from tests.parts.java import find_java
from tests.parts.ports import free_port, port_is_free

NAMED_BY = "HEADRACE_TEST_ELASTICSEARCH"
LEAST_JAVA = 21
START_SECONDS = 100.0
STOP_SECONDS = 20.0
LOOK_SECONDS = 0.1
PORT_ATTEMPTS = 5
QUICK_OPTIONS = (
    "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-AlwaysPreTouch -XX:-UsePerfData "
    # Elastic's classes are well made; to verify each takes a second. A Java without the option need not know it.
    "-XX:+IgnoreUnrecognizedVMOptions -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
)
FULL_OPTIONS = "-XX:+UseG1GC"


class ElasticsearchNode:
    """One node on the loopback, started by `start` or as a context manager; security is off.

    `port` and `data` are free ones unless given; a folder `data` is kept at the end, and a node that is started on
    it later has its indices. `heap` is Java's, such as "512m". `quick` makes it start faster and use less memory, and
    work slower once it is warm, and keeps what it need not keep for long in memory where there is room: not for
    measurements. The node ends with this process, even when it is killed. Every method raises PartError, which says
    what to do.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        data: Path | None = None,
        heap: str = "512m",
        quick: bool = True,
        environ: Mapping[str, str] | None = None,
        tell: Say = say,
    ) -> None:
        self.port = port or 0
        self._chosen_port = port
        self._data = data
        self._heap = heap
        self._quick = quick
        self._environ = os.environ if environ is None else environ
        self._tell = tell
        self._folder: ElasticFolder | None = None
        self._java: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._name = ""

    @property
    def host(self) -> str:
        """Where it listens, as host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where it answers, such as http://127.0.0.1:20123."""
        return f"http://{self.host}"

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id of the server, not of its launcher; None when it does not run."""
        if self._folder is None or not self.running:
            return None
        with suppress(OSError, ValueError):
            return int(self._folder.pid_file.read_text())
        return None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout: float = START_SECONDS) -> Self:
        """Start it and wait until it answers, at most `timeout` seconds; getting it the first time comes on top."""
        if self.running:
            msg = f"the node at {self.url} runs already"
            raise PartError(msg)
        first = self.port == 0
        if self._folder is None and self._chosen_port and not port_is_free(self._chosen_port):
            msg = f"port {self._chosen_port} is taken by another program; name another one, or none"
            raise PartError(msg)
        folder = self._prepared()
        for attempt in range(PORT_ATTEMPTS):
            if first and not self._chosen_port:
                self.port = free_port()
            self._launch(folder)
            try:
                self._wait_until_ready(timeout)
            except BaseException as error:
                # Somebody may have taken the port in between; then another one will do.
                taken = isinstance(error, PartError) and "BindException" in self.log_tail(200)
                self._end()
                if taken and first and not self._chosen_port and attempt + 1 < PORT_ATTEMPTS:
                    continue
                self._clean()
                raise
            return self
        raise AssertionError("not reached")

    def kill(self) -> None:
        """Kill the server as a power cut would. Its data stay for `restart`."""
        pid = self.pid
        if pid is None:
            msg = "the node does not run, so it cannot be killed"
            raise PartError(msg)
        os.kill(pid, signal.SIGKILL)
        self._end()

    def restart(self, timeout: float = START_SECONDS) -> Self:
        """Start it again on the same data and port; one that runs is killed first."""
        if self._folder is None:
            msg = "the node was not started, or was stopped; a restart needs its data"
            raise PartError(msg)
        if self.running:
            self._end()
        return self.start(timeout)

    def stop(self) -> None:
        """End it; always safe. A folder of its own is removed, a named one is kept."""
        pid = self.pid
        if pid is not None and self._guard is not None and self._data is not None:
            # In order, so the next start on these data is quick.
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.kill(pid, signal.SIGTERM)
                self._guard.wait(STOP_SECONDS)
        self._end()
        self._clean()

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of its log."""
        if self._folder is None or not self._folder.log.exists():
            return ""
        text = self._folder.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def ask(self, method: str, path: str, body: object = None, timeout: float = 30) -> tuple[int, Any]:
        """Send one request and return status and JSON. A text goes as it is (a bulk), anything else as JSON.

        Raises OSError or HTTPException when it does not answer.
        """
        data = body if isinstance(body, str | None) else json.dumps(body)
        kind = "application/x-ndjson" if isinstance(body, str) else "application/json"
        parts = urlsplit(self.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        try:
            connection.request(method, path, data and data.encode(), {"Content-Type": kind} if data else {})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def ready(self) -> bool:
        """Say whether it answers and every index of it can be used."""
        try:
            status, health = self.ask("GET", "/_cluster/health?wait_for_status=yellow&timeout=2s", timeout=5)
        except (OSError, HTTPException, ValueError):
            return False
        return status == 200 and not health["timed_out"]

    def _is_itself(self) -> bool:
        """Say whether who answers is the node that was started last, not a stranger on its port."""
        with suppress(OSError, HTTPException, ValueError, LookupError, TypeError):
            return bool(self.ask("GET", "/", timeout=5)[1]["name"] == self._name)
        return False

    def _prepared(self) -> ElasticFolder:
        """Get what is needed and make the folder, once."""
        if self._folder is None:
            self._java = find_java(LEAST_JAVA, self._environ, user_prefix())
            distribution = get_elasticsearch(self._environ, self._tell)
            folder = self._new_folder()
            self._folder = folder
            try:
                folder.prepare(distribution)
            except BaseException:
                self._clean()
                raise
        return self._folder

    def _new_folder(self) -> ElasticFolder:
        """Return the folder that was named, or a new one."""
        if self._data:
            return ElasticFolder(self._data.resolve())
        return ElasticFolder(new_temporary_folder(), new_memory_folder() if self._quick else None)

    def _launch(self, folder: ElasticFolder) -> None:
        """Start the processes."""
        assert self._java is not None
        # A new name at each start tells this node from a stranger on its port.
        self._name = f"node-{uuid.uuid4().hex[:8]}"
        folder.configure(self._name, self.port, free_port())
        own = "" if self._data else os.pathsep.join(map(str, folder.own))
        command = [sys.executable, "-I", guard.__file__, own, *folder.command(self._java)]
        options = QUICK_OPTIONS if self._quick else FULL_OPTIONS
        with folder.log.open("wb") as log:
            self._guard = subprocess.Popen(
                command,
                cwd=folder.home,
                env=dict(folder.environment(self._java, self._heap, options)),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal is for the tests, which then end it.
                start_new_session=True,
            )

    def _wait_until_ready(self, seconds: float) -> None:
        """Wait until the node answers. Raises PartError with the end of its log."""
        assert self._guard is not None
        until = time.monotonic() + seconds
        while not (self.pid and self.ready() and self._is_itself()):
            if self._guard.poll() is not None:
                msg = f"Elasticsearch ended with exit code {self._guard.returncode}. Its log:\n{self.log_tail()}"
                raise PartError(msg)
            if time.monotonic() > until:
                msg = f"Elasticsearch did not answer at {self.url} within {seconds:.0f} s. Its log:\n{self.log_tail()}"
                raise PartError(msg)
            time.sleep(LOOK_SECONDS)

    def _end(self) -> None:
        """Kill what runs of it and wait until it is gone; the folder stays."""
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        with suppress(OSError):
            self._guard.stdin.write(b"k")
            self._guard.stdin.flush()
        self._guard.wait(STOP_SECONDS)
        with suppress(OSError):
            self._guard.stdin.close()
        self._guard = None

    def _clean(self) -> None:
        """Remove a folder that nobody named."""
        if self._folder is not None and self._data is None:
            for own in self._folder.own:
                shutil.rmtree(own, ignore_errors=True)
        self._folder = None
        if self._chosen_port is None:
            self.port = 0


class NamedNode(ElasticsearchNode):
    """A node that runs already and is not ours: it is used, and neither killed nor stopped."""

    def __init__(self, url: str) -> None:
        super().__init__()
        try:
            parts = urlsplit(url)
            named = parts.scheme == "http" and parts.hostname and parts.port
        except ValueError:
            named = None
        if not named:
            msg = f"{NAMED_BY}={url!r}: name a node such as http://127.0.0.1:9200"
            raise PartError(msg)
        self._host = f"{parts.hostname}:{parts.port}"

    @property
    def host(self) -> str:
        """Where it listens, as host:port."""
        return self._host

    def start(self, timeout: float = START_SECONDS) -> Self:  # noqa: ARG002
        """See that it answers and is of a version that we speak."""
        try:
            status, about = self.ask("GET", "/")
            version = about["version"]["number"] if status == 200 else f"status {status}"
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            msg = f"{NAMED_BY}={self.url}: no Elasticsearch answers there ({error}). Start one, or unset it."
            raise PartError(msg) from error
        if not version.startswith("9."):
            msg = f"{NAMED_BY}={self.url}: the tests need Elasticsearch 9, there is {version}"
            raise PartError(msg)
        return self

    def kill(self) -> None:
        """Refuse."""
        msg = f"the node at {self.url} was named by {NAMED_BY}; tests that kill a node start one of their own"
        raise PartError(msg)

    def restart(self, timeout: float = START_SECONDS) -> Self:  # noqa: ARG002
        """Refuse."""
        return self.kill() or self

    def stop(self) -> None:
        """Leave it as it is."""


def node_of_tests(environ: Mapping[str, str] = os.environ) -> ElasticsearchNode:
    """Return the node that the environment names, or a new one; not started."""
    url = environ.get(NAMED_BY, "").rstrip("/")
    return NamedNode(url) if url else ElasticsearchNode(environ=environ)


def main() -> int:
    """Start a node and keep it until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.parts.elasticsearch", description=__doc__)
    parser.add_argument("--get", action="store_true", help="only get the distribution, unless it is there")
    parser.add_argument("--port", type=int, help="where it listens; without it a free one")
    parser.add_argument("--data", type=Path, help="a folder that is kept; without it one that is removed")
    parser.add_argument("--heap", default="512m", help="Java's heap (512m)")
    parser.add_argument(
        "--quick", action="store_true", help="start faster, work slower: not for measurements"
    )
    options = parser.parse_args()
    # An end by `kill` is an end in order too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    node = ElasticsearchNode(port=options.port, data=options.data, heap=options.heap, quick=options.quick)
    try:
        if options.get:
            print(get_elasticsearch(os.environ))  # noqa: T201
            return 0
        with node:
            print(node.url, flush=True)  # noqa: T201
            say("runs until Ctrl-C")
            while node.running:
                time.sleep(1)
            say(f"ended by itself. Its log:\n{node.log_tail()}")
            return 1
    except PartError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
