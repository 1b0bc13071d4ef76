"""What a value means for a profile: every case."""

from itertools import product

import pytest

from headrace.engine.identity.values.decide import Decision, Said, decide, is_doubtful
from headrace.engine.identity.values.kinds import Kind
from headrace.engine.model import Doc

MAIL, CUSTOMER = Kind("email"), Kind("customer")
KINDS = {"email": MAIL, "customer": CUSTOMER, "phone": Kind("phone", per_profile=2)}


def profile(id: str = "p", **members: object) -> Doc:
    return {"id": id, "ids": [id], **members}


def said(value: str = "a", *, kind: Kind = MAIL, trusted: bool = True, settled: bool = False) -> Said:
    return Said(kind, value, trusted, settled)


ANONYMOUS = profile()
ANN = profile(identities={"email": ["ann"]})
BOB = profile("q", identities={"email": ["bob"]})
CUSTOMER_7 = profile("q", identities={"customer": ["7"]})
CLAIMS_A = profile("q", claimed={"email": ["a"]})
JOINED = profile(absorbed=[{"id": "x", "by": "claimed:email"}])

TRUSTED = [
    ("nobody has it, and there is room", ANONYMOUS, None, Decision.KEPT),
    ("a known profile with room for the kind", CUSTOMER_7, None, Decision.KEPT),
    ("no room", ANN, None, Decision.MOVED),
    ("it is the profile's own", ANN, ANN, Decision.KNOWN),
    ("somebody else's, an anonymous profile", ANONYMOUS, BOB, Decision.MERGED),
    ("two who have nothing of one kind", ANN, CUSTOMER_7, Decision.MERGED),
    ("two who have other values of one kind", ANN, BOB, Decision.MOVED),
    ("two who were taken apart", profile(apart=["q"]), BOB, Decision.MOVED),
    ("two who were taken apart, noted on the other", ANONYMOUS, BOB | {"apart": ["p"]}, Decision.MOVED),
    ("too many profiles already", ANONYMOUS, BOB | {"ids": [str(n) for n in range(100)]}, Decision.MOVED),
    ("not quite too many", ANONYMOUS, BOB | {"ids": [str(n) for n in range(99)]}, Decision.MERGED),
    ("what was only claimed is nothing against it", profile(claimed={"email": ["b"]}), None, Decision.KEPT),
    ("visitors who may be strangers, nobody has it", JOINED, None, Decision.MOVED),
    ("visitors who may be strangers, somebody has it", JOINED, BOB, Decision.MOVED),
    (
        "joined by somebody who was trusted",
        profile(absorbed=[{"id": "x", "by": "email"}]),
        BOB,
        Decision.MERGED,
    ),
    ("no profile, nobody has it", None, None, Decision.NOBODY),
    ("no profile, somebody has it", None, BOB, Decision.ATTACHED),
]

UNTRUSTED = [
    ("nobody claimed it", ANONYMOUS, None, Decision.NOTED),
    ("no room", profile(claimed={"email": ["b"]}), None, Decision.FULL),
    ("known from what a trusted source said", ANN, None, Decision.UNTRUSTED),
    ("known, and an anonymous one claimed it", ANN, CLAIMS_A, Decision.UNTRUSTED),
    ("its own", profile("q"), CLAIMS_A, Decision.KNOWN),
    ("two anonymous ones", ANONYMOUS, CLAIMS_A, Decision.MERGED),
    (
        "who claimed it is known since",
        ANONYMOUS,
        CLAIMS_A | {"identities": {"email": ["a"]}},
        Decision.UNTRUSTED,
    ),
    ("known by another kind", ANONYMOUS, CLAIMS_A | {"identities": {"customer": ["1"]}}, Decision.UNTRUSTED),
    ("two who claimed other values of one kind", profile(claimed={"email": ["b"]}), CLAIMS_A, Decision.FULL),
    ("two who were taken apart", profile(apart=["q"]), CLAIMS_A, Decision.UNTRUSTED),
    ("too many profiles", ANONYMOUS, CLAIMS_A | {"ids": [str(n) for n in range(100)]}, Decision.UNTRUSTED),
    ("no profile", None, CLAIMS_A, Decision.NOBODY),
]


@pytest.mark.parametrize(("about", "mine", "other", "expected"), TRUSTED, ids=[case[0] for case in TRUSTED])
def test_trusted(about: str, mine: Doc | None, other: Doc | None, expected: Decision) -> None:
    assert decide(said(), mine, other, KINDS) is expected, about
    # Nothing moves a session once a value that goes before it has said who it is.
    settled = Decision.OUTWEIGHED if expected is Decision.MOVED else expected
    assert decide(said(settled=True), mine, other, KINDS) is settled


@pytest.mark.parametrize(
    ("about", "mine", "other", "expected"), UNTRUSTED, ids=[case[0] for case in UNTRUSTED]
)
def test_untrusted(about: str, mine: Doc | None, other: Doc | None, expected: Decision) -> None:
    assert decide(said(trusted=False), mine, other, KINDS) is expected, about


SHAPES: list[Doc] = [
    {},
    *({member: {"email": [value]}} for member in ("identities", "claimed") for value in ("a", "b")),
    {"identities": {"customer": ["1"]}},
    {"identities": {"customer": ["2"], "email": ["b"]}, "claimed": {"email": ["a"]}},
    {"apart": ["q", "p"]},
    {"absorbed": [{"id": "x", "by": "claimed:email"}]},
    {"ids": [str(number) for number in range(100)]},
]


def test_whatever_they_are_nobody_takes_over_a_known_person() -> None:
    for mine, other in product(SHAPES, [None, *SHAPES]):
        p = profile(**mine)
        q = None if other is None else profile("q", **other)
        untrusted = decide(said(trusted=False), p, q, KINDS)
        assert untrusted is not Decision.MOVED
        if untrusted is Decision.MERGED:
            assert q is not None
            assert not p.get("identities")
            assert not q.get("identities")
        trusted = decide(said(), p, q, KINDS)
        if trusted is Decision.MERGED:
            assert not is_doubtful(p)
            assert not p.get("apart")
        if trusted in (Decision.KEPT, Decision.NOTED):
            assert q is None


def test_a_kind_with_more_values_than_one() -> None:
    phones = profile(identities={"phone": ["1", "2"]})
    assert decide(said("3", kind=KINDS["phone"]), phones, None, KINDS) is Decision.MOVED
    other = profile("q", identities={"phone": ["2"]})
    assert decide(said("2", kind=KINDS["phone"]), phones, other, KINDS) is Decision.MERGED
    other = profile("q", identities={"phone": ["3"]})
    assert decide(said("3", kind=KINDS["phone"]), phones, other, KINDS) is Decision.MOVED
