"""Says why a profile is in a segment, or is not."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from headrace.engine.draft import PAST, without_own
from headrace.engine.errors import ExpressionError, NodeError
from headrace.engine.files.segment import MOMENT
from headrace.engine.files.source import Source
from headrace.engine.files.watched import Computed
from headrace.engine.identity.follow import find_living
from headrace.engine.language.expression import Expression, compile_expression
from headrace.engine.language.lookup import MISSING, reader
from headrace.engine.language.scope import Scope
from headrace.engine.language.syntax import word_offsets
from headrace.engine.language.values import iso_text
from headrace.engine.model import Doc, doc_key, iso
from headrace.engine.segments.asked import Asked
from headrace.engine.segments.known import Kept
from headrace.engine.segments.past import value_of
from headrace.engine.store.protocol import Query, Ref
from headrace.engine.view import plain

DEEPEST = 8
"""Levels of parentheses that are taken apart."""


async def explain(
    store: Kept, sources: Mapping[str, Source], tenant: str, segment: Computed, profile: str, now: datetime
) -> Doc | None:
    """Return a condition in its parts, each with its value for a profile; None when there is no such profile.

    A condition that asks for an event gets the newest of the profile, and its session. Raises StoreError.
    """
    found = await find_living(store, tenant, profile)
    if found is None:
        return None
    event, session = None, None
    if not segment.when.is_lasting:
        event = next(
            iter((await store.find(Query("event", tenant, profile=tuple(found["ids"]), limit=1))).items), None
        )
    if event is not None and event["session"] is not None:
        (kept,) = await store.read([Ref("session", doc_key("session", tenant, event["session"]))])
        session = None if kept is None else kept.doc
    source = {"id": event["source"], "tenant": tenant} if event else {}
    past = found.get(PAST, {})
    scope = Scope(event or {}, without_own(found), session, source, now)
    unknown = [each.text for each in segment.past if each.key not in past]
    told: Doc = {
        "segment": segment.name,
        "profile": found["id"],
        "when": segment.when.source,
        "is_member": segment.name in found["segments"],
        "holds": None
        if unknown
        else _value(compile_expression(segment.when.source, has_past=True), scope, past, is_bool=True),
        "parts": list(_parts(segment.when.source, scope, past)),
    }
    if unknown:
        told["unknown"] = unknown
    if missing := Asked(sources, tenant).missing(found, iso(now)):
        told["missing_consents"] = missing
    if not segment.when.is_lasting:
        told["event"] = event and event["id"]
    return told


def _parts(text: str, scope: Scope, past: Doc, depth: int = 0) -> Iterator[Doc]:
    """Yield what `and` and `or` join at the top of a condition, and likewise what stands in parentheses."""
    pieces = _split(text)
    for piece in pieces:
        compiled = compile_expression(piece, has_past=True)
        part: Doc = {
            "text": piece,
            "value": _value(compiled, scope, past),
            "reads": _reads(compiled, scope, past),
        }
        inner = _inner(piece)
        if inner and depth < DEEPEST and len(_split(inner)) > 1:
            part["parts"] = list(_parts(inner, scope, past, depth + 1))
        yield part


def _split(text: str) -> list[str]:
    """Return the parts of a condition; itself when it has none that stand for themselves."""
    pieces, begin = [], 0
    for word, offset in word_offsets(text):
        if word in ("and", "or"):
            pieces.append(text[begin:offset].strip())
            begin = offset + len(word)
    pieces.append(text[begin:].strip())
    try:
        for piece in pieces:
            compile_expression(piece, has_past=True)
    except ExpressionError:
        # Such as `a if b and c else d`.
        return [text.strip()]
    return pieces


def _inner(text: str) -> str:
    """Return what stands in the parentheses around a part, perhaps after `not`; or ""."""
    bare = text.removeprefix("not").strip() if text.startswith(("not ", "not(")) else text
    if not (bare.startswith("(") and bare.endswith(")")):
        return ""
    inner = bare[1:-1]
    try:
        compile_expression(inner, has_past=True)
    except ExpressionError:
        return ""
    return inner


def _value(compiled: Expression, scope: Scope, past: Doc, *, is_bool: bool = False) -> Any:
    scope.extra = {name: value_of(past, each, scope.now.timestamp()) for name, each in compiled.past.items()}
    try:
        value = compiled.evaluate(scope)
    except NodeError as error:
        return {"error": str(error)}
    return bool(value) if is_bool else plain(_shown(value))


def _reads(compiled: Expression, scope: Scope, past: Doc) -> Doc:
    """Return what a part reads, by its name."""
    told: Doc = {}
    for read in sorted(compiled.reads):
        if len(read) == 1 and read[0] in MOMENT | {"profile"}:
            continue
        root = scope.now if read[0] == "now" else getattr(scope, read[0])
        told[".".join(read)] = plain(_shown(reader(read[1:])(root)))
    for each in compiled.past.values():
        told[each.text] = plain(_shown(value_of(past, each, scope.now.timestamp())))
    return told


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso_text(value)
    return None if value is MISSING else value
