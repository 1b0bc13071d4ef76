"""What should be kept of requests that were sent, and whether it is."""

from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headrace.engine.engine import Engine
from headrace.engine.model import Caller, Doc, EventInput, TrackRequest
from headrace.engine.store.moving import Kept
from tests.identity.model_of_stories import LIMITS
from tests.makers import chain, count, make_request

TENANTS = 1000
PLAIN = ("x", "page-view", "outer", "call")
ATTACHING = ("coupon", "chat", "lead")
"""Types whose workflows give a profile to an event that came without one."""

SAYING = ("sign-in", "pay")
"""Types that say who it is: at once, or by a node after another one has written something."""

BY_HAND = "test"
"""Whose wish a merge is that a story asks for."""

SECRET = "hush"
_PRIORITIES = {"customer": 1, "email": 10}

FILES: Doc = {
    # Each tenant has a source that anybody may use, and one with a key.
    "sources.json": {
        "sources": {f"s{n}": {"tenant": f"t{n}"} for n in range(TENANTS)}
        | {f"b{n}": {"tenant": f"t{n}", "keys": [{"secret": "KEY"}]} for n in range(TENANTS)}
    },
    "event_types.json": {
        "event_types": {
            "sign-in": {
                "identify": {
                    kind: {
                        "path": f"event.properties.{kind}",
                        "per_profile": limit,
                        "priority": _PRIORITIES[kind],
                    }
                    for kind, limit in LIMITS.items()
                }
            }
        }
    },
    "count": chain("*", count()),
    "visit": chain("*", count("session.properties.n"), order=1),
    "load": chain(
        "coupon",
        ("load_profile", {"session": "{{ event.properties.of }}"}),
        count("profile.stats.counters.coupons"),
        order=-1,
    ),
    "attach": chain("chat", ("attach_session", {"id": "{{ event.properties.of }}"}), order=-1),
    "lead": chain("lead", ("create_profile", {}), order=-1),
    "emit": chain("outer", ("emit", {"given": ["inner", "inner"]})),
    "call": chain("call", ("defer", {})),
    "pay": chain(
        "pay",
        count("profile.stats.counters.paid"),
        ("identify", {"kind": "email", "value": "{{ event.properties.email }}"}),
        order=-2,
    ),
}


@dataclass(frozen=True)
class Made:
    """One event of a body. `n` is what differs when an id comes with other content."""

    type: str
    id: str | None
    of: str
    n: int = 0
    save: bool = True
    customer: str | None = None
    email: str | None = None

    @property
    def properties(self) -> Doc:
        return {"of": self.of, "n": self.n} | self.values

    @property
    def values(self) -> dict[str, str]:
        """What it says of who it is."""
        said = {"customer": self.customer, "email": self.email}
        return {kind: value for kind, value in said.items() if value is not None}


@dataclass(frozen=True)
class Body:
    """What a request says, and whether a key comes with it; sent again, it is the same request."""

    session: str | None
    profile_less: bool
    events: tuple[Made, ...]
    trusted: bool = False

    @property
    def has_ids(self) -> bool:
        return all(one.id is not None for one in self.events)

    @property
    def says_who(self) -> bool:
        """Say whether it may move its session, or merge."""
        return any(one.type in SAYING for one in self.events)

    def may_part(self, place: int) -> bool:
        """Say whether what comes before an event may be committed without it: each part is of one profile."""
        types = {one.type for one in self.events[: place + 1]}
        attaches = self.profile_less and not types.isdisjoint((*ATTACHING, *SAYING))
        return attaches or self.events[place].type in SAYING


@dataclass
class Sent:
    """A body that was sent, under a number that each of its events carries."""

    number: int
    body: Body
    acknowledged: bool = False
    refused: str = ""
    answered_profile: str | None = None

    def request(self, place: int) -> TrackRequest:
        """Return it as it is sent to a source of the tenant with a number."""
        events = [
            EventInput(
                one.type,
                one.properties,
                {"sent": self.number, "place": place},
                id=one.id,
                save=one.save,
            )
            for place, one in enumerate(self.body.events)
        ]
        body = self.body
        return make_request(
            *events,
            source=f"{'b' if body.trusted else 's'}{place}",
            session_id=body.session,
            profile_less=body.profile_less,
            caller=Caller(secret=SECRET if body.trusted else None),
        )


