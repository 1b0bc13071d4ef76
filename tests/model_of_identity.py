"""Who should be who after requests that said so, and whether they are."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headrace.engine.identity.values.decide import BY_CLAIMED, CLAIMED, TRUSTED
from headrace.engine.identity.values.kinds import claim_key
from headrace.engine.model import Doc
from tests.identity.model_of_stories import LIMITS, Model, Person, Step
from tests.model_of_tracking import BY_HAND, SAYING, Docs, Join, Sent, is_own

OF_TRUSTED = frozenset(("kept", "known", "merged", "moved", "attached", "outweighed", "nobody"))
OF_OTHERS = frozenset(("noted", "known", "merged", "untrusted", "full", "nobody"))
OWNED = frozenset(("kept", "known", "merged", "moved", "attached"))
"""What an event is told whose value somebody has from then on."""

Value = tuple[str, str, str]
"""A value: the member of the profile in which it stands, its kind, and itself."""


@dataclass
class Story:
    """What happened in a tenant; in a calm one everything came one after another, and nobody died."""

    tenant: str
    sent: Sequence[Sent]
    joins: Sequence[Join]
    is_calm: bool

    @property
    def by_hand(self) -> set[str]:
        """The profiles that were to be merged or taken apart by hand."""
        asked = {one.profile for one in self.joins} | {one.other for one in self.joins}
        return asked - {None}  # type: ignore[return-value]


def check_identity(story: Story, docs: Docs) -> Counter[str]:
    """Look that people are kept apart, and put together, as they should; returns how often what was done."""
    owners = _check_values(story, docs)
    _check_claims(story, docs, owners)
    done = _check_told(docs, owners)
    _check_strangers(story, docs)
    for one in story.sent:
        assert one.answered_profile is None or one.answered_profile in docs.leads(), f"leads nowhere: {one}"
    return done


def _values_of(profile: Doc) -> Iterator[Value]:
    for member in (TRUSTED, CLAIMED):
        for kind, values in profile.get(member, {}).items():
            for value in values:
                yield member, kind, value


def _check_values(story: Story, docs: Docs) -> dict[Value, str]:
    """Return which living profile has each value: one has it, and none has more than it may."""
    owners: dict[Value, str] = {}
    leads = docs.leads()
    by = {alias["id"]: alias["by"] for alias in docs.all("profile") if alias.get("hidden")}
    for profile in docs.living():
        merged = [str(by[id]) for id in profile["ids"] if id in by]
        most = {
            # Who merges by hand is not asked what speaks against it.
            TRUSTED: 1 + sum(one == BY_HAND for one in merged),
            # For what is sure, two become one whatever else was only claimed of each.
            CLAIMED: 1 + sum(not one.startswith(BY_CLAIMED) for one in merged),
        }
        numbers = Counter((member, kind) for member, kind, _ in _values_of(profile))
        over = {of: number for of, number in numbers.items() if number > LIMITS[of[1]] * most[of[0]]}
        assert not over, f"more values than one may have, {over}: {profile}"
        for value in _values_of(profile):
            assert value not in owners, f"{value} is that of {owners[value]} too: {profile}"
            owners[value] = profile["id"]
            claim = docs.claims.get(_key(story.tenant, value))
            assert claim is not None, f"nobody claims {value}: {profile}"
            assert leads.get(claim) == profile["id"], f"the claim of {value} leads to {claim}: {profile}"
    return owners


def _key(tenant: str, value: Value) -> str:
    member, kind, text = value
    return claim_key(tenant, kind, text, is_trusted=member == TRUSTED)


def _check_claims(story: Story, docs: Docs, owners: dict[Value, str]) -> None:
    """Who has the claim of a value has the value; one that was made on the way to a lost race or a crash is unused."""
    said = {
        (kind, text) for one in story.sent for made in one.body.events for kind, text in made.values.items()
    }
    values = {_key(story.tenant, (of, *value)): (of, *value) for of in (TRUSTED, CLAIMED) for value in said}
    for key, value in values.items():
        claim = docs.claims.get(key)
        assert claim is None or value in owners or not story.is_calm, (
            f"{claim} claims {value}, and has it not"
        )


def _check_told(docs: Docs, owners: dict[Value, str]) -> Counter[str]:
    """No value that somebody was told to have is lost; each event is told what its source may cause."""
    done: Counter[str] = Counter()
    for event in docs.all("event"):
        if event["type"] not in SAYING or not is_own(event):
            continue
        trusted = event["source"].startswith("b")
        told = {one["kind"]: one["decision"] for one in event.get("identified", ())}
        done.update(f"{'trusted' if trusted else 'other'} {decision}" for decision in told.values())
        assert set(told.values()) <= (OF_TRUSTED if trusted else OF_OTHERS), event
        if event["type"] == "pay" and event["profile"] is not None and trusted:
            told = {"email": "kept"}
        for kind, decision in told.items():
            value = (TRUSTED, kind, event["properties"][kind])
            assert not trusted or decision not in OWNED or value in owners, f"nobody has {value}: {event}"
    done.update(f"by {alias['by']}" for alias in docs.all("profile") if alias.get("hidden"))
    return done


def _check_strangers(story: Story, docs: Docs) -> None:
    """What anybody may say brings nobody together with somebody known."""
    leads = docs.leads()
    by_hand = {leads.get(id) for id in story.by_hand}
    met: defaultdict[str | None, list[Doc]] = defaultdict(list)
    for alias in docs.all("profile"):
        if alias.get("hidden") and str(alias["by"]).startswith(BY_CLAIMED):
            assert not any(alias["frozen"].get(TRUSTED, {}).values()), f"merged by a claim: {alias}"
            met[leads[alias["id"]]].append(alias)
    sessions = {one.body.session for one in story.sent if one.body.trusted and one.body.says_who}
    public = {one["profile"] for one in docs.all("session") if one["id"] not in sessions}
    for profile in docs.living():
        # A person who merges two says that they are one.
        if profile["id"] not in by_hand and "apart" not in profile:
            known = any(profile.get(TRUSTED, {}).values())
            assert not (known and met[profile["id"]]), f"with strangers in it: {profile}"
            assert not (known and profile["id"] in public), f"known by what anybody said: {profile}"


def check_exactly(story: Story, docs: Docs) -> None:
    """Compare people, and whose each event is, with a model of what was sent one after another."""
    stored = {
        (event["context"]["sent"], event["context"]["place"]): event
        for event in docs.all("event")
        if is_own(event)
    }
    model, marked = Model(), set()
    for one in story.sent:
        for place, made in enumerate(one.body.events):
            is_mark = not made.save and made.id not in marked
            if is_mark:
                marked.add(made.id)
            if is_mark or (one.number, place) in stored:
                step = Step(str(one.body.session), one.body.trusted, made.customer, made.email)
                model.take(step, stored.get((one.number, place)))
    leads = docs.leads()
    people: dict[str | None, Person] = {}
    for event, person in model.taken:
        if event is not None:
            known = people.setdefault(leads[event["profile"]], person)
            assert known is person, f"somebody else's: {event}"
    assert len({id(person) for person in people.values()}) == len(people), "one person is two"
    for profile in docs.living():
        if (whose := people.get(profile["id"])) is not None:
            said = {
                of: {kind: set(values) for kind, values in profile.get(of, {}).items()}
                for of in (TRUSTED, CLAIMED)
            }
            assert said == {TRUSTED: whose.trusted, CLAIMED: whose.claimed}, profile
