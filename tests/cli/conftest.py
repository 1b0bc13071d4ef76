"""What the tests of the command line share."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from headrace.cli import app

Result = Any
Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside, and a working folder that is empty."""
    for name in list(os.environ):
        if name.startswith("HEADRACE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Give the logs back as they were: a command sends them to a stream that ends with it."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**before)


@pytest.fixture
def call() -> Call:
    """Return what runs a command in this process: `call("lint", "shop")`."""
    runner = CliRunner()
    return lambda *words, **more: runner.invoke(app, [str(word) for word in words], **more)


@pytest.fixture
def shop(tmp_path: Path, call: Call) -> Path:
    """Return the workspace that `headrace init` writes."""
    assert call("init", "shop").exit_code == 0
    return tmp_path / "shop"