@dataclass
class Join:
    """Two profiles to be merged, or one (`other` None) to be taken out of the one that it was merged into."""

    tenant: str
    profile: str
    other: str | None
    acknowledged: bool = False
    refused: str = ""
    answer: Any = None

    @property
    def merged(self) -> str | None:
        """The profile that was merged into the other one, if one was."""
        if not isinstance(self.answer, str):
            return None
        return self.other if self.answer == self.profile else self.profile

    def work(self, engine: Engine) -> Coroutine[Any, Any, Any]:
        if self.other is None:
            return engine.unmerge(self.tenant, self.profile)
        return engine.merge(self.tenant, self.profile, self.other, BY_HAND)


@dataclass
class Docs:
    """All that is kept of one tenant."""

    of: dict[str, list[Doc]] = field(default_factory=dict)
    marks: list[dict[str, str | None]] = field(default_factory=list)
    claims: dict[str, str | None] = field(default_factory=dict)
    raw: list[tuple[str, str, Any, str]] = field(default_factory=list)

    def add(self, kind: str, row: Kept) -> None:
        self.raw.append((kind, row.key, msgspec.json.decode(row.doc) if row.doc else None, repr(row.fields)))
        if kind == "mark":
            self.marks.append(row.fields)
        elif kind == "claim":
            self.claims[row.key] = row.fields["profile"]
        else:
            assert row.doc is not None
            self.of.setdefault(kind, []).append(msgspec.json.decode(row.doc))

    def all(self, kind: str) -> list[Doc]:
        return self.of.get(kind, [])

    def living(self) -> list[Doc]:
        """Return the profiles that were not merged into another one."""
        return [profile for profile in self.all("profile") if not profile.get("hidden")]

    def leads(self) -> dict[str | None, str | None]:
        """Return for each id of a profile which one it means."""
        into = {profile["id"]: profile.get("merged_into") for profile in self.all("profile")}
        leads: dict[str | None, str | None] = {None: None}
        for profile in into:
            end = profile
            while into[end] is not None:
                end = into[end]
            leads[profile] = end
        return leads


def is_own(event: Doc) -> bool:
    return bool(event["door"] != "internal")


def check(sent: Sequence[Sent], docs: Docs, *, finished: bool) -> None:
    """Compare what is kept with what was sent; `finished` says that all of it was acknowledged in the end."""
    _check_events(sent, docs)
    moved = {one.body.session for one in sent if one.body.trusted and one.body.says_who}
    _check_counters(docs, moved)
    # A session is given to a new profile before that one is made; who dies between leaves it to the next request.
    begun = {one.body.session for one in sent if not one.acknowledged}
    _check_owners(docs, begun, moved, finished=finished)
    # A finished one answers nothing but what is there.
    answered = {one.answered_profile for one in sent} - {None}
    gone = answered - docs.leads().keys()
    assert not gone, f"answered profiles that are not there: {gone}"


def _check_events(sent: Sequence[Sent], docs: Docs) -> None:
    own = [event for event in docs.all("event") if is_own(event)]
    stored = {(event["context"]["sent"], event["context"]["place"]): event for event in own}
    assert len(stored) == len(own), "an event was stored twice"
    ids = Counter(event["id"] for event in own)
    assert not [id for id, times in ids.items() if times > 1], f"ids stored twice: {ids}"
    marked = {mark["id"] for mark in docs.marks}
    assert not marked & set(ids), "an id is kept as an event and as a mark"
    for one in sent:
        here, missing = [], []
        for place, made in enumerate(one.body.events):
            if (one.number, place) in stored:
                here.append(place)
            elif not (made.id in ids or made.id in marked or (made.id is None and not made.save)):
                missing.append(place)
        if one.acknowledged:
            assert not missing, f"acknowledged and lost: {missing} of {one}"
            _check_reused(one, docs)
        elif here and missing:
            # What is between them was sent again, or came with somebody else, and may have begun the next part.
            between = range(here[-1] + 1, missing[0] + 1)
            assert any(map(one.body.may_part, between)), f"stored by half: {here}, not {missing} of {one}"
    known = {one.number for one in sent}
    assert {number for number, _ in stored} <= known, "events that nobody sent"
    inner = [event for event in docs.all("event") if not is_own(event)]
    assert len(inner) == 2 * sum(event["type"] == "outer" for event in own), "internal events"


