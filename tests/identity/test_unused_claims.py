"""A claim of a value that its profile did not come to have: its server was killed in between."""

import asyncio
from typing import Any

import pytest

from headrace.engine.errors import StoreError
from headrace.engine.identity import unmerge
from headrace.engine.identity.values.kinds import claim_key
from headrace.engine.model import Caller, EventInput, iso, new_id, utc_now
from headrace.engine.store.protocol import Change, Claim
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.identity.people import files, living, sign_in, view, who
from tests.makers import Lab

CUSTOMERS: dict[str, Any] = {"customer": {}}


async def claim(lab: Lab, profile: str, value: str, *, is_trusted: bool = True) -> None:
    key = claim_key("main", "customer", value, is_trusted=is_trusted)
    doc = {"kind": "customer", "at": iso(utc_now())}
    await lab.store.commit(Change(new_id(), "main", claims=[Claim(key, profile, doc)]))


@pytest.mark.parametrize("session", ["tablet", "phone"])
async def test_the_profile_has_another_value_by_now(open_lab: OpenLab, session: str) -> None:
    async with open_lab(files(**CUSTOMERS)) as lab:
        first = await view(lab, "tablet")
        await claim(lab, first, "ann")
        bob = who(await sign_in(lab, "tablet", customer="bob"))
        assert bob == first
        ann = who(await sign_in(lab, session, customer="ann"))
        assert ann != bob
        assert (await living(lab, bob))["identities"] == {"customer": ["bob"]}
        assert (await living(lab, ann))["identities"] == {"customer": ["ann"]}
        assert who(await sign_in(lab, "till", customer="ann")) == ann


async def test_an_event_without_a_profile_brings_the_value(open_lab: OpenLab) -> None:
    async with open_lab(files(**CUSTOMERS)) as lab:
        ann = await view(lab, "tablet")
        await claim(lab, ann, "ann")
        event = EventInput("sign-in", {"customer": "ann"})
        await lab.collect(event, source="backend", caller=Caller(secret="hush"))
        assert (await lab.all("event"))[-1]["profile"] == ann
        assert (await living(lab, ann))["identities"] == {"customer": ["ann"]}


async def test_the_profile_was_merged(open_lab: OpenLab) -> None:
    async with open_lab(files(**CUSTOMERS)) as lab:
        older, younger = await view(lab, "tablet"), await view(lab, "phone")
        await claim(lab, younger, "ann")
        assert await lab.engine.merge("main", older, younger, "test") == older
        assert who(await sign_in(lab, "tablet", customer="ann")) == older
        assert (await living(lab, older))["identities"] == {"customer": ["ann"]}


async def test_it_is_no_such_claim_while_its_profile_is_taken_apart(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_lab(files(**CUSTOMERS)) as lab:
        older = await view(lab, "tablet")
        ann = who(await sign_in(lab, "phone", customer="ann"))
        assert await lab.engine.merge("main", older, ann, "test") == older

        async def killed(*_: Any) -> None:
            raise StoreError("killed")

        with monkeypatch.context() as patch:
            patch.setattr(unmerge, "_bring_back", killed)
            with pytest.raises(StoreError):
                await lab.engine.unmerge("main", ann)
        saying = asyncio.create_task(sign_in(lab, "tablet", customer="ann"))
        await asyncio.sleep(0.1)
        await lab.settle()
        await TimerWorker(lab.engine.parts, KINDS).fire_due()
        said = who(await saying)
        assert said == ann
        assert "identities" not in await living(lab, older)
        assert (await living(lab, ann))["identities"] == {"customer": ["ann"]}


async def test_strangers_met_in_the_profile(open_lab: OpenLab) -> None:
    async with open_lab(files(**CUSTOMERS)) as lab:
        await sign_in(lab, "tablet", "shop", customer="claimed")
        strangers = who(await sign_in(lab, "phone", "shop", customer="claimed"))
        await claim(lab, strangers, "ann")
        ann = who(await sign_in(lab, "till", customer="ann"))
        assert ann != strangers
        assert who(await sign_in(lab, "tablet", customer="ann")) == ann
        assert "identities" not in await living(lab, strangers)


async def test_it_was_only_claimed_of_somebody_who_is_known_by_now(open_lab: OpenLab) -> None:
    async with open_lab(files(**CUSTOMERS)) as lab:
        bob = await view(lab, "tablet")
        await claim(lab, bob, "ann", is_trusted=False)
        await sign_in(lab, "tablet", customer="bob")
        ann = who(await sign_in(lab, "phone", "shop", customer="ann"))
        assert (await living(lab, ann))["claimed"] == {"customer": ["ann"]}
        await sign_in(lab, "tablet", "shop", customer="ann")
        assert "claimed" not in await living(lab, bob)
