"""What clients may send, drawn by chance."""

from hypothesis import strategies as st

from tests.model_of_tracking import ATTACHING, PLAIN, SAYING, Body, Made

SESSIONS = ("s1", "s2", "s3")
CUSTOMERS = (None, None, "1", "2")
EMAILS = ("a", "b", "c", None)


@st.composite
def events(draw: st.DrawFn, session: str | None, *, profile_less: bool, trusted: bool) -> Made:
    """Draw an event. Its id is of its session and source; most ids come with the same content each time."""
    of = f"{'b-' if trusted else ''}{session}"
    # One that is given the profile that has its value, in a session that is another profile's, is not tried here: in a
    # cluster two servers that write the session, each with another profile, may count one event less in it.
    may_say = session is None or not profile_less
    if may_say and draw(st.integers(0, 4 if trusted else 7)) == 0:
        return draw(sayings(session, trusted=trusted))
    if not profile_less and draw(st.integers(0, 5)) == 0:
        return Made("x", f"m-{session}-{draw(st.integers(0, 2))}{'b' if trusted else ''}", "s1", save=False)
    types = (*PLAIN, *ATTACHING) if session is None or not profile_less else PLAIN
    number = draw(st.integers(0, 7))
    if session is None or draw(st.booleans()):
        return Made(types[number % len(types)], None, _of(types[number % len(types)], number))
    type = types[number % len(types)]
    other = draw(st.integers(0, 5)) == 0
    return Made(type, f"e-{of}-{number}", _of(type, number), n=int(other))


@st.composite
def sayings(draw: st.DrawFn, session: str | None, *, trusted: bool) -> Made:
    """Draw an event that says who it is."""
    number = draw(st.integers(0, 15))
    customer, email = CUSTOMERS[number % 4], EMAILS[number // 4 % 4]
    type = SAYING[number % 5 == 0 and email is not None]
    id = None
    # Without a session nothing says that an id that is sent twice is about one profile.
    if session is not None and draw(st.booleans()):
        id = f"i-{'b-' if trusted else ''}{session}-{number}"
    other = id is not None and draw(st.integers(0, 5)) == 0
    if type == "pay":
        customer = None
    return Made(type, id, "s1", n=int(other), customer=customer, email=email)


def _of(type: str, number: int) -> str:
    return SESSIONS[(number + len(type)) % 3]


# An id that stands in two requests which both make profiles is not tried here: without a session nothing says that
# they are of one visitor.
KNOWN = [
    Body(
        session=None,
        profile_less=True,
        events=tuple(
            Made(type, f"e-{number}-{place}", _of(type, number)) for place, type in enumerate(types)
        ),
    )
    for number, types in enumerate(
        (["x"], ["lead"], ["outer", "lead"], ["chat", "x"], ["x", "coupon", "call"], ["lead", "chat", "lead"])
    )
]


@st.composite
def bodies(draw: st.DrawFn, *, calm: bool = False) -> Body:
    """Draw what a request says; a calm one has a session, and goes on with its profile."""
    session = draw(st.sampled_from(SESSIONS if calm else (*SESSIONS, None)))
    trusted = draw(st.integers(0, 3)) == 0
    if session is None and draw(st.booleans()):
        return draw(st.sampled_from(KNOWN))
    profile_less = not calm and (session is None or draw(st.integers(0, 3)) == 0)
    made = st.lists(events(session, profile_less=profile_less, trusted=trusted), min_size=1, max_size=4)
    return Body(session, profile_less, tuple(draw(made)), trusted)


@st.composite
def sign_ins(draw: st.DrawFn) -> Body:
    """Draw a request that says who it is, often with something before and after; it may have no session."""
    session = draw(st.sampled_from((*SESSIONS, None)))
    trusted = draw(st.integers(0, 2)) > 0
    profile_less = session is None and draw(st.integers(0, 3)) == 0
    saying = sayings(session, trusted=trusted)
    made = [draw(saying)]
    while len(made) < 4 and draw(st.booleans()):
        other = events(session, profile_less=profile_less or session is None, trusted=trusted)
        made.insert(draw(st.integers(0, len(made))), draw(st.one_of(saying, other)))
    return Body(session, profile_less, tuple(made), trusted)
