"""Read one JSON file of a workspace; every fault becomes a Problem."""

import errno
import json
import math
import os
import re
import stat
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from headrace.engine.files.problem import Problem, dotted, shortened

MAX_BYTES = 1 << 20
MAX_DEPTH = 64

Place = tuple[str | int, ...]

_PIECE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


@dataclass(frozen=True)
class JsonFile:
    """What was read of a file: its bytes, and its object, which is None when there are problems."""

    file: str
    data: bytes
    value: dict[str, Any] | None
    problems: tuple[Problem, ...] = ()
    is_missing: bool = False

    def problem(self, place: Place, code: str, message: str, fix: str = "") -> Problem:
        """Make a problem at a place of this file, with its line and column."""
        line, column = self._locate(place)
        return Problem(self.file, dotted(place), code, shortened(message), shortened(fix), line, column)

    def _locate(self, place: Place) -> tuple[int | None, int | None]:
        """Return line and column of a place, or of the nearest place above it that is there."""
        for length in range(len(place), 0, -1):
            offset = self._offsets.get(place[:length])
            if offset is not None:
                return _line_column(self._lines, offset)
        return None, None

    @cached_property
    def _text(self) -> str:
        return self.data.decode("utf-8", "replace")

    @cached_property
    def _lines(self) -> list[int]:
        return _line_starts(self._text)

    @cached_property
    def _offsets(self) -> dict[Place, int]:
        return dict(places(self._text))


