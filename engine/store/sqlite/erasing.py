"""All that belongs to a profile: found, and erased."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from headrace.engine.errors import BusyError, StoreError
from headrace.engine.model import Doc, make_key
from headrace.engine.store.encoding import decode_doc
from headrace.engine.store.protocol import LATE, OWNED, OwnedKind
from headrace.engine.store.sqlite import wiping
from headrace.engine.store.sqlite.rows import pack_key, unpack_key

PAGE = 200

_MINE = "tenant = :tenant AND profile IN (SELECT value FROM json_each(:ids))"
_NOBODYS = "+tenant = :tenant AND profile IS NULL"
_OF_SESSIONS = f"{_NOBODYS} AND session IN (SELECT value FROM json_each(:sessions))"  # noqa: S608 - names of ours
_ONE_OF = "(session IN (SELECT value FROM json_each(:sessions)) OR n IN (SELECT value FROM json_each(:rows)))"
_UNOWNED = f"{_NOBODYS} AND {_ONE_OF}"
_KEYS = (
    "SELECT CASE typeof(key) WHEN 'blob' THEN lower(hex(key)) ELSE key END"  # noqa: S608 - names of ours
    f" FROM events WHERE {_OF_SESSIONS} UNION SELECT value FROM json_each(:late)"
)
"""The keys of events that have no profile and are theirs all the same, as other documents name them."""

_OF_EVENTS = f"{_NOBODYS} AND event IN ({_KEYS})"
# A trace names its event by the id that the client gave, which another source may give, too.
_IDS = f"SELECT id FROM events WHERE {_UNOWNED}"  # noqa: S608 - names of ours
_TRACES = f"{_NOBODYS} AND event IN ({_IDS}) AND json_extract(CAST(doc AS TEXT), '$.key') IN ({_KEYS})"
_encode = msgspec.json.Encoder().encode


class Part(NamedTuple):
    """Some rows of a table."""

    table: str
    where: str


PARTS: dict[OwnedKind, tuple[Part, ...]] = {
    "session": (Part("sessions", _MINE),),
    # What came without a profile is theirs, too: in a session that got one later, or of a run that waited and got one.
    "event": tuple(Part("events", f"{which} AND type IS NOT NULL") for which in (_MINE, _UNOWNED)),
    "mark": tuple(Part("events", f"{which} AND type IS NULL") for which in (_MINE, _UNOWNED)),
    "claim": (Part("claims", _MINE),),
    "failed": (
        Part("failed", _MINE),
        Part("failed", "n IN (SELECT value FROM json_each(:failed))"),
    ),
    "effect": (Part("effects", _MINE), Part("effects", _OF_EVENTS)),
    "timer": (Part("timers", _MINE), Part("timers", _OF_EVENTS)),
    "trace": (Part("traces", _MINE), Part("traces", _TRACES)),
}
"""Where the documents of each kind are that belong to some profiles."""


def belonging(
    connection: sqlite3.Connection, tenant: str, profiles: Sequence[str], kind: OwnedKind | None = None
) -> dict[str, Any]:
    """Return the values by which the rows of some profiles are found, of all kinds or of one."""
    values: dict[str, Any] = {"tenant": tenant, "ids": _encode(sorted(set(profiles))).decode()}
    rows = connection.execute(f"SELECT doc FROM sessions WHERE {_MINE}", values).fetchall()  # noqa: S608
    sessions = {str(decode_doc(data).get("id")) for (data,) in rows}
    values["sessions"] = _encode(sorted(sessions)).decode()
    late = _late(connection, values)
    values["late"] = _encode(sorted(late)).decode()
    values["rows"] = _encode(list(_rows(connection, late))).decode()
    theirs = _Theirs(set(profiles), sessions, late)
    numbers = _failed(connection, tenant, theirs) if kind in (None, "failed") else ()
    values["failed"] = _encode(list(numbers)).decode()
    return values


def _late(connection: sqlite3.Connection, values: dict[str, Any]) -> set[str]:
    """Return the keys of events that got a profile, or one of their sessions, by a run that waited."""
    claims = connection.execute(f"SELECT doc FROM claims WHERE {_MINE}", values)  # noqa: S608
    late = {event for (data,) in claims if isinstance(event := decode_doc(data).get(LATE), str)}
    # The mark of such a run has the session, under the key of its timer.
    marks = f"SELECT key FROM events WHERE {_OF_SESSIONS} AND type IS NULL"  # noqa: S608
    sql = f"SELECT event FROM timers WHERE {_NOBODYS} AND event IS NOT NULL AND key IN ({marks})"  # noqa: S608
    return late.union(event for (event,) in connection.execute(sql, values))


def _rows(connection: sqlite3.Connection, keys: Iterable[str]) -> Iterator[int]:
    """Yield the numbers of events, by their keys."""
    for key in keys:
        row = connection.execute("SELECT n FROM events WHERE key = ?", (pack_key(key),)).fetchone()
        if row is not None:
            yield row[0]


class _Theirs(NamedTuple):
    """Whose events are looked for: profiles, sessions, and the keys of events that got one of them late."""

    profiles: set[str]
    sessions: set[str]
    late: set[str]

    def has(self, key: str, profile: str | None, session: str | None) -> bool:
        if profile is not None:
            return profile in self.profiles
        return session in self.sessions or key in self.late


def _failed(connection: sqlite3.Connection, tenant: str, theirs: _Theirs) -> Iterator[int]:
    """Yield the failed events, by their number, that had no profile yet: of a session, or accepted since."""
    sql = "SELECT n, source, session, event FROM failed WHERE tenant = ? AND profile IS NULL"
    for n, source, session, event in connection.execute(sql, (tenant,)):
        if session in theirs.sessions:
            yield n
        elif source is not None and event is not None:
            key = make_key("event", tenant, source, event)
            found = connection.execute("SELECT profile, session FROM events WHERE key = ?", (pack_key(key),))
            row = found.fetchone()
            if row is not None and theirs.has(key, *row):
                yield n


def owned_page(
    connection: sqlite3.Connection, part: Part, values: dict[str, Any], after: int
) -> tuple[list[Doc], int]:
    """Return the next documents of a part, and the number of the last row; a mark and a claim with their keys."""
    fields = {"events": "doc, id, received", "claims": "doc, profile, NULL"}.get(
        part.table, "doc, NULL, NULL"
    )
    sql = (
        f"SELECT n, key, {fields} FROM {part.table} WHERE {part.where} AND n > :after ORDER BY n LIMIT {PAGE}"  # noqa: S608
    )
    rows = connection.execute(sql, {**values, "after": after}).fetchall()
    docs: list[Doc] = []
    for _, key, data, more, received in rows:
        if data is None:
            docs.append({"key": unpack_key(key), "id": more, "received": received})
        elif part.table == "claims":
            docs.append({"key": unpack_key(key), **decode_doc(data), "profile": more})
        else:
            docs.append(decode_doc(data))
    return docs, rows[-1][0] if rows else after


def erasing(tenant: str, profiles: Sequence[str]) -> Callable[[sqlite3.Connection], dict[str, int]]:
    """Return the job that deletes profiles, by all ids that they have, and all that belongs to them."""

    def job(connection: sqlite3.Connection) -> dict[str, int]:
        ids = set(profiles)
        for profile in profiles:
            key = pack_key(make_key("profile", tenant, profile))
            row = connection.execute("SELECT doc FROM profiles WHERE key = ?", (key,)).fetchone()
            others = decode_doc(row[0]).get("ids") if row else None
            ids.update(one for one in others or () if isinstance(one, str))
        gone = dict.fromkeys(("profile", *OWNED), 0)
        values = belonging(connection, tenant, sorted(ids))
        for one in sorted(ids):
            key = pack_key(make_key("profile", tenant, one))
            gone["profile"] += connection.execute("DELETE FROM profiles WHERE key = ?", (key,)).rowcount
        # What is found by its event goes before that.
        for kind in reversed(OWNED):
            for part in PARTS[kind]:
                sql = f"DELETE FROM {part.table} WHERE {part.where}"  # noqa: S608 - names of ours
                gone[kind] += connection.execute(sql, values).rowcount
        return gone

    return job


async def wipe_file(path: str, busy_seconds: float, seconds: float) -> None:
    """Overwrite what deleted rows left in the file, and cut its log; raises BusyError while an old state is read."""
    command = [sys.executable, "-I", wiping.__file__, path, str(busy_seconds), str(seconds)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    if done.returncode == wiping.IN_USE:
        raise BusyError(f"What was erased still stands in {path}-wal, which is in use. Erase again.")
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2] or f"status {done.returncode}"
        raise StoreError(f"What was erased may still stand in unused bytes of {path}: {said}. Erase again.")
