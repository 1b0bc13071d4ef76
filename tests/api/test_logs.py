"""The log: its form, and what never stands in it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from headrace.api.logs import Refusals
from headrace.api.server import _show_token
from headrace.api.tokens import Tokens

PROGRAM = """
import logging, sys
import structlog
from headrace.api.logs import set_up_logs
set_up_logs(sys.argv[1], "info")
log = structlog.stdlib.get_logger("headrace.test")
log.debug("not shown")
log.info("shown", number=1)
logging.getLogger("uvicorn.error").warning("of a library, not shown")
logging.getLogger("elastic_transport.transport").info("of a library, not shown")
logging.getLogger("elastic_transport.node_pool").warning("of a library, not shown")
logging.getLogger("other").warning("of a library")
try:
    sent = "very-secret"
    raise ValueError("broken")
except ValueError:
    log.exception("fault")
"""


def written(style: str) -> str:
    run = subprocess.run([sys.executable, "-c", PROGRAM, style], capture_output=True, text=True, check=True)
    assert run.stdout == ""
    return run.stderr


def test_json_is_one_object_a_line() -> None:
    text = written("json")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines] == ["shown", "of a library", "fault"]
    assert lines[0] | {"timestamp": ""} == {
        "event": "shown",
        "level": "info",
        "logger": "headrace.test",
        "number": 1,
        "timestamp": "",
    }
    assert lines[2]["exception"][0]["exc_value"] == "broken"
    assert "very-secret" not in text


def test_the_console_form_is_for_reading() -> None:
    text = written("console")
    assert "shown" in text
    assert "ValueError: broken" in text
    assert "\x1b" not in text


HOSTILE = """
import sys
import structlog
from headrace.api.logs import set_up_logs
set_up_logs(sys.argv[1], "info")
log = structlog.stdlib.get_logger("headrace.test")
text = "a\\tb\\n2026-01-01 [error] forged \\x1b[2J\\x9b\\r\\x07\\u202e\\ud800\\x7f"
log.info(text, plain=text, listed=[text], inner={text: text}, code="x\\x1b[31m")
try:
    raise ValueError(text)
except ValueError:
    log.exception("fault")
"""


@pytest.mark.parametrize("style", ["console", "json"])
def test_nothing_that_was_sent_can_forge_a_line(style: str) -> None:
    run = subprocess.run([sys.executable, "-c", HOSTILE, style], capture_output=True, check=True)
    text = run.stderr.decode()
    assert "forged" in text
    lines = text.split("\n")
    if style == "console":
        assert "a\tb\\n2026-01-01" in lines[0]
        assert all(sign.isprintable() or sign in "\n\t" for sign in text)
        assert [line[:2] for line in lines[2:-1]] == ["  "] * len(lines[2:-1])
    else:
        assert len(lines) == 3
        assert not any(ord(sign) < 32 for line in lines for sign in line)


def test_refusals_are_limited_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, Any]] = []
    now = 100.0
    monkeypatch.setattr("headrace.api.logs.time.monotonic", lambda: now)
    with structlog.testing.capture_logs() as lines:
        refusals = Refusals(per_second=3)
        for n in range(10):
            refusals.note(str(n), "track", 422, "bad_fields")
        now = 101.0
        refusals.note("later", "track", 503, "StoreError", "disk full")
        said += [dict(line) for line in lines]
    assert [line["request"] for line in said] == ["0", "1", "2", "later"]
    assert said[-1]["left_out"] == 7
    assert said[-1]["reason"] == "disk full"


def test_a_new_token_is_shown_to_a_person_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = Tokens("the-token", made=Path("data/token"))
    with structlog.testing.capture_logs() as lines:
        _show_token(tokens)
    assert "the-token" not in str(lines) + capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _show_token(tokens)
    assert "the-token" in capsys.readouterr().err