def _check_reused(one: Sent, docs: Docs) -> None:
    """Who sent an id with other content than the one that is kept finds it among the failed."""
    contents = {
        event["id"]: (event["type"], event["properties"]) for event in docs.all("event") if is_own(event)
    }
    failed = [(doc["event"], doc["raw"]["type"], doc["raw"]["properties"]) for doc in docs.all("failed")]
    for made in one.body.events:
        if made.id in contents and contents[made.id] != (made.type, made.properties):
            assert (made.id, made.type, made.properties) in failed, f"{made} is neither kept nor failed"
    assert len(failed) == len({msgspec.json.encode(doc) for doc in failed}), "failed events kept twice"


def _check_counters(docs: Docs, moved: set[str | None]) -> None:
    events, leads = docs.all("event"), docs.leads()
    for profile in docs.living():
        assert "merging_into" not in profile, f"half merged: {profile}"
        assert {leads[id] for id in profile["ids"]} == {profile["id"]}, f"ids that lead elsewhere: {profile}"
        mine = [event for event in events if event["profile"] == profile["id"]]
        # Of a merged profile marks stay where they are.
        marks = sum(leads[mark["profile"]] == profile["id"] for mark in docs.marks)
        stats = profile["stats"]
        number = len(mine) + marks
        assert stats["counters"].get("n", 0) == number, f"{number} events of {profile['id']}: {stats}"
        assert stats["views"] == sum(event["type"] == "page-view" for event in mine), f"views: {stats}"
        assert stats["counters"].get("paid", 0) == sum(event["type"] == "pay" for event in mine), stats
        sessions = sum(one["profile"] == profile["id"] for one in docs.all("session"))
        # Whose session went on to somebody else keeps the visit.
        assert stats["visits"] <= sessions or moved, f"{sessions} sessions of {profile['id']}: {stats}"
    visits = sum(profile["stats"]["visits"] for profile in docs.living())
    assert visits <= len(docs.all("session")), f"{visits} visits"
    for session in docs.all("session"):
        marks = sum(str(mark["id"]).startswith(f"m-{session['id']}-") for mark in docs.marks)
        number = sum(event["session"] == session["id"] for event in events) + marks
        assert session["stats"]["events"] == number, f"{number} events of {session}"
        assert session["properties"].get("n", 0) == number, f"{number} events of {session}"
    calls = sum(event["type"] == "call" and is_own(event) for event in events)
    timers = [timer for timer in docs.all("timer") if timer["kind"] == "run"]
    assert len(docs.all("effect")) == len(timers) == calls, "effects and timers"


def _check_owners(docs: Docs, begun: set[str | None], moved: set[str | None], *, finished: bool) -> None:
    profiles = {profile["id"] for profile in docs.all("profile")}
    living = {profile["id"]: profile for profile in docs.living()}
    sessions = {session["id"]: session["profile"] for session in docs.all("session")}
    assert len(sessions) == len(docs.all("session")), "a session is there twice"
    lost = {session for session, profile in sessions.items() if profile is not None and profile not in living}
    assert lost <= begun, "a session names a profile that is not there"
    for event in docs.all("event"):
        assert event["profile"] is None or event["profile"] in living, f"an orphan: {event}"
        assert event["session"] is None or event["session"] in sessions, f"without its session: {event}"
        # What came before a session went on to somebody else stays with the former one.
        if event["type"] in PLAIN and event["session"] not in {None, *moved} and event["profile"]:
            owner = living[event["profile"]]
            # What came while two were one stays with the one that lived on.
            stayed = "apart" in owner or "apart" in living.get(sessions[event["session"]] or "", {})
            is_owners = owner["id"] == sessions[event["session"]]
            assert is_owners or stayed, f"not its session's profile: {event}"
    if finished:
        assert set(docs.claims.values()) <= profiles, "a claim leads nowhere"
