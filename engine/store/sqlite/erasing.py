"""All that belongs to a profile: found, and erased."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from headrace.engine.model import Doc, make_key
from headrace.engine.store.encoding import decode_doc
from headrace.engine.store.protocol import OWNED, OwnedKind
from headrace.engine.store.sqlite.rows import pack_key, unpack_key

PAGE = 200

_MINE = "tenant = :tenant AND profile IN (SELECT value FROM json_each(:ids))"
_OF_SESSIONS = "tenant = :tenant AND profile IS NULL AND session IN (SELECT value FROM json_each(:sessions))"
_encode = msgspec.json.Encoder().encode


class Part(NamedTuple):
    """Some rows of a table."""

    table: str
    where: str


PARTS: dict[OwnedKind, tuple[Part, ...]] = {
    "session": (Part("sessions", _MINE),),
    # What came without a profile, in a session that got one later, is theirs too.
    "event": (
        Part("events", f"{_MINE} AND type IS NOT NULL"),
        Part("events", f"{_OF_SESSIONS} AND type IS NOT NULL"),
    ),
    "mark": (Part("events", f"{_MINE} AND type IS NULL"),),
    "claim": (Part("claims", _MINE),),
    "failed": (
        Part("failed", _MINE),
        Part("failed", "n IN (SELECT value FROM json_each(:failed))"),
    ),
    "effect": (Part("effects", _MINE),),
    "timer": (Part("timers", _MINE),),
    "trace": (Part("traces", _MINE),),
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
    numbers = _failed(connection, tenant, set(profiles), sessions) if kind in (None, "failed") else ()
    values["failed"] = _encode(list(numbers)).decode()
    return values


def _failed(
    connection: sqlite3.Connection, tenant: str, profiles: set[str], sessions: set[str]
) -> Iterator[int]:
    """Yield the failed events, by their number, that had no profile yet: of a session, or accepted since."""
    sql = "SELECT n, source, session, event FROM failed WHERE tenant = ? AND profile IS NULL"
    for n, source, session, event in connection.execute(sql, (tenant,)).fetchall():
        if session in sessions:
            yield n
        elif source is not None and event is not None:
            key = pack_key(make_key("event", tenant, source, event))
            row = connection.execute("SELECT profile FROM events WHERE key = ?", (key,)).fetchone()
            if row is not None and row[0] in profiles:
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
        for kind in OWNED:
            for part in PARTS[kind]:
                sql = f"DELETE FROM {part.table} WHERE {part.where}"  # noqa: S608 - names of ours
                gone[kind] += connection.execute(sql, values).rowcount
        return gone

    return job


def empty_log(connection: sqlite3.Connection) -> bool:
    """Move the write-ahead log into the file and cut it, so that nothing erased stays in it; False: it is in use."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy
