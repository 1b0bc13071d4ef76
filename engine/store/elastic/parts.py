"""What a commit record carries of its last changes.

The record (a profile; without one a session; without both an event) is one document, so one write of it is the whole
change. Its member `pending` is a list of parts, one for each change: the documents to write, whole; then, for as long
as a request may take, only the keys of the change's events and the number of its session's write, which say what a
reader who read those before the record did not see yet. Parts of which only keys are left are put together by their
time: a busy profile has one for every few seconds, not one for each change.
"""

from collections.abc import Container, Iterable, Sequence
from typing import Literal

import msgspec

from headrace.engine.store.elastic.documents import as_text
from headrace.engine.store.elastic.layout import SESSION_VERSIONS

REDO_MS = 5_000
"""A part that is older, of which nobody here knows that it is done, is done again by whoever meets it."""

SPAN_MS = 4_096
"""Parts of so long a time of which only keys are left become one; its keys are kept for longer by as much."""

_encode = msgspec.json.Encoder().encode


class Planned(msgspec.Struct, frozen=True, gc=False):
    """A document to write after its record: by `create`, or a session by its number.

    Of a session that a change writes, `doc` is its JSON alone and `owner` the profile that it names.
    """

    kind: Literal["create", "session"]
    where: str
    id: str
    n: int
    source: bytes
    doc: bytes = b""
    owner: str | None = None

    def line(self) -> bytes:
        """Return the line of a bulk. Doing it twice, or too late, is refused by the cluster and harmless."""
        if self.kind == "create":
            return create_line(self.where, self.id)
        version = SESSION_VERSIONS + self.n
        return (
            f'{{"index":{{"_index":"{self.where}","_id":"{self.id}",'
            f'"version":{version},"version_type":"external"}}}}'
        ).encode()

    def as_text(self) -> "Planned":
        """Return the same with its document as a text."""
        return msgspec.structs.replace(self, source=as_text(self.source))


def create_line(where: str, id: str) -> bytes:
    """Return the line that makes a document, if there is none."""
    return f'{{"create":{{"_index":"{where}","_id":"{id}"}}}}'.encode()


def replace_line(where: str, id: str, seq_no: int, term: int) -> bytes:
    """Return the line that replaces a document, if it still has this version."""
    return (
        f'{{"index":{{"_index":"{where}","_id":"{id}","if_seq_no":{seq_no},"if_primary_term":{term}}}}}'
    ).encode()


def delete_line(where: str, id: str, seq_no: int, term: int) -> bytes:
    """Return the line that deletes a document, if it still has this version."""
    return (
        f'{{"delete":{{"_index":"{where}","_id":"{id}","if_seq_no":{seq_no},"if_primary_term":{term}}}}}'
    ).encode()


class _Kept(msgspec.Struct, array_like=True):
    """A planned document as a record keeps it."""

    kind: Literal["create", "session"]
    where: str
    id: str
    n: int
    source: msgspec.Raw


class Part(msgspec.Struct, omit_defaults=True):
    """One change in its record: when it came (ms since 1970), its events' keys, its session's key and number.

    `left` are the documents that are still to be written; empty when they are known to be. With an `id` that is empty
    it is several changes, of which nothing but keys is left.
    """

    id: str
    at: int
    keys: list[str] = []
    session: tuple[str, int] | None = None
    left: list[_Kept] = []

    def planned(self) -> list[Planned]:
        """Return the documents to write."""
        return [Planned(one.kind, one.where, one.id, one.n, bytes(one.source)) for one in self.left]

    def stub(self) -> "Part":
        """Return what remains of it when its documents are written."""
        return Part(self.id, self.at, self.keys, self.session) if self.left else self


def part_of(
    change: str, at: int, keys: list[str], session: tuple[str, int] | None, planned: Iterable[Planned]
) -> Part:
    """Return the part of a change."""
    left = [_Kept(one.kind, one.where, one.id, one.n, msgspec.Raw(one.source)) for one in planned]
    return Part(change, at, keys, session, left)


def pending_members(parts: Sequence[Part]) -> bytes:
    """Return the members that hold parts in a record's source, with a comma before them, or nothing."""
    if not parts:
        return b""
    waiting = [part.at for part in parts if part.left]
    since = b',"pending_since":%d' % min(waiting) if waiting else b""
    return b',"pending":' + _encode(parts) + since


def carried(
    parts: Sequence[Part],
    done: Container[str],
    mine: Container[str],
    now: int,
    remember_ms: int,
    session: str | None,
) -> list[Part]:
    """Return what the next write of a record keeps of its parts.

    Of the changes in `done` this process knows that all is written; what others still hold stays whole. Those in `mine`
    are its own, and nobody asks any more whether they came. `session` is the key of the session that the next write
    numbers anew.
    """
    kept: list[Part] = []
    of_span: dict[int, Part] = {}
    for part in parts:
        if part.left and part.id not in done:
            kept.append(part)
        elif now - part.at < remember_ms:
            numbered = None if part.session is None or part.session[0] == session else part.session
            if numbered is None and (not part.id or part.id in mine):
                if part.keys:
                    _put_together(of_span, part)
            else:
                # A reader may still need it; its writer, if it is not us, looks for its own id when an answer was lost.
                same = not part.left and numbered is part.session
                kept.append(part if same else Part(part.id, part.at, part.keys, numbered))
    kept += of_span.values()
    return kept


def _put_together(of_span: dict[int, Part], part: Part) -> None:
    """Add a part of which only keys are left to the others of its time."""
    span = part.at // SPAN_MS
    other = of_span.get(span)
    if other is not None:
        part = Part("", max(other.at, part.at), [*other.keys, *part.keys])
    elif part.left or part.session is not None:
        part = Part(part.id, part.at, part.keys)
    of_span[span] = part
