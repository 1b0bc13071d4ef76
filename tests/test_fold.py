"""Folding two profiles: order and grouping do not matter, a second time changes nothing."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.files.event_type import STRATEGIES
from headrace.engine.identity.fold import compiled_rules, fold, survives
from headrace.engine.identity.unfold import Loser, unfold
from headrace.engine.model import Doc, new_profile
from headrace.engine.view import plain
from tests.pace import timed

TIMES = [f"2026-01-0{day}T00:00:00.000Z" for day in range(1, 8)]
times = st.sampled_from(TIMES)
scalars = st.one_of(st.integers(-3, 3), st.sampled_from(["", "a", "b"]), st.booleans(), st.none())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["p", "q.q"]), inner, max_size=2)
    ),
    max_leaves=4,
)
names = st.sampled_from(["x", "y", "my key"])


@st.composite
def profiles(draw: Any, number: int) -> Doc:
    """Draw the profile of a number; those with larger ones are younger, or of the same age."""
    created = draw(st.sampled_from(TIMES[number : number + 2]))
    doc = new_profile(f"p{number}", "main", created)
    doc["time"] |= {"updated": draw(times), "last_visit": draw(times)}
    doc["traits"] = draw(st.dictionaries(names, values, max_size=3))
    doc["segments"] = draw(st.lists(st.sampled_from(["vip", "buyer"]), unique=True))
    doc["interests"] = draw(st.dictionaries(names, st.integers(-5, 5), max_size=2))
    doc["stats"] = {"visits": draw(st.integers(0, 9)), "views": 1, "counters": {"n": draw(st.integers(0, 9))}}
    doc["marks"] = draw(st.dictionaries(names, times, max_size=2))
    consent = st.fixed_dictionaries({"given": st.booleans(), "at": times, "source": st.just("shop")})
    doc["consents"] = draw(st.dictionaries(names, consent, max_size=2))
    timed = draw(st.sampled_from([None, (), ("x",), ("y",), ("x", "y")]))
    if timed is not None:
        doc["changed"] = {f"profile.traits.{name}": draw(times) for name in timed}
    for member in ("identities", "claimed"):
        if draw(st.booleans()):
            doc[member] = {
                "email": draw(st.lists(st.sampled_from(["a@b.c", "d@e.f"]), min_size=1, unique=True))
            }
    if draw(st.booleans()):
        first, last = sorted(draw(st.tuples(times, times)))
        doc["goals"] = {
            "bought": {"first": first, "last": last, "count": draw(st.integers(1, 3)), "value": 5}
        }
    if draw(st.booleans()):
        doc["apart"] = draw(st.lists(st.sampled_from(["p1", "p2", "p8"]), unique=True))
    return doc


rules = st.dictionaries(
    st.sampled_from(
        [
            "profile.traits.x",
            "profile.traits.y",
            "profile.traits.x.p",
            "profile.traits['my key'].p",
            "profile.interests.x",
            "profile.segments",
        ]
    ),
    st.sampled_from(STRATEGIES),
    max_size=3,
)


def joined(one: Doc, other: Doc, declared: dict[str, str]) -> Doc:
    """Fold whichever of two is to be folded into the other."""
    survivor, loser = (one, other) if survives(one, other) else (other, one)
    return fold(survivor, loser, compiled_rules(declared), TIMES[-1], "test")


def told(doc: Doc) -> Doc:
    """Return a profile without the record of how it came about, and with lists in one order."""
    whole = {name: value for name, value in plain(doc).items() if name != "absorbed"}
    return dict(_sorted(whole))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(inner) for name, inner in value.items()}
    return sorted((_sorted(one) for one in value), key=repr) if isinstance(value, list) else value


@settings(max_examples=100, deadline=None)
@given(profiles(0), profiles(1), profiles(2), rules)
def test_order_and_grouping_do_not_matter(a: Doc, b: Doc, c: Doc, declared: dict[str, str]) -> None:
    before = plain([a, b, c])
    whole = told(joined(joined(a, b, declared), c, declared))
    assert told(joined(a, joined(b, c, declared), declared)) == whole
    assert told(joined(joined(c, a, declared), b, declared)) == whole
    assert told(joined(b, joined(c, a, declared), declared)) == whole
    assert [a, b, c] == before


@settings(max_examples=50, deadline=None)
@given(profiles(0), profiles(1), rules)
def test_a_second_time_changes_nothing(a: Doc, b: Doc, declared: dict[str, str]) -> None:
    once = joined(a, b, declared)
    assert joined(once, b, declared) == once
    assert once["ids"] == ["p0", "p1"]
    assert [one["id"] for one in once["absorbed"]] == ["p1"]
    assert once["stats"]["visits"] == a["stats"]["visits"] + b["stats"]["visits"]


def pair(**members: Any) -> tuple[Doc, Doc]:
    """Return two profiles; a member's value is a pair, for the one that lives on and for the other."""
    docs = []
    for place, day in ((0, 0), (1, 1)):
        doc = new_profile(f"p{place}", "main", TIMES[day])
        for name, both in members.items():
            if both[place] is not None:
                doc[name] = both[place]
        docs.append(doc)
    return docs[0], docs[1]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("newest", 20),
        ("oldest", 30),
        ("first_set", 30),
        ("largest", 30),
        ("smallest", 20),
        ("sum", 50),
        ("union", [30, 20]),
        ("and", True),
        ("or", True),
        ("keep", 30),
    ],
)
def test_a_declared_strategy_decides(strategy: str, expected: Any) -> None:
    a, b = pair(traits=({"age": 30}, {"age": 20}))
    assert joined(a, b, {"profile.traits.age": strategy})["traits"] == {"age": expected}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1e308, 1.5e308, 1.5e308),
        (2**62, 2**62 + 1, 2**62 + 1),
        (2**62, 2.0**62, 2.0**63),
        (-(2**62), -(2**62) - 5, -(2**62)),
    ],
)
def test_a_sum_that_cannot_be_kept_is_the_largest(one: float, other: float, expected: float) -> None:
    """Else it would be nothing, or could never be incremented again."""
    a, b = pair(stats=({"counters": {"n": one}}, {"counters": {"n": other}}))
    assert joined(a, b, {})["stats"] == {"counters": {"n": expected}}


