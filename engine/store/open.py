"""Opens the store that a URL names."""

from pathlib import Path
from typing import Any

from headrace.engine.errors import StoreRefused
from headrace.engine.store.protocol import NoteCommit, Store, note_nothing

FILE_NAME = "headrace.db"
CLUSTERS = ("elasticsearch", "elasticsearch+https")


def open_store(
    url: str,
    *,
    data: Path,
    dedup_days: int = 28,
    busy_seconds: float = 5.0,
    request_seconds: float = 10.0,
    note_commit: NoteCommit = note_nothing,
) -> Store:
    """Open the store of a URL; the caller closes it.

    `sqlite:` is a file in the folder `data`, `sqlite:/path/file.db` any other; `elasticsearch://…` is a cluster, which
    need not be there yet. Event keys are remembered for at least `dedup_days`. `busy_seconds` is how long to wait for
    another process's write, `request_seconds` how long a request may take between its reads and its commit.
    `note_commit` is told of each durable write, always by the same thread.
    Raises StoreRefused, which says what to do.
    """
    path = sqlite_path(url, data)
    if path is not None:
        # Imported when it is named: a server with another store has no need of it.
        from headrace.engine.store.sqlite import SqliteStore  # noqa: PLC0415

        return SqliteStore(path, busy_seconds=busy_seconds, dedup_days=dedup_days, note_commit=note_commit)
    place = cluster_place(url)
    from headrace.engine.store.elastic import ElasticStore  # noqa: PLC0415 - as above

    return ElasticStore(
        place, dedup_days=dedup_days, request_seconds=request_seconds, note_commit=note_commit
    )


def cluster_place(url: str) -> Any:
    """Return the `Place` that a cluster's URL names. Raises StoreRefused, also when there is no client for it."""
    try:
        from headrace.engine.store.elastic.place import read_place  # noqa: PLC0415 - as above
    except ImportError as error:
        msg = (
            f"HEADRACE_STORE names Elasticsearch, and its client is not installed ({error.name}): "
            "pip install 'headrace[elasticsearch]'"
        )
        raise StoreRefused(msg) from error
    return read_place(url)


def sqlite_path(url: str, data: Path) -> Path | None:
    """Return the file that a URL names, None for a cluster's. Raises StoreRefused for what is neither."""
    scheme, colon, place = url.partition(":")
    if scheme in CLUSTERS and colon:
        return None
    if scheme != "sqlite" or not colon:
        msg = (
            f"HEADRACE_STORE={_without_password(url)!r}: there is no such store. There is: sqlite: "
            "(a file in the data folder), sqlite:/path/to/file.db, and elasticsearch://host:9200/prefix"
        )
        raise StoreRefused(msg)
    if place.startswith("//"):
        place = "/" + place.lstrip("/")
    if place == ":memory:" or "?" in place or "\0" in place or place.endswith("/"):
        msg = f"HEADRACE_STORE={url!r}: name a file, such as sqlite:/var/lib/{FILE_NAME}, or only sqlite:"
        raise StoreRefused(msg)
    path = (Path(place).expanduser() if place else data / FILE_NAME).absolute()
    if path.is_dir():
        msg = f"HEADRACE_STORE={url!r}: {path} is a folder. Name a file in it: sqlite:{path / FILE_NAME}"
        raise StoreRefused(msg)
    # SQLite keeps its log beside the file itself, not beside a link to it.
    return path.resolve()


def _without_password(url: str) -> str:
    """Return a URL that can be shown."""
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://…@{after}" if at else url
