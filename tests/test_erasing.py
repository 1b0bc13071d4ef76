"""A person is erased: nothing of theirs is left anywhere; and exported before."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.errors import BusyError
from headrace.engine.identity import person
from headrace.engine.identity.follow import MERGING
from headrace.engine.identity.merge import merge, timer_of
from headrace.engine.identity.unmerge import Apart, unmerge
from headrace.engine.model import Caller, Doc, EventInput, doc_key, make_key, new_id, utc_now
from headrace.engine.store.protocol import OWNED, Change, Claim, Committed, Ref, Row, Write
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker
from tests.conftest import OpenLab
from tests.makers import Files, Lab, chain, sources
from tests.stores import ElasticPlace, bytes_of, written

MARK = "zqx"
"""Begins every value of the person, and nothing else."""

EMAIL = {"path": "event.properties.mail", "from": "any", "per_profile": 99, "most_profiles": 99}

FILES: Files = {
    "sources.json": sources(shop={"trace": True, "answers_profile": True}),
    "event_types.json": {
        "event_types": {
            "order": {"schema": {"type": "object", "properties": {"total": {"type": "number"}}}},
            "view": {
                "identify": {"email": EMAIL},
                "map": {"profile.traits.last": "{{ event.properties.mail }}"},
            },
            **{name: {} for name in ("buy", "later", "join", "keep")},
        }
    },
    "segments.json": {
        "segments": {"mails": {"when": "events('view', within='9d').distinct('properties.mail') >= 2"}}
    },
    "goals.json": {"goals": {"seen": {"event": ["view"], "value": "{{ 1 }}"}}},
    "profile": chain(
        "view",
        ("set_fields", {"fields": {"profile.traits.mail": "{{ event.properties.mail }}"}}),
        ("add_interest", {"interest": "{{ event.properties.mail }}"}),
        ("update_session", {"properties": {"cart": "{{ event.properties.mail }}"}}),
        ("hash_value", {"value": "{{ event.properties.mail }}"}),
    ),
    "buy": {
        "on": {"event": ["buy"]},
        "nodes": {
            "keep": {
                "plugin": "set_fields",
                "config": {"fields": {"vars.mail": "{{ event.properties.mail }}"}},
                "then": {"done": ["told", "until", "wait"]},
            },
            "told": {
                "plugin": "webhook",
                "config": {"url": "https://crm.example/", "body": {"m": "{{ event.properties.mail }}"}},
            },
            "wait": {"plugin": "wait", "config": {"period": "30d"}},
            "until": {
                "plugin": "wait_for_event",
                "config": {
                    "event": ["later"],
                    "timeout": "30d",
                    "where": {"properties.m": "{{ vars.mail }}"},
                },
            },
        },
    },
    "join": chain("join", ("attach_session", {"id": "{{ event.properties.session }}"})),
    "join-order": chain("order", ("attach_session", {"id": "{{ event.properties.session }}"})),
}
QUIET: dict[str, Any] = {"outbox": False, "timers": False}


PLACES = (
    *("mail", "early", "long", "id", "page", "refused", "unsaved", "once", "raw", "note", "claim", "trace"),
)


def value(place: str) -> str:
    return f"{MARK}-{place}"


async def live(lab: Lab, who: str, session: str) -> str:
    """Let somebody do everything that leaves a value somewhere; returns the profile's id."""
    mail = value(f"{who}-mail@example.org")

    async def send(*events: EventInput, **more: Any) -> Any:
        return await lab.track(*events, session_id=session, **more)

    # Before anybody knows whose session it is.
    await send(EventInput("keep", {"early": value(f"{who}-early")}), profile_less=True)
    answer = await send(
        EventInput("view", {"mail": mail, "long": value(f"{who}-long") * 4000}, id=value(f"{who}-id")),
        context={"page": {"url": value(f"{who}-page")}},
    )
    await send(EventInput("buy", {"mail": mail}), EventInput("order", {"total": value(f"{who}-refused")}))
    await send(EventInput("view", {"mail": mail}, id=value(f"{who}-unsaved")), save_events=False)
    # Refused without a profile, sent again, and then attached.
    once = value(f"{who}-once")
    await lab.collect(EventInput("order", {"total": value(f"{who}-raw"), "session": session}, id=once))
    await lab.collect(EventInput("order", {"total": 1, "session": session}, id=once))
    await lab.collect(EventInput("join", {"session": session, "note": value(f"{who}-note")}))
    profile = str(answer.profile["id"])
    claims = [Claim(make_key("claim", who), profile, {"value": value(f"{who}-claim")})]
    traces = [Row(make_key("trace", who), {"profile": profile, "result": value(f"{who}-trace")})]
    assert await lab.store.commit(Change(new_id(), "main", claims=claims)) == Committed()
    await lab.store.keep_traces(traces)
    return profile


