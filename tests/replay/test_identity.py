"""Replays of events that said who somebody is: nobody is moved or merged again."""

import copy

from headrace.engine.identity.follow import find_living
from headrace.engine.store.protocol import Query
from tests.conftest import OpenLab
from tests.identity.people import FILES, session_of, sign_in, view, who
from tests.makers import chain, count
from tests.replay.conftest import Replayer
from tests.replay.test_apply import apply, outcomes

NODE = chain(
    "sign-in",
    ("identify", {"kind": "email", "value": "{{ event.properties.email }}"}),
    count("profile.stats.counters.said"),
)


async def test_a_dry_replay_leaves_everybody_who_they_are(open_lab: OpenLab, replay: Replayer) -> None:
    async with open_lab(FILES) as lab:
        await view(lab, "phone")
        await sign_in(lab, "phone", email="ann@example.com")
        await sign_in(lab, "phone", email="bob@example.com")
        await sign_in(lab, "phone", email="ann@example.com")
        before = copy.deepcopy(sorted(await lab.all("profile"), key=lambda doc: str(doc["id"])))
        same = await replay(lab, FILES)
        assert [each.differences for each in same] == [[]] * 4
        more = await replay(lab, FILES | {"node": NODE})
        assert [each.problem for each in more] == [""] * 4
        assert sorted(await lab.all("profile"), key=lambda doc: str(doc["id"])) == before


async def test_a_workflow_that_is_applied_moves_nobody(open_lab: OpenLab, replay: Replayer) -> None:
    async with open_lab(FILES) as lab:
        ann = who(await sign_in(lab, "phone", email="ann@example.com"))
        bob = who(await sign_in(lab, "phone", email="bob@example.com"))
        draft = replay.draft(FILES | {"node": NODE})
        assert outcomes(await apply(lab, draft, "node", Query("event", type="sign-in"))) == ["applied"] * 2
        assert outcomes(await apply(lab, draft, "node", Query("event", type="sign-in"))) == ["before"] * 2
        assert (await session_of(lab, "phone"))["profile"] == bob
        for profile, mail in ((ann, "ann@example.com"), (bob, "bob@example.com")):
            doc = await find_living(lab.store, "main", profile)
            assert doc is not None
            assert doc["id"] == profile
            assert doc["identities"] == {"email": [mail]}
