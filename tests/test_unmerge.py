"""Taking merged profiles apart: what nobody wrote since is as it was, what came since stays."""

from datetime import timedelta
from typing import Any

import pytest

from headrace.engine.errors import BusyError
from headrace.engine.identity.follow import follow, read_stored
from headrace.engine.identity.merge import MERGE, UNMERGE, Merging, Refused, timer_of
from headrace.engine.identity.unmerge import Apart, _take_out, fire_unmerge, unmerge
from headrace.engine.model import Caller, Doc, EventInput, iso_now, utc_now
from headrace.engine.store.protocol import Leased, Query
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.makers import Files, Lab, chain, count, sources
from tests.test_merge import QUIET, fire, join, living, visit, workspace

SETTING = {
    "setting": chain(
        "set",
        (
            "set_fields",
            {
                "fields": {
                    f"profile.traits.{one}": f"{{{{ event.properties.{one} }}}}" for one in ("age", "city")
                }
            },
        ),
    )
}


def said(**properties: Any) -> EventInput:
    return EventInput("set", properties)


async def take_apart(lab: Lab, profile: str) -> Apart | Refused:
    return await unmerge(lab.store, lab.engine.parts.locks, "main", profile)


async def owners(lab: Lab) -> dict[str, int]:
    """Return how many events each profile has, as questions see it."""
    await lab.settle()
    found: dict[str, int] = {}
    for event in await lab.all("event"):
        found[event["profile"]] = found.get(event["profile"], 0) + 1
    return found


async def test_two_are_two_again_with_what_was_theirs(open_lab: OpenLab) -> None:
    async with open_lab(workspace(**SETTING), **QUIET) as lab:
        a = await visit(lab, "s-a", said(age=30, city="Ulm"), "view")
        b = await visit(lab, "s-b", said(age=20, city="Bonn"), "later")
        before = await living(lab, a), await living(lab, b)
        await join(lab, a, b)
        await fire(lab)
        # After the merge: one field is written, and each session goes on.
        await visit(lab, "s-a", EventInput("named", {"name": "Kim"}))
        assert await visit(lab, "s-b", "view") == a
        assert (await living(lab, a))["traits"] == {"age": 20, "city": "Bonn", "name": "Kim"}
        assert await owners(lab) == {a: 6}
        assert await take_apart(lab, b) == Apart(b, a)
        one, other = await living(lab, a), await living(lab, b)
        assert one["traits"] == {"age": 30, "city": "Ulm", "name": "Kim"}
        # The two views that came since stay with the survivor.
        assert one["stats"]["counters"]["n"] == before[0]["stats"]["counters"]["n"] + 2
        assert (one["ids"], one["apart"], "absorbed" in one) == ([a], [b], False)
        assert _comparable(other) == _comparable(before[1])
        assert (other["id"], other["apart"]) == (b, [a])
        await fire(lab)
        assert await owners(lab) == {a: 4, b: 2}
        assert await visit(lab, "s-b", "view") == b
        assert await visit(lab, "s-a", "view") == a
        assert await owners(lab) == {a: 5, b: 3}
        timers = {one["kind"]: one["profile"] for one in await lab.all("timer") if one["kind"] == "run"}
        assert timers == {"run": b}
        (bucket,) = await lab.store.report(Query("event"), "source")
        assert bucket["profiles"] == 2


def _comparable(profile: Doc) -> Doc:
    whole = {name: value for name, value in profile.items() if name not in ("apart", "changed")}
    whole["time"] = {name: at for name, at in profile["time"].items() if name != "updated"}
    return whole


