"""Fixtures that start servers and end every one of them."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.server import Server, write_workspace

Starts = Callable[..., Server]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Write the small workspace of these tests."""
    return write_workspace(tmp_path / "workspace")


@pytest.fixture
def launch(tmp_path: Path, workspace: Path) -> Iterator[Starts]:
    """Return what starts a process without waiting for it; `path` is the workspace."""
    launched: list[Server] = []

    def begin(path: Path | None = None, data: Path | None = None, **more: Any) -> Server:
        launched.append(Server(path or workspace, data or tmp_path / "data", **more))
        return launched[-1]

    yield begin
    for server in launched:
        server.end()


@pytest.fixture
def start(launch: Starts) -> Starts:
    """Return what starts a server and waits until it takes requests."""

    def begin(path: Path | None = None, data: Path | None = None, **more: Any) -> Server:
        return launch(path, data, **more).wait_until_ready()

    return begin


@pytest.fixture
def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 3 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