def test_two_ages_are_never_added() -> None:
    a, b = pair(traits=({"age": 30}, {"age": 20}))
    assert joined(a, b, {})["traits"] == {"age": 20}
    a["changed"] = {"profile.traits.age": TIMES[3]}
    assert joined(a, b, {})["traits"] == {"age": 30}


def test_what_only_one_has_stays_and_parts_of_an_object_are_taken_for_themselves() -> None:
    home, work = {"home": {"city": "Ulm", "zip": "1"}}, {"home": {"zip": "2"}, "name": "Kim"}
    a, b = pair(traits=(home, work), changed=({"profile.traits.home.zip": TIMES[5]}, None))
    assert joined(a, b, {})["traits"] == {"home": {"city": "Ulm", "zip": "1"}, "name": "Kim"}


def test_of_two_consents_the_one_that_was_said_last_counts() -> None:
    given_then, revoked = {"given": True, "at": TIMES[1]}, {"given": False, "at": TIMES[2]}
    a, b = pair(consents=({"mail": revoked}, {"mail": given_then}))
    assert joined(a, b, {})["consents"]["mail"] == revoked
    a, b = pair(consents=({"mail": revoked | {"at": TIMES[1]}}, {"mail": given_then}))
    assert joined(a, b, {})["consents"]["mail"]["given"] is False


