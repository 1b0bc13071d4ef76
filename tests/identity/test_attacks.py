"""Nobody who is not trusted reads or changes what is somebody's."""

import copy
from typing import Any

from headrace.engine.model import Answer, Caller, Doc, EventInput
from tests.conftest import OpenLab
from tests.identity.people import FILES, TYPES, living, session_of, sign_in, view, who
from tests.makers import Lab, chain

SET_NAME: Doc = {
    "name": chain(
        "sign-in", ("set_fields", {"fields": {"profile.traits.name": "{{ event.properties.name }}"}})
    )
}


async def known(lab: Lab) -> tuple[str, Doc]:
    """Make a known person, and return the id and the document."""
    ann = who(await sign_in(lab, "ann-at-home", email="ann@example.com", name="Ann"))
    return ann, copy.deepcopy(await living(lab, ann))


def told(answer: Answer) -> str:
    """Return all that an answer says, as a text."""
    return repr(answer)


async def test_a_stranger_with_a_known_address(open_lab: OpenLab) -> None:
    async with open_lab(FILES | SET_NAME) as lab:
        ann, before = await known(lab)
        for session in ("s1", "s1", "s2"):
            answer = await lab.track(
                EventInput("sign-in", {"email": "Ann@example.com", "name": "Eve"}),
                session_id=session,
                profile=True,
            )
            assert who(answer) != ann
            assert ann not in told(answer)
            assert "'Ann'" not in told(answer)
        assert await living(lab, ann) == before
        event = (await lab.all("event"))[-1]
        assert event["profile"] != ann
        assert ann not in repr(event["identified"])
        # The two visits of strangers are one now, and nobody who is known.
        eve = await living(lab, who(answer))
        assert eve["claimed"] == {"email": ["ann@example.com"]}
        assert "identities" not in eve


async def test_a_stranger_waits_with_an_address_for_its_owner(open_lab: OpenLab) -> None:
    """Who sends an address before its owner does must not be there when the owner signs in."""
    async with open_lab(FILES | SET_NAME) as lab:
        eve = who(await lab.track(EventInput("newsletter", {"email": "ann@example.com"}), session_id="eve"))
        # Ann leaves her address too, before anybody knows who she is: the two anonymous visits become one.
        shared = who(
            await lab.track(EventInput("newsletter", {"email": "ann@example.com"}), session_id="ann")
        )
        assert (await living(lab, eve))["id"] == shared
        ann = who(await sign_in(lab, "ann", email="ann@example.com", name="Ann"))
        assert ann != shared
        answer = await lab.track("page-view", session_id="eve", profile=True)
        assert who(answer) == shared
        assert "'Ann'" not in told(answer)
        assert (await session_of(lab, "ann"))["profile"] == ann
        # Nor when she was known before, from elsewhere.
        again = who(
            await lab.track(EventInput("newsletter", {"email": "bob@example.com"}), session_id="eve2")
        )
        await lab.track(EventInput("newsletter", {"email": "bob@example.com"}), session_id="ann2")
        assert who(await sign_in(lab, "ann2", email="ann@example.com")) == ann
        assert (await living(lab, again))["id"] != ann


async def test_a_guessed_session_id(open_lab: OpenLab) -> None:
    async with open_lab(FILES | SET_NAME) as lab:
        ann, before = await known(lab)
        answer = await lab.track("page-view", session_id="ann-at-hom", profile=True)
        assert who(answer) != ann
        assert await living(lab, ann) == before


async def test_ids_of_another_tenant(open_lab: OpenLab) -> None:
    async with open_lab(FILES | SET_NAME) as lab:
        ann, before = await known(lab)
        event = EventInput("sign-in", {"email": "ann@example.com", "name": "Eve"})
        for session, profile in (("ann-at-home", None), ("s9", ann), ("ann-at-home", ann)):
            answer = await lab.track(
                event,
                session_id=session,
                profile_id=profile,
                source="theirs",
                caller=Caller(secret="hush"),
                profile=True,
            )
            assert who(answer) != ann
            assert "'Ann'" not in told(answer)
        assert await living(lab, ann) == before
        assert (await session_of(lab, "ann-at-home"))["profile"] == ann
        assert len(await lab.all("profile")) == 1
        assert len(await lab.all("profile", "other")) == 1


async def test_two_people_on_one_device_stay_two(open_lab: OpenLab) -> None:
    async with open_lab(FILES | SET_NAME) as lab:
        for _ in range(2):
            ann = who(await sign_in(lab, "tablet", email="ann@example.com", name="Ann"))
            assert await view(lab, "tablet") == ann
            bob = who(await sign_in(lab, "tablet", email="bob@example.com", name="Bob"))
            assert await view(lab, "tablet") == bob
        assert ann != bob
        profiles = {doc["id"]: doc for doc in await lab.all("profile")}
        assert set(profiles) == {ann, bob}
        assert profiles[ann]["traits"]["name"] == "Ann"
        assert profiles[bob]["traits"]["name"] == "Bob"
        assert [doc["stats"]["counters"]["n"] for doc in profiles.values()] == [4, 4]


async def test_from_any_is_a_word_in_a_file(open_lab: OpenLab) -> None:
    kinds = {"code": {"path": "event.properties.code", "from": "any"}}
    types: dict[str, Any] = {"event_types": TYPES["event_types"] | {"sign-in": {"identify": kinds}}}
    async with open_lab(FILES | {"event_types.json": types}) as lab:
        ann = who(await sign_in(lab, "s1", source="shop", code="secret-1"))
        assert (await living(lab, ann))["identities"] == {"code": ["secret-1"]}
        assert who(await sign_in(lab, "s2", source="shop", code="secret-1")) == ann


async def test_nodes_are_believed_no_more_than_their_source(open_lab: OpenLab) -> None:
    files = FILES | {
        "identify": chain("say", ("identify", {"kind": "email", "value": "{{ event.properties.email }}"})),
        "merge": chain("join", ("merge_profiles", {"profile": "{{ event.properties.id }}"})),
        "load": chain("look", ("load_profile", {"kind": "email", "value": "{{ event.properties.email }}"})),
    }
    async with open_lab(files) as lab:
        ann, before = await known(lab)
        mail = {"email": "ann@example.com"}
        assert who(await lab.track(EventInput("say", mail), session_id="s1")) != ann
        assert who(await lab.track(EventInput("join", {"id": ann}), session_id="s1")) != ann
        assert (await lab.collect(EventInput("look", mail))).profile is None
        assert await living(lab, ann) == before
        caller = Caller(secret="hush")
        loaded = await lab.collect(EventInput("look", mail), source="backend", caller=caller)
        assert who(loaded) == ann
        said = await lab.track(EventInput("say", mail), source="backend", session_id="s2", caller=caller)
        assert who(said) == ann
        other = await view(lab, "s3")
        joined = await lab.track(
            EventInput("join", {"id": other}), source="backend", session_id="s2", caller=caller
        )
        assert who(joined) == ann == await view(lab, "s3")
