"""What stands in a stored source: our document and its fields, byte-true."""

import json
from typing import Any

import msgspec

from headrace.engine.model import Doc
from headrace.engine.store.encoding import decode_doc, encode_doc

Members = dict[str, msgspec.Raw]
"""A source by its members, none of which is looked into: what is not replaced stays as it was, to the byte."""

_encode = msgspec.json.Encoder().encode
_decode_members = msgspec.json.Decoder(Members).decode
_decode_text = msgspec.json.Decoder(str).decode


class _Kept(msgspec.Struct):
    doc: msgspec.Raw = msgspec.Raw(b"")
    text: str | None = None
    hidden: bool = False

    def whole(self) -> Doc | None:
        if self.doc:
            return decode_doc(memoryview(self.doc))
        return None if self.text is None else decode_doc(self.text.encode())


_decode_kept = msgspec.json.Decoder(_Kept).decode


def doc_of(source: bytes) -> Doc | None:
    """Return the document in a source; None for a mark, and for a session that is only claimed."""
    return _decode_kept(source).whole()


def shown_doc(source: bytes) -> Doc | None:
    """Return the document in a source as a question may see it: None for a hidden one too."""
    kept = _decode_kept(source)
    return None if kept.hidden else kept.whole()


def members_of(source: bytes) -> Members:
    """Return a source's members."""
    return _decode_members(source)


def encode_members(members: Members) -> bytes:
    """Return the source that has these members."""
    return _encode(members)


def raw(value: Any) -> msgspec.Raw:
    """Return a JSON value as a member."""
    return msgspec.Raw(_encode(value))


def put_doc(members: Members, doc: Doc) -> None:
    """Replace the document in a source; as a text where Elasticsearch would mend it. Raises StoreError."""
    _put(members, encode_doc(doc), as_text=False)


def set_in_doc(members: Members, always: Doc, absent: Doc, without: str = "") -> None:
    """Set members of the document in a source, `absent` ones only where it has none; the rest of it stays as it is.

    The member that `without` names is taken out.
    """
    as_text = "text" in members
    data = _decode_text(members["text"]).encode() if as_text else bytes(members["doc"])
    try:
        inner = _decode_members(data)
    except msgspec.DecodeError:
        # A name with half of a surrogate pair, which only Python's own reader takes.
        whole = absent | json.loads(data) | always
        whole.pop(without, None)
        _put(members, encode_doc(whole), as_text=as_text)
        return
    inner.pop(without, None)
    for name, value in absent.items():
        inner.setdefault(name, raw(value))
    for name, value in always.items():
        inner[name] = raw(value)
    _put(members, _encode(inner), as_text=as_text)


def _put(members: Members, data: bytes, *, as_text: bool) -> None:
    members.pop("text", None)
    members.pop("doc", None)
    if as_text or b"\\ud" in data:
        members["text"] = raw(data.decode())
    else:
        members["doc"] = msgspec.Raw(data)
