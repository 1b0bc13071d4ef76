"""How identifying values are compared, and which are nobody's."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.identity.values.kinds import LONGEST, Kind, claim_key, compared, kind_of

TEXT, MAIL = Kind("customer"), Kind("email", is_mail=True, blocked=frozenset(("test@test.example",)))


@pytest.mark.parametrize(
    ("value", "text", "mail"),
    [
        (" Ab ", "Ab", "ab"),
        ("ANN@Example.COM", "ANN@Example.COM", "ann@example.com"),
        (7, "7", "7"),
        (7.0, "7", "7"),
        (7.5, "7.5", "7.5"),
        (-7, "-7", "-7"),
        ("007", "007", "007"),
        ("e\u0301", "\u00e9", "\u00e9"),
        ("a b", "a b", "a b"),
    ],
)
def test_values_are_compared_without_what_tells_nobody_apart(value: object, text: str, mail: str) -> None:
    assert TEXT.normalise(value) == text
    assert MAIL.normalise(value) == mail


@pytest.mark.parametrize(
    "value",
    ["", " \t\n", None, "null", "None", "UNDEFINED", "NaN", "n/a", "N/A", "anonymous", "Guest", "unknown", "-", "--",
     "0", "0000", "0.0", "00000000-0000-0000-0000-000000000000", 0, 0.0, True, False, float("nan"), float("inf"),
     {"a": 1}, ["a"], "[object Object]", "x" * (LONGEST + 1), "x" * 1_000_000, 10**80, "a\u200bb", "a\nb",
     "a\x00b", "\u202eb"],
)  # fmt: skip
def test_what_is_nobodys(value: object) -> None:
    assert TEXT.normalise(value) is None
    assert MAIL.normalise(value) is None


def test_blocked_values() -> None:
    assert MAIL.normalise(" TEST@test.example") is None
    assert TEXT.normalise("test@test.example") == "test@test.example"


@given(st.text(string.printable + "éÉßİ\u0301\u212a", max_size=300))
def test_what_was_compared_stays_as_it_is(value: str) -> None:
    for is_mail in (False, True):
        once = compared(value, is_mail=is_mail)
        if once is not None:
            assert compared(once, is_mail=is_mail) == once
            assert 0 < len(once) <= LONGEST


def test_a_kind_that_is_not_declared_has_the_usual_settings() -> None:
    assert kind_of({}, "phone") == Kind("phone")
    assert kind_of({}, "e-mail").is_mail
    assert kind_of({"email": MAIL}, "email") is MAIL


def test_claims_are_apart_by_tenant_kind_value_and_trust() -> None:
    keys = {
        claim_key(tenant, kind, value, is_trusted=is_trusted)
        for tenant in ("main", "other")
        for kind in ("email", "customer")
        for value in ("a", "b")
        for is_trusted in (True, False)
    }
    assert len(keys) == 16