def texts(lab: Lab) -> Iterator[tuple[str, bytes]]:
    """Yield everything that is kept anywhere, by its place: files whole, or every document of every index."""
    if isinstance(lab.place, ElasticPlace):
        lab.place.show()
        status, said = lab.place.node.ask(
            "POST", f"/{lab.place.prefix}-*/_search?expand_wildcards=all", {"size": 10_000}
        )
        assert status == 200
        assert said["hits"]["total"]["value"] < 10_000
        yield from ((hit["_index"], json.dumps(hit).encode()) for hit in said["hits"]["hits"])
    else:
        folder: Path = lab.engine.settings.data
        yield from ((file.name, bytes_of(file)) for file in folder.rglob("*") if file.is_file())


async def found(lab: Lab, text: str) -> list[str]:
    """Return the places where a text stands."""
    await written(lab.store)
    await lab.engine.parts.keeper.flush()
    return sorted({where for where, data in texts(lab) if text.encode() in data})


async def crowd(lab: Lab, number: int) -> None:
    """Let others come and write, so that what is there is moved about in pages and segments."""
    for one in range(number):
        events = [
            EventInput("view", {"mail": f"other-{one}", "long": "x" * (97 * one % 3000)}) for _ in range(3)
        ]
        await lab.track(*events, session_id=f"crowd-{one % 40}")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(person, "LATE_SECONDS", 0.2)


async def test_nothing_is_left_of_a_person(open_lab: OpenLab) -> None:
    async with open_lab(FILES, **QUIET) as lab:
        await crowd(lab, 20)
        ann = await live(lab, "ann", "s-ann")
        await crowd(lab, 20)
        anna = await live(lab, "anna", "s-anna")
        bob = await live(lab, "bob", "s-bob")
        await crowd(lab, 20)
        gone = await merge(lab.engine.parts, "main", ann, anna, "test")
        # Pages are written anew: of what grows, and what is written again and again.
        await lab.track(
            *[EventInput("view", {"mail": value("ann-second")}) for _ in range(20)], session_id="s-ann"
        )
        await crowd(lab, 20)
        before = {kind: len(rows) for kind, rows in (await lab.rows()).items()}
        for who in ("ann", "anna"):
            for place in PLACES:
                assert await found(lab, value(f"{who}-{place}")), place
        # By an id that was merged.
        erased = await lab.engine.erase("main", ann if gone == anna else anna)
        assert erased["profile"] == 2
        assert all(
            erased[kind]
            for kind in ("event", "session", "claim", "failed", "effect", "timer", "trace", "mark")
        )
        await written(lab.store)
        for text in (value("ann"), ann, anna):
            assert await found(lab, text) == [], text
        assert await found(lab, value("bob-mail"))
        profile = await lab.store.get("profile", doc_key("profile", "main", bob))
        assert profile is not None
        assert (await lab.engine.erase("main", ann)) == dict.fromkeys(erased, 0)
        after = {kind: len(rows) for kind, rows in (await lab.rows()).items()}
        assert after["profiles"] == before["profiles"] - 2
        # Whoever comes back with old ids is somebody new.
        answer = await lab.track("view", session_id="s-ann", profile_id=ann, profile=True)
        assert answer.profile is not None
        assert answer.profile["id"] not in (ann, anna)
        assert answer.profile["traits"] == {}


