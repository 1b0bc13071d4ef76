"""Keeps the writers of one session in order: by its profile's record."""

from dataclasses import replace

import msgspec

from headrace.engine.errors import StoreError
from headrace.engine.model import iso_now, make_key, new_profile
from headrace.engine.store.elastic.bulk import Bulk, Operation
from headrace.engine.store.elastic.parts import replace_line
from headrace.engine.store.elastic.reading import encode_members, members_of, raw, set_in_doc
from headrace.engine.store.elastic.records import Records
from headrace.engine.store.elastic.settle import THERE, WRITTEN
from headrace.engine.store.elastic.work import Work, base_of
from headrace.engine.store.encoding import text_or_none
from headrace.engine.store.protocol import Change, Frozen, Ref, Write

TRUE = msgspec.Raw(b"true")


async def with_owner(change: Change, records: Records) -> Change | Frozen:
    """Return a change of a session alone as one that writes the session's profile too, as it is. Raises StoreError.

    Who writes the session with its profile never looks at the session's version: the profile's decides. So it must
    for all others. A profile that nobody made yet, for which the session was claimed, or to which it moved, is made.
    Of one that is half merged nobody knows which profile decides in the end.
    """
    write = change.session
    owner = None if write is None else text_or_none(write.doc.get("profile"))
    base = base_of(write.version) if write is not None else None
    if change.profile is not None or owner is None or base is None:
        return change
    key = make_key("profile", change.tenant, owner)
    (stored,) = await records.read([Ref("profile", key)])
    while stored is not None and (into := text_or_none(stored.doc.get("merged_into"))) is not None:
        # The one that it was merged into decides now, as for those who write both.
        owner = into
        key = make_key("profile", change.tenant, owner)
        (stored,) = await records.read([Ref("profile", key)])
    if stored is not None and "merging_into" in stored.doc:
        return Frozen(str(stored.doc["id"]))
    if stored is not None:
        return replace(change, profile=Write(key, stored.doc, stored.version, changed=False))
    return replace(change, profile=Write(key, new_profile(owner, change.tenant, iso_now()), None))


async def link(work: Work, records: Records, bulk: Bulk) -> bool:
    """Say in a session that had no profile whose it will be; False when it was written since. Raises StoreError.

    Until that profile is made it is like a claim: whoever comes next makes it, with the id that the session names.
    """
    write, base = work.change.session, work.session_base
    if not work.is_linking or write is None or base is None:
        return True
    where, id = work.session_place
    found = await records.source(where, id)
    if found is None or (found[0].seq_no, found[0].term) != (base.seq_no, base.term):
        return False
    members = members_of(found[0].source)
    set_in_doc(members, {"profile": write.doc["profile"]}, {})
    members |= {"profile": raw(write.doc["profile"]), "linked": TRUE}
    line = replace_line(where, id, base.seq_no, base.term)
    (done,) = await bulk.write([Operation(line, encode_members(members))], patience=work.patience)
    if done.status not in (*WRITTEN, THERE):
        raise StoreError(f"Elasticsearch refused a session: {done.status} {done.reason}")
    return done.status != THERE