async def test_a_session_that_is_not_saved_goes_back_too(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a = await visit(lab, "s-a", "view")
        answer = await lab.track("view", session_id="s-b", save_session=False)
        assert answer.profile is not None
        b = str(answer.profile["id"])
        await join(lab, a, b)
        await lab.track("view", session_id="s-b", save_session=False)
        await fire(lab)
        await lab.track("view", session_id="s-b", save_session=False)
        assert await take_apart(lab, b) == Apart(b, a)
        await fire(lab)
        assert await visit(lab, "s-b", "view") == b
        assert (await living(lab, b))["stats"]["counters"]["n"] == 2


async def test_a_session_that_a_run_wrote_before_it_was_re_owned_goes_back(open_lab: OpenLab) -> None:
    waits = chain("soon", ("wait", {"period": "1h"}), count("session.properties.n"))
    async with open_lab(workspace(soon=waits), **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "soon")
        await join(lab, a, b)
        await lab.settle()
        # The run's time comes first.
        await _fire_only(lab, "run", timedelta(hours=2))
        await _fire_only(lab, MERGE, timedelta(hours=3))
        session = next(one for one in await lab.all("session") if one["id"] == "s-b")
        assert (session["profile"], session["profile_then"], session["properties"]) == (a, b, {"n": 1})
        assert await take_apart(lab, b) == Apart(b, a)
        assert await visit(lab, "s-b", "view") == b


async def _fire_only(lab: Lab, kind: str, after: timedelta) -> None:
    """Do what timers of one kind have to do; others are put off."""

    async def busy(*_: Any) -> Doc:
        raise BusyError("later")

    kinds = {**dict.fromkeys(KINDS, busy), kind: KINDS[kind]}
    await TimerWorker(lab.engine.parts, kinds, lambda: utc_now() + after).fire_due()
    await lab.settle()


async def test_a_session_that_was_attached_before_it_was_re_owned_goes_back(open_lab: OpenLab) -> None:
    files = workspace(attaching=chain("late", ("attach_session", {"id": "s-b"})))
    async with open_lab(files, **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view")
        await join(lab, a, b)
        await lab.collect("late")
        await fire(lab)
        assert await take_apart(lab, b) == Apart(b, a)
        assert await visit(lab, "s-b", "view") == b


async def test_a_session_that_moved_on_goes_back_to_whom_it_had_moved(open_lab: OpenLab) -> None:
    email = {"email": {"path": "event.properties.email"}}
    files = workspace(
        **{
            "event_types.json": {"event_types": {"sign-in": {"identify": email}}},
            "sources.json": sources(shop={}, back={"keys": [{"secret": "SHOP_KEY"}]}),
        }
    )
    async with open_lab(files, **QUIET) as lab:

        async def sign_in(session: str, address: str) -> str:
            event = EventInput("sign-in", {"email": address})
            answer = await lab.track(event, session_id=session, source="back", caller=Caller(secret="hush"))
            assert answer.profile is not None
            return str(answer.profile["id"])

        a = await sign_in("s-a", "a@x.io")
        b = await visit(lab, "s-b", "view")
        await join(lab, a, b)
        await fire(lab)
        c = await sign_in("s-b", "c@x.io")
        assert c not in (a, b)
        await join(lab, a, c)
        await fire(lab)
        assert await take_apart(lab, c) == Apart(c, a)
        assert await visit(lab, "s-b", "view") == c


async def test_a_chain_is_taken_apart_from_its_end(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a, b, c = [await visit(lab, f"s-{name}", "view") for name in "abc"]
        await join(lab, b, c)
        await join(lab, a, b)
        await fire(lab)
        refused = await take_apart(lab, c)
        assert isinstance(refused, Refused)
        assert (refused.code, b in refused.reason) == ("merged_on", True)
        assert await take_apart(lab, b) == Apart(b, a)
        assert (await living(lab, b))["stats"]["counters"]["n"] == 2
        assert await follow(lab.store, "main", c) == b
        assert await take_apart(lab, c) == Apart(c, b)
        for profile in (a, b, c):
            found = await living(lab, profile)
            assert (found["id"], found["ids"]) == (profile, [profile])
            assert found["stats"]["counters"]["n"] == 1
        await fire(lab)
        assert await owners(lab) == {a: 1, b: 1, c: 1}


async def test_one_of_several_is_taken_out(open_lab: OpenLab) -> None:
    async with open_lab(workspace(**SETTING), **QUIET) as lab:
        a = await visit(lab, "s-a", said(age=1))
        b = await visit(lab, "s-b", said(age=2))
        c = await visit(lab, "s-c", said(age=3))
        await join(lab, a, b)
        await join(lab, a, c)
        assert await take_apart(lab, b) == Apart(b, a)
        made = await living(lab, a)
        assert (made["traits"]["age"], made["ids"], made["stats"]["counters"]["n"]) == (3, [a, c], 2)
        assert await take_apart(lab, c) == Apart(c, a)
        assert (await living(lab, a))["traits"]["age"] == 1


SEEN = chain("seen", ("set_fields", {"fields": {"profile.traits.age.seen": "{{ event.properties.seen }}"}}))


@pytest.mark.parametrize("order", ["bcd", "dcb", "cbd"])
async def test_objects_and_plain_values_at_one_place_are_told_apart(open_lab: OpenLab, order: str) -> None:
    ages: dict[str, Any] = {"a": 1, "b": {"p": 2}, "c": {"q": 3, "p": {}}, "d": [4]}
    left: dict[str, Any] = {"": 1, "b": {"p": 2}, "c": {"q": 3, "p": {}}, "bc": {"p": {}, "q": 3}}
    async with open_lab(workspace(**SETTING, seeing=SEEN), **QUIET) as lab:
        ids = {name: await visit(lab, f"s-{name}", said(age=age)) for name, age in ages.items()}
        before = {name: await living(lab, id) for name, id in ids.items()}
        await join(lab, ids["a"], ids["b"])
        await visit(lab, "s-b", EventInput("seen", {"seen": 5}))
        await join(lab, ids["c"], ids["d"])
        await join(lab, ids["d"], ids["a"])
        assert (await living(lab, ids["d"]))["traits"]["age"] == left["bc"] | {"seen": 5}
        # What d was merged into was merged on: it comes out of that.
        inside = set("bc")
        for name in order:
            taken = await take_apart(lab, ids[name])
            if name == "d" and "c" in inside:
                assert isinstance(taken, Refused)
                continue
            inside.discard(name)
            made = await living(lab, ids["a"])
            age = left["".join(sorted(inside))]
            assert made["traits"]["age"] == (age if type(age) is dict else {}) | {"seen": 5}
        if "d" in await _merged(lab, ids):
            await take_apart(lab, ids["d"])
        for name in "bcd":
            assert _comparable(await living(lab, ids[name])) == _comparable(before[name])


async def _merged(lab: Lab, ids: dict[str, str]) -> str:
    """Return the names of those that live on in another one."""
    return "".join([name for name, id in ids.items() if await follow(lab.store, "main", id) != id])


async def test_what_was_not_merged_is_not_taken_apart(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a = await visit(lab, "s-a", "view")
        refused = await take_apart(lab, a)
        assert isinstance(refused, Refused)
        assert refused.code == "not_merged"
        gone = await take_apart(lab, "nobody")
        assert isinstance(gone, Refused)
        assert gone.code == "no_profile"


async def test_they_can_be_merged_again(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view")
        for _ in range(3):
            assert await join(lab, a, b) == a
            await fire(lab)
            assert (await living(lab, b))["stats"]["counters"]["n"] == 2
            assert await take_apart(lab, b) == Apart(b, a)
            await fire(lab)
            assert await owners(lab) == {a: 1, b: 1}
        assert (await living(lab, b))["stats"]["counters"]["n"] == 1


async def test_the_worker_finishes_what_was_begun(open_lab: OpenLab) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view")
        await join(lab, a, b)
        await fire(lab)
        alias = await read_stored(lab.store, "main", b)
        assert alias is not None
        # Only the first step was done: the id still leads to somebody.
        merging = Merging(lab.store, lab.engine.parts.locks)
        assert await _take_out(merging, "main", alias.doc, await living(lab, a))
        assert await follow(lab.store, "main", b) == a
        await fire(lab)
        assert (await living(lab, b))["id"] == b
        assert await owners(lab) == {a: 1, b: 1}


@pytest.mark.parametrize("again", [False, True])
async def test_a_late_timer_changes_nothing(open_lab: OpenLab, again: bool) -> None:
    async with open_lab(workspace(), **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "view")
        await join(lab, a, b)
        await fire(lab)
        late = timer_of(UNMERGE, "main", b, a, iso_now())
        late.doc.update({"waits": [], "consents": {}, "agreed": {}})
        await take_apart(lab, b)
        if again:
            await join(lab, a, b)
        await fire(lab)
        await fire_unmerge(lab.engine.parts, Leased(late.key, late.doc, "lease"), utc_now())
        assert await follow(lab.store, "main", b) == (a if again else b)
        assert await owners(lab) == ({a: 2} if again else {a: 1, b: 1})


def consenting(**more: Any) -> Files:
    """Return files by which a profile agrees to mail, or refuses, and gets mail."""
    said = {
        name: chain(name, ("set_consent", {"consent": "mail", "given": name == "yes"})) for name in YES_NO
    }
    bare = {"profile.consents.mail": {"given": "{{ event.properties.given }}"}}
    sent = chain("buy", ("webhook", {"url": "https://crm.example/buy"}), on={"consent": ["mail"]})
    return {**said, "bare": chain("bare", ("set_fields", {"fields": bare})), "sent": sent, **more}


YES_NO = ("yes", "no")


async def agreed(lab: Lab, *profiles: str) -> list[bool | None]:
    """Return what each profile says to mail."""
    found = [(await living(lab, profile))["consents"].get("mail") for profile in profiles]
    return [None if consent is None else consent["given"] for consent in found]


NO = EventInput("bare", {"given": False})
YES = EventInput("bare", {"given": True})


@pytest.mark.parametrize(
    ("a", "b", "since", "expected"),
    [
        # What nobody said anything of is as it was, whatever counted meanwhile.
        (["yes"], [], [], [True, None]),
        (["no"], ["yes"], [], [False, True]),
        (["yes"], ["no"], [], [True, False]),
        # A no counts for both.
        ([], ["yes"], ["no"], [False, False]),
        (["yes"], ["yes"], ["no"], [False, False]),
        (["yes"], [], ["no"], [False, None]),
        ([], ["yes"], [NO], [False, False]),
        # A yes counts for neither: nobody knows whether the same person had said no before.
        ([], [], ["yes"], [False, None]),
        (["yes"], ["yes"], ["no", "yes"], [False, False]),
        (["no"], ["yes"], ["yes"], [False, False]),
        (["no"], [], [YES], [False, None]),
    ],
)
async def test_consents_that_were_said_since_a_merge(
    open_lab: OpenLab, a: list[str], b: list[str], since: list[EventInput | str], expected: list[bool | None]
) -> None:
    async with open_lab(consenting(), **QUIET) as lab:
        one, other = await visit(lab, "s-a", "view", *a), await visit(lab, "s-b", "view", *b)
        await join(lab, one, other)
        await fire(lab)
        if since:
            assert await visit(lab, "s-b", *since) == one
        assert await take_apart(lab, other) == Apart(other, one)
        await fire(lab)
        assert await agreed(lab, one, other) == expected
        await visit(lab, "s-a", "buy")
        await visit(lab, "s-b", "buy")
        assert len(await lab.all("effect")) == expected.count(True)
        # Each may agree anew.
        await visit(lab, "s-b", "yes", "buy")
        assert len(await lab.all("effect")) == expected.count(True) + 1


async def test_a_consent_that_was_withdrawn_is_so_in_each_of_a_chain(open_lab: OpenLab) -> None:
    async with open_lab(consenting(), **QUIET) as lab:
        a, b, c = [await visit(lab, f"s-{name}", "view") for name in "abc"]
        await visit(lab, "s-c", "yes")
        await join(lab, b, c)
        await join(lab, a, b)
        await visit(lab, "s-c", "no")
        assert await take_apart(lab, b) == Apart(b, a)
        assert await take_apart(lab, c) == Apart(c, b)
        assert await agreed(lab, a, b, c) == [False, False, False]


async def test_one_that_was_merged_later_agreed_for_itself(open_lab: OpenLab) -> None:
    async with open_lab(consenting(), **QUIET) as lab:
        a, b, c = [await visit(lab, f"s-{name}", "view") for name in "abc"]
        await join(lab, a, b)
        await visit(lab, "s-b", "yes")
        await visit(lab, "s-c", "yes")
        await join(lab, a, c)
        assert await take_apart(lab, b) == Apart(b, a)
        # Its word is later than the one of which nobody knows whose it was, and goes with it.
        assert await agreed(lab, a, b) == [True, None]
        assert await take_apart(lab, c) == Apart(c, a)
        assert await agreed(lab, a, c) == [False, True]


@pytest.mark.parametrize("ends", ["by its timer", "by hand", "by hand, its timer lost"])
async def test_an_un_merging_that_died_loses_neither_waits_nor_a_no(
    open_lab: OpenLab, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = {"event": ["pay"], "timeout": "30d"}
    waiting = {
        "wait": {"plugin": "wait_for_event", "config": waits, "then": {"received": ["count"]}},
        "count": {"plugin": "increment", "config": {"field": "profile.stats.counters.paid"}},
    }
    files = consenting(paying={"on": {"event": ["start"]}, "nodes": waiting})
    async with open_lab(files, **QUIET) as lab:
        a, b = await visit(lab, "s-a", "view"), await visit(lab, "s-b", "start", "yes")
        await join(lab, a, b)
        await fire(lab)
        alias = await read_stored(lab.store, "main", b)
        assert alias is not None
        merging = Merging(lab.store, lab.engine.parts.locks)
        assert await _take_out(merging, "main", alias.doc, await living(lab, a))
        # Its events are the survivor's still.
        if ends != "by its timer":
            assert await visit(lab, "s-b", "view") == a
        else:
            assert await visit(lab, "s-b", "no") == a
        is_lost = ends.endswith("lost")
        if is_lost:

            async def lost(*_: Any) -> None:
                return None

            monkeypatch.setattr(lab.store, "get", lost)
        if ends != "by its timer":
            assert await take_apart(lab, b) == Apart(b, a)
        monkeypatch.undo()
        await fire(lab)
        # What cannot be known any more is not agreed to.
        assert await agreed(lab, b) == [ends == "by hand"]
        assert await visit(lab, "s-b", "pay") == b
        await fire(lab)
        assert (await living(lab, b))["stats"]["counters"] == ({} if is_lost else {"paid": 1})