async def test_an_export_has_everything(open_lab: OpenLab) -> None:
    async with open_lab(FILES, **QUIET) as lab:
        ann, anna = await live(lab, "ann", "s-ann"), await live(lab, "anna", "s-anna")
        await live(lab, "bob", "s-bob")
        kept = await merge(lab.engine.parts, "main", ann, anna, "test")
        await written(lab.store)
        await lab.engine.parts.keeper.flush()
        lab.place.show()
        for id in (ann, anna):
            lines = [line async for line in person.export(lab.store, "main", id)]
            assert [line["kind"] for line in lines[:2]] == ["profile", "merged"]
            assert lines[0]["doc"]["id"] == kept
            text = json.dumps(lines)
            for who in ("ann", "anna"):
                for place in PLACES:
                    assert value(f"{who}-{place}") in text, place
            assert value("bob") not in text
            counts: dict[str, int] = dict.fromkeys(("profile", "merged"), 0) | {
                line["kind"]: 0 for line in lines
            }
            for line in lines:
                counts[line["kind"]] += 1
        erased = await lab.store.erase("main", await person.ids_of(lab.store, "main", ann))
        # What is exported is what is erased.
        assert erased == {**{kind: counts.get(kind, 0) for kind in erased}, "profile": 2}
        assert [line async for line in person.export(lab.store, "main", ann)] == []


async def test_two_whose_merge_is_half_done_are_one_person(open_lab: OpenLab) -> None:
    async with open_lab(FILES, **QUIET) as lab:
        ann, anna = await live(lab, "ann", "s-ann"), await live(lab, "anna", "s-anna")
        ref = Ref("profile", doc_key("profile", "main", anna))
        (stored,) = await lab.store.read([ref])
        assert stored is not None
        half: Doc = stored.doc | {MERGING: ann}
        timer = {
            "id": "t" * 32,
            "kind": "merge",
            "tenant": "main",
            "profile": ann,
            "loser": anna,
            "status": "pending",
        }
        change = Change(
            new_id(), "main", profile=Write(ref.key, half, stored.version), timers=[Row("t" * 32, timer)]
        )
        assert await lab.store.commit(change) == Committed()
        await lab.settle()
        for id in (ann, anna):
            assert await person.ids_of(lab.store, "main", id) == sorted({ann, anna})
        await lab.engine.erase("main", ann)
        assert await found(lab, MARK) == []


async def test_who_was_taken_apart_stays(open_lab: OpenLab) -> None:
    async with open_lab(FILES, **QUIET) as lab:
        ann, anna = await live(lab, "ann", "s-ann"), await live(lab, "anna", "s-anna")
        parts = lab.engine.parts
        kept = await merge(parts, "main", ann, anna, "test")
        loser = anna if kept == ann else ann
        assert isinstance(await unmerge(parts.store, parts.locks, "main", loser), Apart)
        await lab.settle()
        assert await person.ids_of(lab.store, "main", kept) == [kept]
        await lab.engine.erase("main", loser)
        mine, theirs = ("ann", "anna") if kept == ann else ("anna", "ann")
        for place in PLACES:
            assert await found(lab, value(f"{mine}-{place}")), place
            assert await found(lab, value(f"{theirs}-{place}")) == [], place


async def test_who_is_just_being_taken_apart_is_not_erased_yet(open_lab: OpenLab) -> None:
    async with open_lab(FILES, **QUIET) as lab:
        ann, anna = await live(lab, "ann", "s-ann"), await live(lab, "anna", "s-anna")
        kept = await merge(lab.engine.parts, "main", ann, anna, "test")
        loser = anna if kept == ann else ann
        row = timer_of("unmerge", "main", loser, kept, "2026-01-15T12:00:00.000Z")
        assert await lab.store.commit(Change(new_id(), "main", timers=[row])) == Committed()
        await lab.settle()
        with pytest.raises(BusyError, match="taken out"):
            await lab.engine.erase("main", kept)


async def test_a_server_that_was_at_work_writes_nothing_back(open_lab: OpenLab) -> None:
    async with open_lab(FILES, **QUIET) as lab, open_lab(FILES, **QUIET) as other:
        ann = await live(lab, "ann", "s-ann")
        await live(other, "bob", "s-bob")
        # Its copies are warm.
        await other.track("view", session_id="s-ann")
        assert (await lab.engine.erase("main", ann))["profile"] == 1
        for one in (lab, other):
            answer = await one.track("view", session_id="s-ann", profile_id=ann, profile=True)
            assert answer.profile is not None
            assert answer.profile["id"] != ann
            assert answer.profile["traits"] == {}
        assert await found(lab, value("ann")) == []


