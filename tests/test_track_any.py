"""Any requests in any order, with faults in between: each event counts once, and nothing is lost."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from headrace.engine.model import EventInput
from tests.conftest import OpenLab
from tests.makers import Lab, chain, count
from tests.test_store_faults import Faulty, sent_until_taken, wrapping

LOAD = ("load_profile", {"session": "{{ event.properties.of }}"})
FILES = {
    "count": chain("*", count()),
    "visit": chain("*", count("session.properties.n"), order=1),
    "load": chain("coupon", LOAD, count("profile.stats.counters.coupons"), order=-1),
    "attach": chain("chat", ("attach_session", {"id": "{{ event.properties.of }}"}), order=-1),
    "lead": chain("lead", ("create_profile", {}), order=-1),
    "emit": chain("outer", ("emit", {"given": ["inner", "inner"]})),
}
SESSIONS = ["s1", "s2", "s3"]

EVENTS = st.builds(
    lambda kind, of, name: EventInput(kind, {"of": of}, id=f"{name}-{kind}-{of}"),
    st.sampled_from(["x", "x", "page-view", "coupon", "chat", "lead", "outer"]),
    st.sampled_from(SESSIONS),
    st.integers(0, 9),
)
PLANS = st.lists(st.sampled_from(["right", "right", "fails", "reply lost", "conflict"]), max_size=3)


@st.composite
def requests(draw: st.DrawFn) -> tuple[dict[str, Any], list[EventInput], list[str]]:
    """Draw what a request says, its events, and what the store does with its commits."""
    session = draw(st.sampled_from([*SESSIONS, None]))
    profile_less = session is None or draw(st.booleans())
    more = {"session_id": session, "profile_less": profile_less}
    return more, draw(st.lists(EVENTS, max_size=5)), draw(PLANS)


SOME = st.lists(requests(), min_size=1, max_size=6)
OF_HYPOTHESIS: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


class TestEmbedded:
    @pytest.fixture
    def store_kind(self) -> str:
        return "embedded"

    @settings(max_examples=50, **OF_HYPOTHESIS)
    @given(sent=SOME)
    async def test_any_requests(self, open_lab: OpenLab, sent: list[Any]) -> None:
        await check_requests(open_lab, sent)


@pytest.mark.usefixtures("elasticsearch_node")
class TestElasticsearch:
    """Fewer, as each takes a second; the state machine has more."""

    @pytest.fixture
    def store_kind(self) -> str:
        return "elastic"

    @settings(max_examples=8, **OF_HYPOTHESIS)
    @given(sent=SOME)
    async def test_any_requests(self, open_lab: OpenLab, sent: list[Any]) -> None:
        await check_requests(open_lab, sent)


async def check_requests(open_lab: OpenLab, sent: list[Any]) -> None:
    made: list[Faulty] = []
    async with open_lab(FILES, wrapping(made), fresh=True) as lab:
        for more, events, plans in sent:
            made[0].plans = list(plans)
            await sent_until_taken(lab, *events, **more)
        made[0].plans = []
        await check(lab, {one.id for _, events, _ in sent for one in events})
        before = await lab.rows()
        for more, events, _ in sent:
            if events:
                await lab.track(*events, **more)
        assert await lab.rows() == before


async def check(lab: Lab, ids: set[str | None]) -> None:
    """Compare the counters with the events that are kept."""
    events = await lab.all("event")
    own = [one for one in events if one["door"] != "internal"]
    assert Counter(one["id"] for one in own) == Counter(ids)
    assert len(events) == len(own) + 2 * sum(one["type"] == "outer" for one in own)
    event(f"{len(events) // 5 * 5} events or more")
    for profile in await lab.all("profile"):
        mine = [one for one in events if one["profile"] == profile["id"]]
        assert profile["stats"]["counters"].get("n", 0) == len(mine)
        # One that came without a profile has only seen it.
        assert profile["stats"]["counters"].get("coupons", 0) <= sum(one["type"] == "coupon" for one in mine)
    for session in await lab.all("session"):
        of_it = [one for one in events if one["session"] == session["id"]]
        assert session["stats"]["events"] == session["properties"].get("n", 0) == len(of_it)
    assert await lab.all("failed") == []
