"""Brings the events of a file into the store."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from headrace.api.doors.fields import Findings, read_event
from headrace.engine import strict_json
from headrace.engine.engine import Engine
from headrace.engine.errors import HeadraceError, InputError
from headrace.engine.files.source import Source
from headrace.engine.model import EventInput, TrackRequest, utc_now
from headrace.engine.note import note
from headrace.engine.request import Admission, Job
from headrace.engine.suggest import did_you_mean
from headrace.engine.track import commit_all

LINES_AT_ONCE = 500
"""Lines that are processed before the progress is written down."""
VISITORS_AT_ONCE = 50
LONGEST_LINE = 1 << 20
MEMBERS = ("type", "properties", "context", "id", "time", "version", "session", "profile", "source")


@dataclass
class Progress:
    """How far a file was imported: the next byte and the lines before it, and what became of them."""

    offset: int = 0
    lines: int = 0
    accepted: int = 0
    duplicates: int = 0
    bad: int = 0


class Line(NamedTuple):
    """One event of the file, and whose it is."""

    number: int
    source: str
    session: str | None
    profile: str | None
    event: EventInput


class Bad(NamedTuple):
    """A line that was not taken, and why."""

    line: int
    code: str
    message: str


class Import:
    """One file on its way into the store. Its state and its report stand in the folder `imports` of the data folder.

    The state belongs to the file's first line, so a file that grew, or was renamed, goes on where it stopped.
    """

    def __init__(self, engine: Engine, file: Path, source: str | None, *, again: bool) -> None:
        self.engine = engine
        self.file = file
        self.source = source
        with file.open("rb") as stream:
            first = stream.readline(LONGEST_LINE)
        self.identity = blake2b(first, digest_size=8).hexdigest()
        folder = engine.settings.data / "imports"
        folder.mkdir(parents=True, exist_ok=True)
        self._state = folder / f"{self.identity}.{source or 'any'}.json"
        self.report = folder / f"{self.identity}.bad.ndjson"
        self.progress = self._read_state()
        if again or self.progress.offset > file.stat().st_size:
            self.progress = Progress()
        self.started_at = self.progress.offset
        if self.started_at == 0:
            self.report.unlink(missing_ok=True)

    def _read_state(self) -> Progress:
        try:
            return Progress(**json.loads(self._state.read_bytes()))
        except (OSError, ValueError, TypeError):
            return Progress()

    def _write_state(self) -> None:
        whole = self._state.with_suffix(".part")
        whole.write_text(json.dumps(asdict(self.progress)), encoding="utf-8")
        whole.replace(self._state)

    async def run(self, advanced: Callable[[int], None]) -> Progress:
        """Import what is left; `advanced` is called with the offset. Raises StoreError; what was said to be done is."""
        with self.file.open("rb") as stream:
            stream.seek(self.progress.offset)
            while lines := list(islice(read_lines(stream), LINES_AT_ONCE)):
                await self._take(lines)
                self.progress.offset = stream.tell()
                self.progress.lines += len(lines)
                self._write_state()
                advanced(self.progress.offset)
        return self.progress

    async def _take(self, lines: list[bytes]) -> None:
        bad: list[Bad] = []
        visitors: dict[tuple[str, str], list[Line]] = {}
        for number, data in enumerate(lines, self.progress.lines + 1):
            if not data.strip():
                continue
            try:
                line = self._read(number, data)
            except InputError as error:
                bad.append(Bad(number, error.code, error.detail))
                continue
            # The events of one visit stay in order; those of others may be processed at the same time.
            visitor = line.session or line.profile or f"\n{number}"
            visitors.setdefault((line.source, visitor), []).append(line)
        limit = asyncio.Semaphore(VISITORS_AT_ONCE)

        async def take(group: list[Line]) -> None:
            async with limit:
                bad.extend(await self._track(group))

        ends = await asyncio.gather(*(take(each) for each in visitors.values()), return_exceptions=True)
        # All have ended before the first failure is told, so that nothing works on a store that closes.
        for end in ends:
            if end is not None:
                raise end
        self._report(sorted(bad))

    def _read(self, number: int, data: bytes) -> Line:
        """Return the event of a line. Raises InputError that says what is wrong."""
        if len(data) > LONGEST_LINE:
            raise InputError(413, "too_large", f"The line is longer than {LONGEST_LINE} bytes.")
        value, find = strict_json.decode(data), Findings()
        value = find.object(value if value is not None else [], "")
        find.only(value, MEMBERS)
        source = self.source or find.id(value.get("source"), "/source")
        if source and source not in self.engine.workspace.sources:
            hint = did_you_mean(source, self.engine.workspace.sources).rstrip(".")
            find.bad("/source", f"'{source}' is no source ({hint})")
        event = read_event(find, value)
        event.id = event.id or self._made_id(number, data)
        session = find.optional_id(value.get("session"), "/session")
        profile = find.optional_id(value.get("profile"), "/profile")
        find.stop_if_bad()
        return Line(number, source, session, profile, event)

    def _made_id(self, number: int, data: bytes) -> str:
        """Return the id of a line that has none: the same whenever this line of this file is imported."""
        text = f"{self.identity}\n{number}\n".encode() + data.strip()
        return f"import-{blake2b(text, digest_size=16).hexdigest()}"

    async def _track(self, lines: list[Line]) -> list[Bad]:
        """Process the events of one visitor; return the lines that were refused."""
        first = lines[0]
        source = self.engine.workspace.sources[first.source]
        try:
            job = self._job(source, lines)
        except InputError as error:
            if len(lines) == 1:
                return [Bad(first.number, error.code, error.detail.removeprefix("/events/0"))]
            return [bad for line in lines for bad in await self._track([line])]
        await commit_all(self.engine.parts, job)
        note(self.engine.parts, job)
        numbers = {line.event.id: line.number for line in lines}
        errors = [error for attempt in job.committed for error in attempt.errors]
        duplicates = sum(len(attempt.duplicates) for attempt in job.committed)
        self.progress.duplicates += duplicates
        self.progress.accepted += len(lines) - duplicates - len(errors)
        return [Bad(numbers.get(error.event, first.number), error.code, error.message) for error in errors]

    def _job(self, source: Source, lines: list[Line]) -> Job:
        session, profile = lines[0].session, lines[0].profile
        request = TrackRequest(
            source.id,
            [line.event for line in lines],
            "import",
            utc_now(),
            session_id=session,
            profile_id=profile,
            profile_less=session is None and profile is None,
        )
        # Who may run this command may write to the store: keys, doors and privacy of browsers are not asked.
        admission = Admission(source, source.file.trace, debugger=False, debugger_refused=False, not_kept="")
        return Job(request, admission, self.engine.workspace)

    def _report(self, bad: list[Bad]) -> None:
        if not bad:
            return
        self.progress.bad += len(bad)
        with self.report.open("a", encoding="utf-8") as report:
            for each in bad:
                report.write(json.dumps(each._asdict(), ensure_ascii=False) + "\n")


def read_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file; of one that is too long only the beginning."""
    while data := stream.readline(LONGEST_LINE + 1):
        yield data
        rest: Any = data
        while not rest.endswith(b"\n") and (rest := stream.readline(LONGEST_LINE)):
            # The rest of a line that is too long belongs to no other.
            pass


def open_import(engine: Engine, file: Path, source: str | None, *, again: bool) -> Import:
    """Return an import that begins, or goes on. Raises HeadraceError when the file or the source cannot be used."""
    sources = engine.workspace.sources
    if source is not None and source not in sources:
        raise HeadraceError(f"There is no source '{source}'. {did_you_mean(source, sources)}")
    try:
        return Import(engine, file, source, again=again)
    except OSError as error:
        raise HeadraceError(f"{error.filename}: {error.strerror}") from None