async def test_nothing_stays_with_who_had_the_session_before(open_lab: OpenLab) -> None:
    login = {"identify": {"customer": {"path": "event.properties.customer"}}}
    keyed = sources(backend={"keys": [{"secret": "SHOP_KEY"}]})
    kept = chain("login", ("update_session", {"properties": {"who": "{{ event.properties.customer }}"}}))
    files = {"sources.json": keyed, "event_types.json": {"event_types": {"login": login}}, "keep": kept}
    async with open_lab(files, **QUIET) as lab:

        async def sign_in(customer: str) -> Doc:
            event = EventInput("login", {"customer": customer})
            answer = await lab.track(event, source="backend", caller=Caller(secret="hush"), profile=True)
            assert answer.profile is not None
            return answer.profile

        bob = await sign_in("bob")
        ann = await sign_in(value("ann"))
        assert ann["id"] != bob["id"]
        assert (await lab.engine.erase("main", ann["id"]))["session"] == 1
        assert await found(lab, MARK) == []
        assert [doc["id"] for doc in await lab.all("profile")] == [bob["id"]]


TOLD = ("webhook", {"url": "https://crm.example/", "body": {"m": "{{ event.properties.mail }}"}})
TOTAL: Doc = {"schema": {"type": "object", "properties": {"total": {"type": "number"}}}}
LATE: Files = {
    # By its runs the event says nothing of whose it is: they send, wait, and only then somebody is known.
    "attach": chain(
        "attach",
        ("attach_session", {"id": "{{ event.properties.session }}"}),
        TOLD,
        ("wait", {"period": "30d"}),
    ),
    "create": chain(
        "create",
        TOLD,
        ("wait", {"period": "1h"}),
        ("create_profile", {}),
        ("set_fields", {"fields": {"profile.traits.mail": "{{ event.properties.mail }}"}}),
        TOLD,
        ("wait", {"period": "30d"}),
    ),
    "again": chain("twice", ("wait", {"period": "1h"}), ("create_profile", {}), TOLD),
    "twice": chain("twice", ("wait", {"period": "1h"}), ("create_profile", {}), TOLD),
    "join": chain(
        "join", TOLD, ("wait", {"period": "1h"}), ("attach_session", {"id": "{{ event.properties.session }}"})
    ),
    "event_types.json": {
        "event_types": {"attach": TOTAL} | {name: {} for name in ("create", "twice", "join", "view")}
    },
}


async def fire(lab: Lab) -> None:
    """Go on with what waited for an hour."""
    await lab.settle()
    await TimerWorker(lab.engine.parts, KINDS, clock=lambda: utc_now() + timedelta(hours=2)).fire_due()
    await lab.settle()


async def erased_wholly(lab: Lab, profile: str, who: str) -> Doc:
    """Say that what is exported of somebody is what is erased, all of it; returns how much of each kind that was."""
    await lab.settle()
    await lab.engine.parts.keeper.flush()
    lab.place.show()
    assert await found(lab, value(who))
    lines = [line async for line in person.export(lab.store, "main", profile)]
    counts = {kind: sum(line["kind"] == kind for line in lines) for kind in ("profile", *OWNED)}
    counts["profile"] += sum(line["kind"] == "merged" for line in lines)
    erased = await lab.engine.erase("main", profile)
    assert erased == counts
    for text in (value(who), profile):
        assert await found(lab, text) == [], text
    return erased