class _Fault(Exception):  # noqa: N818 - never leaves this module
    """The first fault of a file, on its way out of the parser."""

    def __init__(
        self, code: str, message: str, fix: str = "", offset: int | None = None, *, word: str = ""
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.fix, self.offset, self.word = code, message, fix, offset, word

    def position(self, text: str) -> tuple[int | None, int | None]:
        """Return line and column: of the offset, or of the first place where the word stands alone."""
        offset = self.offset
        if offset is None and self.word:
            offset = next((match.start() for match in _PIECE.finditer(text) if match[0] == self.word), None)
        return (None, None) if offset is None else _line_column(_line_starts(text), offset)


def read_json_file(folder: Path, file: str) -> JsonFile:
    """Read and parse `folder/file`."""
    try:
        data = read_regular(folder / file)
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.lexists(folder / file):
            message = "is not there"
            return JsonFile(file, b"", None, (Problem(file, "", "F01", message),), is_missing=True)
        message = "is a link to nothing"
        return JsonFile(file, b"", None, (Problem(file, "", "F01", message),))
    except OSError as error:
        message = f"cannot be read: {error.strerror or type(error).__name__}"
        return JsonFile(file, b"", None, (Problem(file, "", "F01", message),))
    return parse_json_file(data, file)


def read_regular(path: Path) -> bytes:
    """Return the bytes of a file, at most one more than `MAX_BYTES`; raises OSError.

    What is no regular file is not read: a pipe or a device may never end, or never begin.
    """
    _require_regular(path.stat())
    # What it is may have changed since; opening a pipe waits for its other side, unless it is told not to.
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _require_regular(os.fstat(opened))
        with open(opened, "rb", closefd=False) as stream:
            return stream.read(MAX_BYTES + 1)
    finally:
        os.close(opened)


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")


def parse_json_file(data: bytes, file: str) -> JsonFile:
    """Parse the bytes of a file; `file` is the name in its problems."""
    text = ""
    try:
        text = _decode(data)
        value = _parse(text)
    except _Fault as fault:
        line, column = fault.position(text)
        problem = Problem(file, "", fault.code, fault.message, fault.fix, line, column)
        return JsonFile(file, data, None, (problem,))
    problems = tuple(_duplicates(text, file)) if value is None else ()
    return JsonFile(file, data, value, problems)


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise _Fault("F09", f"is larger than {MAX_BYTES // 1024} KiB", "Split it.")
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _Fault("F03", "begins with a byte order mark", "Save it as UTF-8 without one.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _Fault("F02", f"is not UTF-8 text (line {line})", "Save it as UTF-8.") from None
    if not text.strip():
        raise _Fault("F04", "is empty", "Write a JSON object, or delete the file.")
    return text


def _parse(text: str) -> dict[str, Any] | None:
    """Return the object in the text; None when a member stands twice."""
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(text)
    twice: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice.append("")
        return found

    try:
        value = json.loads(text, object_pairs_hook=members, parse_constant=_no_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise _syntax_fault(text, error) from None
    except ValueError:  # an integer of thousands of digits
        raise _Fault("F07", "a number has too many digits", "Write it as a text.") from None
    if "\\u" in text and _has_lone_surrogate(value):
        raise _Fault("F12", "a text holds half of a surrogate pair", "Write the character itself.")
    if not isinstance(value, dict):
        raise _Fault(
            "F10", f"holds {json_type(value)} where an object is needed", "Begin with { and end with }."
        )
    return None if twice else value


def _check_depth(text: str) -> None:
    depth = 0
    for match in _PIECE.finditer(text):
        piece = match[0]
        depth += (piece in "{[") - (piece in "}]")
        if depth > MAX_DEPTH:
            raise _Fault(
                "F08", f"is nested deeper than {MAX_DEPTH} levels", "Make it flatter.", match.start()
            )


def _no_number(word: str) -> Any:
    raise _Fault("F07", f"{word} is no JSON number", "Write a finite number, or null.", word=word)


def _finite(word: str) -> float:
    number = float(word)
    if math.isinf(number):
        raise _Fault(
            "F07", f"the number {word[:20]} is too large", "Write a smaller number, or a text.", word=word
        )
    return number


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _syntax_fault(text: str, error: json.JSONDecodeError) -> _Fault:
    before = text[: error.pos].rstrip()
    rest = text[error.pos :].lstrip()
    last, next_ = before[-1:], rest[:1]
    message, fix = f"is not JSON: {error.msg}", ""
    if next_ in ("}", "]") and last == ",":
        message, fix = "is not JSON: a comma stands before the end", f"Delete the comma before {next_}."
    elif error.msg.startswith("Illegal trailing comma"):
        message, fix = "is not JSON: a comma stands before the end", "Delete the comma."
    elif rest.startswith(("//", "/*", "#")):
        message, fix = "is not JSON: here is a comment", 'JSON has none; most objects take an "about".'
    elif not rest:
        fix = "The file ends too early: is a closing bracket or a quote missing?"
    elif next_ == "'" or error.msg.startswith("Expecting property name"):
        fix = "Names and texts stand in double quotes."
    elif error.msg.startswith("Expecting ',' delimiter"):
        fix = (
            "Is a comma or a closing bracket missing before it?" if rest else "A closing bracket is missing."
        )
    elif error.msg.startswith("Unterminated string"):
        fix = 'Is the closing " missing?'
    elif error.msg.startswith("Invalid control character"):
        fix = 'A line break in a text is written \\n. Is the closing " missing?'
    elif error.msg.startswith("Expecting value"):
        fix = _value_fix(rest)
    elif error.msg.startswith("Extra data"):
        fix = "One file holds one object; delete what follows it."
    elif error.msg.startswith("Expecting ':'"):
        fix = 'A member is written "name": value.'
    return _Fault("F05", message, fix, error.pos)


def _value_fix(rest: str) -> str:
    words = {"True": "true", "False": "false", "None": "null", "undefined": "null"}
    for word, right in words.items():
        if rest.startswith(word):
            return f"Write {right}."
    return "A text stands in double quotes."


def _duplicates(text: str, file: str) -> Iterator[Problem]:
    seen: set[Place] = set()
    twice: set[Place] = set()
    lines = _line_starts(text)
    for place, offset in places(text):
        if any(place[:length] in twice for length in range(1, len(place))):
            continue
        if place in seen and isinstance(place[-1], str):
            twice.add(place)
            line, column = _line_column(lines, offset)
            yield Problem(file, dotted(place), "F06", "the member stands twice", "Delete one.", line, column)
        seen.add(place)


def json_type(value: Any) -> str:
    """Name the JSON type of a value, with an article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = ((dict, "an object"), (list, "a list"), (str, "a text"))
    return next((name for kind, name in names if isinstance(value, kind)), "a number")


def places(text: str) -> Iterator[tuple[Place, int]]:
    """Yield each member's and item's place and offset in a JSON text, a member that stands twice as often."""
    at: list[str | int] = []
    expects_name = False
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece in "}]":
            if at:
                at.pop()
            expects_name = False
        elif piece == ",":
            if at and isinstance(at[-1], int):
                at[-1] += 1
            else:
                expects_name = True
        elif piece == ":":
            expects_name = False
        elif expects_name and piece[0] == '"':
            at[-1] = json.loads(piece, strict=False)
            yield tuple(at), match.start()
        else:
            if at and isinstance(at[-1], int):
                yield tuple(at), match.start()
            if piece in "{[":
                expects_name = piece == "{"
                at.append("" if expects_name else 0)


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _line_column(starts: Sequence[int], offset: int) -> tuple[int, int]:
    """Return line and column of an offset, both from 1, in a text whose lines start there."""
    line = bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1
