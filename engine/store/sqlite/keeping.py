"""What is given to another profile, or grown too old."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from headrace.engine.model import Doc, iso, make_key
from headrace.engine.store.encoding import decode_doc, encode_doc, given_back
from headrace.engine.store.sqlite.rows import pack_key

BATCH = 500
"""How many documents one transaction changes at most, so that commits come in between."""

Job = Callable[[sqlite3.Connection], int]


def reowning(tenant: str, loser: str, survivor: str) -> Iterator[Job]:
    """Yield the jobs that move events, sessions and timers, to be run in turn; each again until it moves nothing."""
    for table in ("sessions", "events", "timers"):
        # A session's version counts, so that a commit that read it before does not undo this.
        bump = ", version = version + 1" if table == "sessions" else ""
        saved = " AND type IS NOT NULL" if table == "events" else ""

        def job(
            connection: sqlite3.Connection, table: str = table, bump: str = bump, saved: str = saved
        ) -> int:
            rows = connection.execute(
                f"SELECT n, doc FROM {table} WHERE tenant = ? AND profile = ?{saved} LIMIT ?",  # noqa: S608
                (tenant, loser, BATCH),
            ).fetchall()
            for n, data in rows:
                doc = decode_doc(data)
                doc.setdefault("profile_then", loser)
                doc["profile"] = survivor
                connection.execute(
                    f"UPDATE {table} SET profile = ?, doc = ?{bump} WHERE n = ?",  # noqa: S608
                    (survivor, encode_doc(doc), n),
                )
            return len(rows)

        yield job


def giving_back(
    tenant: str, owners: Sequence[str], then: Sequence[str], profile: str
) -> Iterator[Callable[[sqlite3.Connection], tuple[int, int]]]:
    """Yield the jobs that undo `reowning`, to be run in turn; each again until it looks at nothing more.

    They return how many documents they looked at, and how many they moved.
    """
    for table in ("sessions", "events", "timers"):
        yield _Returning(table, tenant, owners, then, profile)


class _Returning:
    """Gives the documents of one table back, some at a time."""

    def __init__(
        self, table: str, tenant: str, owners: Sequence[str], then: Sequence[str], profile: str
    ) -> None:
        # Only documents in which the member's name stands are decoded.
        self._select = (
            f"SELECT n, doc FROM {table} WHERE tenant = ? AND profile IN ({', '.join('?' * len(owners))})"  # noqa: S608
            f"{' AND type IS NOT NULL' if table == 'events' else ''} AND n > ?"
            f" AND instr(doc, CAST('\"profile_then\"' AS BLOB)) ORDER BY n LIMIT {BATCH}"
        )
        bump = ", version = version + 1" if table == "sessions" else ""
        self._update = f"UPDATE {table} SET profile = ?, doc = ?{bump} WHERE n = ?"  # noqa: S608
        self._values = (tenant, *owners)
        self._then = then
        self._profile = profile
        self._after = 0

    def __call__(self, connection: sqlite3.Connection) -> tuple[int, int]:
        moved = 0
        rows = connection.execute(self._select, (*self._values, self._after)).fetchall()
        for self._after, data in rows:
            doc = given_back(decode_doc(data), self._then, self._profile)
            if doc is not None:
                moved += 1
                connection.execute(self._update, (self._profile, encode_doc(doc), self._after))
        return len(rows), moved


class Old(NamedTuple):
    """Documents that grew too old: where they are, the column of their time, which ones, and what happens."""

    kind: str
    table: str
    time: str
    old: str
    before: str
    forget: bool = False


_ENDED = "json_extract(CAST(doc AS TEXT), '$.ended')"
"""When a timer was fired, cancelled or given up; it may have waited for longer than it is kept."""

_AGE = {
    # What was changed lately is not old, whenever it was made. A merged profile goes with the one that it lives on in.
    "profile": ("profiles", "created", "updated < :before AND NOT hidden"),
    "session": ("sessions", "created", "updated < :before"),
    "event": ("events", "received", "type IS NOT NULL"),
    "failed": ("failed", "created", "1"),
    # What a worker has still to do does not grow old.
    "effect": ("effects", "created", "next IS NULL"),
    "timer": ("timers", "created", f"next IS NULL AND coalesce({_ENDED}, created) < :before"),
    "trace": ("traces", "created", "1"),
}


def too_old(kind_days: dict[str, int], now: datetime, dedup_days: int) -> list[Old]:
    """Return what has to go, by kind and age in days. Raises ValueError for a kind that is not kept."""
    found = []
    for kind, days in kind_days.items():
        if kind not in _AGE:
            msg = f"No retention for {kind!r}. There are: {', '.join(_AGE)}"
            raise ValueError(msg)
        found.append(Old(kind, *_AGE[kind], iso(now - timedelta(days=days)), forget=kind == "event"))
    found.append(Old("mark", "events", "received", "type IS NULL", iso(now - timedelta(days=dedup_days))))
    return found


def tenants_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the tenants that a table knows, by jumps through its index."""
    found: list[str] = []
    sql = f"SELECT min(tenant) FROM {table} WHERE tenant > ?"  # noqa: S608 - a name of ours
    last = connection.execute(f"SELECT min(tenant) FROM {table}").fetchone()[0]  # noqa: S608
    while last is not None:
        found.append(last)
        last = connection.execute(sql, (last,)).fetchone()[0]
    return found


def old_rows(connection: sqlite3.Connection, old: Old, tenant: str) -> list[int]:
    """Return some rows of a tenant that are too old, by their number."""
    sql = (
        f"SELECT n FROM {old.table} INDEXED BY {old.table}_listed"  # noqa: S608 - names of ours
        f" WHERE tenant = :tenant AND {old.time} < :before AND {old.old} LIMIT {BATCH}"
    )
    return [row[0] for row in connection.execute(sql, {"tenant": tenant, "before": old.before})]


_FORGET = "type = NULL, source = NULL, session = NULL, happened = NULL, doc = NULL"
"""What makes a mark of an event."""


def dropping(old: Old, rows: list[int]) -> Job:
    """Return the job that lets rows go, if they are still too old; an event leaves a mark of its key."""
    # The numbers are whole numbers that SQLite gave; named and unnamed values do not mix.
    several = f"n IN ({', '.join(map(str, rows))}) AND {old.time} < :before AND {old.old}"

    def job(connection: sqlite3.Connection) -> int:
        values = {"before": old.before}
        if old.forget:
            return connection.execute(f"UPDATE events SET {_FORGET} WHERE {several}", values).rowcount  # noqa: S608
        merged = _drop_with(connection, several, values) if old.table == "profiles" else 0
        return merged + connection.execute(f"DELETE FROM {old.table} WHERE {several}", values).rowcount  # noqa: S608

    return job


def _drop_with(connection: sqlite3.Connection, several: str, values: dict[str, str]) -> int:
    """Delete what was merged into profiles that go, and all their claims, so that values can belong to someone new.

    Returns how many merged profiles there were.
    """
    merged = 0
    rows = connection.execute(f"SELECT tenant, doc FROM profiles WHERE {several}", values).fetchall()  # noqa: S608
    for tenant, data in rows:
        doc: Doc = decode_doc(data)
        for id in {doc.get("id"), *doc.get("ids", ())}:
            key = pack_key(make_key("profile", tenant, str(id)))
            sql = "DELETE FROM profiles WHERE key = ? AND hidden"
            is_merged = connection.execute(sql, (key,)).rowcount
            merged += is_merged
            if is_merged or id == doc.get("id"):
                connection.execute("DELETE FROM claims WHERE tenant = ? AND profile = ?", (tenant, id))
    return merged