@pytest.mark.parametrize("saved", [True, False])
async def test_what_a_session_without_a_profile_had_sent_goes(open_lab: OpenLab, saved: bool) -> None:
    async with open_lab(LATE, trace_sample=1.0, **QUIET) as lab:
        for who in ("ann", "bob"):
            known: Doc = {"mail": value(who), "session": f"s-{who}"}
            # Refused, and sent again.
            for total in ({"total": "none"}, {}):
                event = EventInput("attach", {**known, **total}, id=f"{value(who)}-id")
                await lab.collect(event, save_events=saved)
        ann = (await lab.track("view", session_id="s-ann")).profile
        assert ann is not None
        erased = await erased_wholly(lab, ann["id"], "ann")
        assert (erased["effect"], erased["timer"], erased["failed"]) == (1, 1, 1)
        # Of an event that is not kept there is a mark, and no trace.
        assert (erased["event"], erased["mark"], erased["trace"]) == ((2, 0, 1) if saved else (1, 1, 0))
        # Nobody knows whose this is.
        assert len(await lab.all("effect")) == len(await lab.all("timer")) == 1
        assert await found(lab, value("bob"))


async def test_an_event_whose_run_got_a_profile_later_goes_with_it(open_lab: OpenLab) -> None:
    async with open_lab(LATE, trace_sample=1.0, **QUIET) as lab:
        for who in ("ann", "bob"):
            await lab.collect(EventInput("create", {"mail": value(who)}, id=f"{value(who)}-id"))
        await fire(lab)
        profiles = {doc["traits"]["mail"]: doc["id"] for doc in await lab.all("profile")}
        fired = [doc for doc in await lab.all("timer") if doc["status"] == "fired"]
        assert {doc["profile"] for doc in fired} == set(profiles.values())
        erased = await erased_wholly(lab, profiles[value("ann")], "ann")
        counted = {kind: erased[kind] for kind in ("event", "effect", "timer", "trace", "mark")}
        # Two sent, two waited, each part of the run is traced; the mark is that the first wait is over.
        assert counted == {"event": 1, "effect": 2, "timer": 2, "trace": 2, "mark": 1}
        await erased_wholly(lab, profiles[value("bob")], "bob")
        assert await lab.all("event") == await lab.all("effect") == await lab.all("timer") == []


async def test_an_event_goes_with_each_of_two_that_its_runs_got(open_lab: OpenLab) -> None:
    async with open_lab(LATE, trace_sample=1.0, **QUIET) as lab:
        await lab.collect(EventInput("twice", {"mail": value("ann")}))
        await fire(lab)
        one, other = [doc["id"] for doc in await lab.all("profile")]
        await lab.engine.parts.keeper.flush()
        lab.place.show()
        for id in (one, other):
            lines = [line async for line in person.export(lab.store, "main", id)]
            assert [line["doc"]["type"] for line in lines if line["kind"] == "event"] == ["twice"]
        erased = await lab.engine.erase("main", one)
        assert (erased["profile"], erased["event"], erased["effect"]) == (1, 1, 1)
        await lab.settle()
        # What is the other's by its own name stays.
        assert [doc["id"] for doc in await lab.all("profile")] == [other]
        assert [doc["profile"] for doc in await lab.all("effect")] == [other]
        await erased_wholly(lab, other, "ann")


async def test_an_event_whose_run_joined_a_session_later_goes_with_its_profile(open_lab: OpenLab) -> None:
    async with open_lab(LATE, trace_sample=1.0, **QUIET) as lab:
        for who in ("ann", "bob"):
            await lab.collect(EventInput("join", {"mail": value(who), "session": f"s-{who}"}))
        await fire(lab)
        assert await lab.all("profile") == []
        ann = (await lab.track("view", session_id="s-ann")).profile
        assert ann is not None
        erased = await erased_wholly(lab, ann["id"], "ann")
        assert (erased["event"], erased["effect"], erased["timer"]) == (2, 1, 1)
        assert await found(lab, value("bob"))


async def test_a_late_profile_that_was_merged_keeps_its_event(open_lab: OpenLab) -> None:
    async with open_lab(LATE, **QUIET) as lab:
        bob = (await lab.track("view", session_id="s-bob")).profile
        assert bob is not None
        await lab.collect(EventInput("create", {"mail": value("ann")}))
        await fire(lab)
        (ann,) = [doc["id"] for doc in await lab.all("profile") if doc["id"] != bob["id"]]
        assert await merge(lab.engine.parts, "main", bob["id"], ann, "test") == bob["id"]
        erased = await erased_wholly(lab, bob["id"], "ann")
        assert (erased["profile"], erased["event"]) == (2, 2)