@pytest.mark.parametrize("at", [None, "", "last week", 5, {}])
@pytest.mark.parametrize("place", [0, 1])
def test_a_no_of_an_unknown_time_counts_and_a_yes_of_one_does_not(place: int, at: Any) -> None:
    no, yes = {"given": False, "at": at}, {"given": True, "at": TIMES[5]}
    both = [no, yes] if place else [yes, no]
    a, b = pair(consents=({"mail": both[0]}, {"mail": both[1]}))
    assert joined(a, b, {})["consents"]["mail"] == no
    yes, no = {"given": True, "at": at}, {"given": False, "at": TIMES[0]}
    both = [no, yes] if place else [yes, no]
    a, b = pair(consents=({"mail": both[0]}, {"mail": both[1]}))
    assert joined(a, b, {})["consents"]["mail"] == no


def test_times_of_consents_are_compared_as_times() -> None:
    no, yes = {"given": False, "at": "2026-01-05T01:00:00+03:00"}, {"given": True, "at": TIMES[3]}
    a, b = pair(consents=({"mail": yes}, {"mail": no}))
    # It was said on the 4th at 22:00 UTC.
    assert joined(a, b, {})["consents"]["mail"] == no
    a, b = pair(consents=({"mail": yes | {"at": TIMES[4]}}, {"mail": no}))
    assert joined(a, b, {})["consents"]["mail"]["given"] is True


def test_a_goal_has_the_first_and_last_time_of_both() -> None:
    mine = {"bought": {"first": TIMES[1], "last": TIMES[2], "count": 2, "value": 10}}
    theirs = {"bought": {"first": TIMES[0], "last": TIMES[1], "count": 1, "value": 5}}
    a, b = pair(goals=(mine, theirs))
    assert joined(a, b, {})["goals"] == {
        "bought": {"first": TIMES[0], "last": TIMES[2], "count": 3, "value": 15}
    }


def test_throttles_and_waits_of_both_go_on() -> None:
    passes = {"mail": {"longest": 5, "passed": {"": [1, 3]}}}, {"mail": {"longest": 9, "passed": {"": [2]}}}
    waits = [{"timer": "t1", "node": "n"}], [{"timer": "t2", "node": "n"}]
    a, b = pair(throttles=passes, waits=waits)
    made = joined(a, b, {})
    assert made["throttles"] == {"mail": {"longest": 9, "passed": {"": [1, 2, 3]}}}
    assert {one["timer"] for one in made["waits"]} == {"t1", "t2"}


def apart(whole: Doc, loser: Doc, declared: dict[str, str], *later: Doc) -> Doc:
    """Take a profile out again of which, and of those that were merged later, is known what they were."""
    compiled = compiled_rules(declared)
    losers = {one["id"]: Loser(one, compiled) for one in (loser, *later)}
    return unfold(whole, loser["id"], losers, TIMES[-1]).doc


def compared(doc: Doc) -> Doc:
    """Return a profile as two are compared of which one was merged.

    Times of fields are known then, and who was taken out is noted.
    """
    whole = told(doc)
    whole.pop("changed", None)
    whole.pop("apart", None)
    whole["time"] = {name: at for name, at in whole["time"].items() if name != "updated"}
    return whole


@settings(max_examples=40, deadline=None)
@given(profiles(0), profiles(1), rules)
def test_taking_apart_restores_every_field(a: Doc, b: Doc, declared: dict[str, str]) -> None:
    survivor, loser = (a, b) if survives(a, b) else (b, a)
    whole = joined(a, b, declared)
    before = plain(whole)
    assert compared(apart(whole, loser, declared)) == compared(survivor)
    assert whole == before


@settings(max_examples=40, deadline=None)
@given(profiles(0), profiles(1), profiles(2), rules)
def test_those_that_were_merged_later_stay(a: Doc, b: Doc, c: Doc, declared: dict[str, str]) -> None:
    a["time"]["created"] = TIMES[0]
    whole = joined(joined(a, b, declared), c, declared)
    first_b, first_c = apart(whole, b, declared, c), apart(whole, c, declared)
    assert compared(first_b) == compared(joined(a, c, declared))
    assert compared(first_c) == compared(joined(a, b, declared))
    assert compared(apart(first_b, c, declared)) == compared(a)
    assert compared(apart(first_c, b, declared)) == compared(a)


