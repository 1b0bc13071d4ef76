"""What one commit writes: which documents, from which versions, what of them has changed."""

from typing import Any

import pytest

from headrace.engine.draft import HIDDEN, Draft
from headrace.engine.model import Doc, iso, make_key, new_profile, new_session
from headrace.engine.store.protocol import Row, Stored, Write
from headrace.engine.writing import path
from tests.makers import NOW

EARLIER = "2026-01-01T00:00:00.000Z"


def draft(**words: Any) -> Draft:
    return Draft("main", iso(NOW), **words)


def profile(profile_id: str = "p1") -> Doc:
    return new_profile(profile_id, "main", EARLIER)


def session(owner: str | None = None, **members: Any) -> Doc:
    return new_session("s1", "main", "shop", EARLIER) | {"profile": owner, "n": 4} | members


def written(write: Write | None) -> Write:
    assert write is not None
    return write


def test_an_empty_draft_is_an_empty_change() -> None:
    change = draft().change()
    assert (change.profile, change.session, change.events, change.marks, change.failed) == (
        None,
        None,
        [],
        [],
        [],
    )
    assert change.tenant == "main"
    assert draft().id != draft().id


def test_new_documents_are_new_and_changed() -> None:
    made = draft()
    doc = made.create_profile()
    made.sessions["s1"] = None
    made.join_session("s1", "shop")
    made.link_session()
    change = made.change()
    new = written(change.profile)
    assert (new.version, new.changed, new.key) == (None, True, make_key("profile", "main", doc["id"]))
    other = written(change.session)
    assert (other.version, other.changed, other.doc["profile"], other.doc["n"]) == (None, True, doc["id"], 1)
    assert other.key == make_key("session", "main", "s1")


def test_what_was_only_read_is_checked_and_not_written() -> None:
    made = draft()
    made.use_profile(profile(), (7, 0))
    made.use_session(session("p1"), (8, 0))
    made.link_session()
    change = made.change()
    read, visit = written(change.profile), written(change.session)
    assert (read.version, read.changed, visit.version, visit.changed) == ((7, 0), False, (8, 0), False)
    assert read.doc["time"]["updated"] == EARLIER
    assert (visit.doc["n"], visit.doc["time"]["updated"]) == (4, EARLIER)


@pytest.mark.parametrize(
    ("where", "profile_changed", "session_changed"),
    [
        ("profile.traits.x", True, False),
        ("session.context.x", False, True),
        ("vars.x", False, False),
        ("response.x", False, False),
        ("event.profile", False, False),
    ],
)
def test_edits_say_what_has_changed(where: str, profile_changed: bool, session_changed: bool) -> None:
    made = draft()
    made.use_profile(profile(), (7, 0))
    made.use_session(session("p1"), (8, 0))
    made.touch([path.Edit({}, "x", path.MISSING, 1, where)])
    change = made.change()
    assert written(change.profile).changed is profile_changed
    assert written(change.session).changed is session_changed
    assert (written(change.profile).doc["time"]["updated"] == iso(NOW)) is profile_changed
    assert written(change.session).doc["n"] == (5 if session_changed else 4)


def test_an_adopted_id_is_the_new_profiles() -> None:
    made = draft()
    assert made.create_profile("mine")["id"] == "mine"
    assert made.profile_is_new


def hidden(owner: str | None, began: str = iso(NOW)) -> Doc:
    time = {"created": began, "updated": began}
    return {
        "id": "s1",
        "tenant": "main",
        "profile": owner,
        "source": "shop",
        "time": time,
        "n": 0,
        HIDDEN: True,
    }


def test_a_session_that_is_not_saved_is_claimed_hidden() -> None:
    made = draft(save_session=False)
    made.create_profile("p1")
    made.sessions["s1"] = None
    made.join_session("s1", "shop")["context"]["secret"] = 1
    made.link_session()
    write = written(made.change().session)
    assert write.doc == hidden("p1")
    assert (write.version, write.changed) == (None, True)


def test_a_hidden_session_stays_hidden_or_begins() -> None:
    made = draft(save_session=False)
    made.use_profile(profile(), (1, 0))
    made.use_session(hidden("p1", EARLIER), (3, 0))
    made.link_session()
    made.touched.add("session")
    write = written(made.change().session)
    assert (write.doc, write.version, write.changed) == (hidden("p1", EARLIER), (3, 0), False)
    made = draft()
    made.use_profile(profile(), (1, 0))
    made.use_session(hidden("p1", EARLIER), (3, 0))
    made.touched.add("session")
    write = written(made.change().session)
    assert HIDDEN not in write.doc
    assert (write.doc["profile"], write.doc["n"], write.changed) == ("p1", 1, True)
    assert (write.doc["source"], write.doc["time"]["created"]) == ("shop", EARLIER)


def test_a_hidden_session_gets_its_profile() -> None:
    made = draft(save_session=False)
    made.create_profile("p1")
    made.use_session(hidden(None), (3, 0))
    made.link_session()
    write = written(made.change().session)
    assert (write.doc["profile"], write.changed, write.version) == ("p1", True, (3, 0))


def test_a_saved_session_that_is_not_to_be_saved_now() -> None:
    made = draft(save_session=False)
    made.use_profile(profile(), (1, 0))
    made.use_session(session("p1"), (3, 0))["context"]["secret"] = 1
    made.touched.add("session")
    assert made.change().session is None
    # Its first profile is kept with it, and nothing else.
    made = draft(save_session=False)
    made.create_profile("p1")
    before = session(None, context={"a": {"b": 1}})
    made.use_session(before, (3, 0))["context"]["a"]["b"] = 2
    made.link_session()
    write = written(made.change().session)
    assert write.doc == session("p1", context={"a": {"b": 1}}) | {"n": 5}
    assert (write.version, write.changed) == ((3, 0), True)


def test_a_snapshot_takes_back_what_was_taken() -> None:
    made = draft()
    made.sessions["s1"] = Stored(session("p1"), (3, 0))
    before = made.snapshot()
    made.create_profile()
    made.join_session("s1", "shop")
    made.link_session()
    made.restore(before)
    assert (made.profile, made.session, made.touched, made.profile_is_new) == (None, None, set(), False)
    assert made.change().session is None


def test_rows_go_into_the_change_as_they_are() -> None:
    made = draft()
    for number, kind in enumerate(("events", "marks", "failed", "effects", "timers")):
        getattr(made, kind).append(Row(str(number), {"n": number}))
    change = made.change()
    rows = (change.events, change.marks, change.failed, change.effects, change.timers)
    assert [row[0].doc["n"] for row in rows] == [0, 1, 2, 3, 4]