def test_a_merge_of_which_nothing_is_known_any_more_stays() -> None:
    a, b = pair(traits=({"x": 1}, {"x": {"p": 2}}))
    c = plain(b) | {"id": "p2", "ids": ["p2"], "traits": {"x": {"q": 3}}}
    whole = joined(joined(a, b, {}), c, {})
    made = apart(whole, b, {})
    assert (made["traits"], made["ids"]) == ({"x": {"q": 3}}, ["p0", "p2"])
    assert apart(whole, b, {}, c)["absorbed"][0]["was"][0] == {"path": ["traits", "x"], "value": 1}


def test_passes_of_a_throttle_go_back_too() -> None:
    passes = {
        "mail": {"longest": 9, "passed": {"a": [1], "b": [2]}},
        "x": {"longest": 5, "passed": {"": [1]}},
    }
    a, b = pair(throttles=({"mail": {"longest": 9, "passed": {"a": [1, 3]}}}, passes))
    whole = joined(a, b, {})
    whole["throttles"]["mail"]["passed"]["b"].append(7)
    made = apart(whole, b, {})
    assert made["throttles"] == {"mail": {"longest": 9, "passed": {"a": [1, 3], "b": [7]}}}


def test_what_came_since_stays() -> None:
    a, b = pair(traits=({"age": 30, "name": "Kim"}, {"age": 20, "name": "Jo"}), segments=(["x"], ["y"]))
    whole = joined(a, b, {})
    whole["traits"]["name"] = "Ute"
    whole["stats"]["counters"]["n"] = 3
    whole["segments"].append("z")
    made = apart(whole, b, {})
    assert made["traits"] == {"age": 30, "name": "Ute"}
    assert made["stats"]["counters"] == {"n": 3}
    assert made["segments"] == ["x", "z"]
    assert (made["ids"], made["apart"], "absorbed" in made) == (["p0"], ["p1"], False)


def test_a_past_that_was_found_since_the_merge_is_found_again_for_each() -> None:
    a, b = pair(past=({"c1": [[0, 1]], "c2": [[0, 1]]}, {"c2": []}))
    whole = joined(a, b, {})
    assert whole["past"] == {"c2": [[0, 1]]}
    # A segment that came later has learned of the events of both.
    whole["past"] |= {"c1": [[0, 3]], "c3": [[0, 4]]}
    assert apart(whole, b, {})["past"] == {"c2": [[0, 1]]}


def test_many_ids_are_joined_and_parted_in_no_time() -> None:
    number = 20_000
    a, b = pair(
        ids=(
            ["p0", *(f"a{one}" for one in range(number))],
            ["p1", *(f"b{one}" for one in range(number))],
        )
    )
    with timed() as took:
        whole = joined(a, b, {})
        made = apart(whole, b, {})
    assert (len(whole["ids"]), made["ids"]) == (2 * number + 2, a["ids"])
    # One by one it takes half a minute.
    assert took.seconds < 2


def test_taking_one_of_many_out_copies_no_record_for_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []

    def counting(doc: Any) -> Any:
        copied.append(len(doc.get("absorbed", ())))
        return plain(doc)

    monkeypatch.setattr("headrace.engine.identity.unfold.plain", counting)
    whole, _ = pair()
    many = [new_profile(f"q{number:02}", "main", TIMES[1]) for number in range(40)]
    for one in many:
        whole = joined(whole, one, {})
    made = apart(whole, many[0], {}, *many[1:])
    assert [one["id"] for one in made["absorbed"]] == [one["id"] for one in many[1:]]
    assert sum(copied) == len(many) - 1
