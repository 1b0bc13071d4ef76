"""What nodes write: all of it, or nothing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from headrace.engine.held import Wait
from headrace.engine.model import iso, make_key, new_profile, new_session
from headrace.engine.passage import Passage
from headrace.engine.plugin import Out, Step
from headrace.engine.restart import Needs
from headrace.engine.run import Run, run_workflow
from headrace.engine.store.protocol import Stored
from tests.makers import NOW, make_passage, make_workflow

Writes = Callable[[Step], Any]


async def write(passage: Passage, *writes: Writes) -> Run:
    """Run a workflow of nodes n0, n1, … one after another; a failed one leads to the next too."""

    def node(does: Writes) -> Callable[[Step], Out]:
        def run(step: Step) -> Out:
            does(step)
            return Out("a")

        return run

    names = [f"n{number}" for number in range(len(writes))]
    nodes: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name, after in pairwise(names):
        nodes[name] = {"then": {"a": [after], "error": [after]}}
    does = {name: node(one) for name, one in zip(names, writes, strict=True)}
    return await run_workflow(make_workflow(nodes, does), passage)


def profile_of(passage: Passage) -> dict[str, Any]:
    assert passage.draft.profile is not None
    return passage.draft.profile


@pytest.mark.parametrize(
    ("does", "path", "expected"),
    [
        (lambda step: step.set("profile.traits.a.b", 1), "traits", {"t": 1, "a": {"b": 1}}),
        (lambda step: step.set("profile.traits['a.b']", 1), "traits", {"t": 1, "a.b": 1}),
        (lambda step: step.set("profile.traits", {"x": 1}), "traits", {"x": 1}),
        (lambda step: step.remove("profile.traits.t"), "traits", {}),
        (lambda step: step.remove("profile.traits"), "traits", {}),
        (
            lambda step: step.increment("profile.stats.counters.n", 2.5),
            "stats",
            {"visits": 0, "views": 0, "counters": {"n": 2.5}},
        ),
        (
            lambda step: step.append("profile.traits.list", {"x": [1]}),
            "traits",
            {"t": 1, "list": [{"x": [1]}]},
        ),
        (
            lambda step: (step.add("profile.segments", "vip"), step.add("profile.segments", "vip")),
            "segments",
            ["vip"],
        ),
        (
            lambda step: (step.add("profile.segments", "vip"), step.remove("profile.segments", "vip")),
            "segments",
            [],
        ),
        (lambda step: step.increment("profile.interests.shoes"), "interests", {"shoes": 1}),
        (lambda step: step.mark("seen"), "marks", {"seen": iso(NOW)}),
    ],
)
async def test_writes(does: Writes, path: str, expected: Any) -> None:
    passage = make_passage({"traits": {"t": 1}})
    run = await write(passage, does)
    assert not run.error
    assert profile_of(passage)[path] == expected
    fresh = make_passage({"traits": {"t": 1}})
    passage.undo()
    assert profile_of(passage) == profile_of(fresh)


CANNOT: list[tuple[Writes, str]] = [
    (lambda step: step.increment("profile.traits.name"), "cannot increment a text"),
    (lambda step: step.increment("profile.traits.n", "1"), "cannot increment by a text"),  # type: ignore[arg-type]
    (lambda step: step.increment("profile.traits.n", float("nan")), "nan"),
    (lambda step: step.append("profile.traits.name", 1), "cannot append to a text"),
    (lambda step: step.set("profile.traits.name.first", 1), "is not an object"),
    (lambda step: step.set("profile.id", "mine"), "nothing can be written here"),
    (lambda step: step.set("event.properties.x", 1), "nothing can be written here"),
    (lambda step: step.set("profile.stats.visits", 1), "nothing can be written here"),
    (lambda step: step.set("profile.segments", "vip"), "only a list of names"),
    (lambda step: step.set("profile.traits.x", float("inf")), "inf"),
    (lambda step: step.set("profile.traits.x", 2**70), "bits"),
    (lambda step: step.set("profile.traits.x", "\ud800"), "half a character"),
    (lambda step: step.set("profile.traits.x", {1}), "not JSON"),
    (lambda step: step.set("", 1), "a path begins with a name"),
]


@pytest.mark.parametrize(("does", "error"), CANNOT)
async def test_a_journal_with_one_bad_entry_is_dropped_whole(does: Writes, error: str) -> None:
    def good_then_bad(step: Step) -> None:
        step.set("profile.traits.lost", 1)
        step.remove("profile.traits.name2")
        step.respond("lost", 1)
        step.log("lost")
        step.mark("lost")
        step.effect({"url": "https://x.example"})
        step.emit("lost", {})
        step.start("lost")
        step.wait(NOW)
        step.stop(event=True)
        does(step)

    passage = make_passage({"traits": {"name": "Ann", "name2": "Eve"}})
    run = await write(passage, good_then_bad, lambda step: step.set("vars.after", dict(step.profile.traits)))
    assert error in run.done[0].error
    assert [done.node.name for done in run.done] == ["n0", "n1"]
    assert passage.scope.vars == {"after": {"name": "Ann", "name2": "Eve"}}
    assert profile_of(passage) == profile_of(make_passage({"traits": {"name": "Ann", "name2": "Eve"}}))
    kept = (
        passage.response,
        passage.log,
        passage.effects,
        passage.emitted,
        passage.waits,
        passage.starts,
    )
    assert not any(kept)
    assert not passage.stopped
    assert not run.stopped
    assert not run.held


async def test_a_value_is_kept_as_a_copy() -> None:
    value = {"list": [1]}

    def keeps(step: Step) -> None:
        step.set("profile.traits.x", value)
        step.respond("x", value)
        step.emit("y", value)
        step.effect({"body": value})

    passage = make_passage()
    await write(passage, keeps)
    value["list"].append(2)
    assert profile_of(passage)["traits"]["x"] == {"list": [1]}
    assert passage.response == {"x": {"list": [1]}}
    assert passage.emitted[0].properties == {"list": [1]}
    assert passage.effects[0].doc["request"] == {"body": {"list": [1]}}


async def test_views_may_be_written_back() -> None:
    passage = make_passage({"traits": {"a": {"b": [{"c": 1}]}}})
    run = await write(passage, lambda step: step.set("profile.traits.copy", step.profile.traits))
    assert not run.error
    assert profile_of(passage)["traits"]["copy"] == {"a": {"b": [{"c": 1}]}}


async def test_without_a_profile_nothing_of_it_can_be_written() -> None:
    passage = make_passage(without_profile=True)
    run = await write(
        passage,
        lambda step: step.set("profile.traits.x", 1),
        lambda step: step.mark("x"),
        lambda step: step.set("vars.x", 1),
    )
    assert [bool(done.error) for done in run.done] == [True, True, False]
    assert passage.scope.vars == {"x": 1}


async def test_a_profile_of_null_parts_can_be_written() -> None:
    passage = make_passage({"traits": {"a": None}})
    await write(passage, lambda step: step.set("profile.traits.a.b", 1))
    assert profile_of(passage)["traits"] == {"a": {"b": 1}}
    passage.undo()
    assert profile_of(passage)["traits"] == {"a": None}


async def test_effects_timers_and_events_have_the_same_keys_in_every_attempt() -> None:
    def does(step: Step) -> None:
        step.effect({"url": "https://a.example"}, ordered=True)
        step.effect({"url": "https://b.example"})
        step.emit("inner", {"n": 1})
        step.wait(datetime(2026, 2, 1, 12, tzinfo=timezone(timedelta(hours=2))))

    keys = []
    for _ in range(2):
        passage = make_passage()
        await write(passage, does)
        first, second = passage.effects
        keys.append((first.key, second.key, passage.emitted[0].key))
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 3
    assert first.key == make_key("effect", passage.key, "made", "n0", "1")
    assert (first.doc["status"], first.doc["ordered"], second.doc["ordered"]) == ("pending", True, False)
    assert first.doc["request"] == {"url": "https://a.example"}
    assert (first.doc["event"], first.doc["workflow"], first.doc["profile"]) == (passage.key, "made", "p1")
    # All times are UTC.
    assert passage.waits == [Wait(datetime(2026, 2, 1, 10, tzinfo=UTC))]


async def test_later_answers_replace_earlier_ones() -> None:
    passage = make_passage()
    await write(passage, lambda step: step.respond("a", 1), lambda step: step.respond("a", {"b": 2}))
    assert passage.response == {"a": {"b": 2}}


async def test_what_is_attached_is_seen_by_the_next_wave() -> None:
    passage = make_passage(without_profile=True, without_session=True)
    passage.draft.profiles["p9"] = Stored(new_profile("p9", "main", iso(NOW)), (3, 0))
    seen: list[Any] = []

    def attach(step: Step) -> None:
        step.attach(profile="p9")
        seen.append(step.profile.get("id"))

    def after(step: Step) -> None:
        seen.append(step.profile.get("id"))
        step.set("profile.traits.x", 1)

    run = await write(passage, attach, after)
    assert (seen, run.error) == ([None, "p9"], "")
    assert passage.event["profile"] == "p9"
    assert passage.draft.profile_version == (3, 0)
    assert profile_of(passage)["traits"] == {"x": 1}


async def test_a_profile_that_is_not_locked_is_asked_for() -> None:
    passage = make_passage(without_profile=True)
    with pytest.raises(Needs) as caught:
        await write(passage, lambda step: step.attach(profile="p9"))
    assert (caught.value.profile, caught.value.session) == ("p9", None)
    passage = make_passage(without_profile=True, without_session=True)
    with pytest.raises(Needs) as caught:
        await write(passage, lambda step: step.attach(session="s9"))
    assert (caught.value.profile, caught.value.session) == (None, "s9")


@pytest.mark.parametrize("stored", [True, False])
async def test_what_a_failed_node_attached_is_not_there(stored: bool) -> None:
    def attach_and_fail(step: Step) -> None:
        step.attach(session="s9", create=True)
        step.respond("lost", 1)
        step.increment("event.properties.x")

    def session_only(step: Step) -> None:
        assert not step.profile
        assert not step.session
        step.attach(session="s9")

    passage = make_passage(without_profile=True, without_session=True)
    known = Stored(new_session("s9", "main", "shop", iso(NOW)), (1, 0))
    passage.draft.sessions["s9"] = known if stored else None
    run = await write(passage, attach_and_fail, session_only)
    assert [bool(done.error) for done in run.done] == [True, False]
    assert passage.draft.profile is None
    assert (passage.event["profile"], passage.event["session"]) == (None, "s9")
    assert passage.draft.session is not None
    # It does not belong to the profile that was taken back, and counts the event once.
    assert passage.draft.session["profile"] is None
    assert passage.draft.session["stats"]["events"] == 1
    assert "profile" not in passage.draft.touched
    assert passage.response == {}


async def test_a_profile_is_attached_only_once() -> None:
    passage = make_passage()
    passage.draft.profiles["p9"] = Stored(new_profile("p9", "main", iso(NOW)), (1, 0))
    for attach in ({"profile": "p9"}, {"create": True}, {"session": "s9"}):
        passage = make_passage()
        run = await write(passage, lambda step, attach=attach: step.attach(**attach))  # type: ignore[misc]
        assert "already" in run.error
        assert profile_of(passage)["id"] == "p1"


async def test_times_become_texts() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    passage = make_passage()

    def writes(step: Step) -> None:
        step.set("profile.traits.at", at)
        step.respond("at", {"list": [at]})
        step.emit("x", {"at": at})
        step.effect({"body": {"at": at}})

    run = await write(passage, writes)
    assert not run.error
    text = "2026-01-01T00:00:00.000Z"
    assert profile_of(passage)["traits"]["at"] == text
    assert passage.response == {"at": {"list": [text]}}
    assert passage.emitted[0].properties == {"at": text}
    assert passage.effects[0].doc["request"] == {"body": {"at": text}}


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan"), {"x": [b"bytes"]}, "\ud800", {1: 2}])
@pytest.mark.parametrize("where", ["respond", "emit", "effect", "set"])
async def test_what_is_not_json_fails_its_node(value: Any, where: str) -> None:
    writes: dict[str, Writes] = {
        "respond": lambda step: step.respond("x", value),
        "emit": lambda step: step.emit("x", {"x": value}),
        "effect": lambda step: step.effect({"body": value}),
        "set": lambda step: step.set("vars.x", value),
    }
    passage = make_passage()
    run = await write(passage, writes[where])
    assert run.done[0].error
    assert not any((passage.response, passage.emitted, passage.effects, passage.scope.vars))


@pytest.mark.parametrize(
    "does",
    [
        lambda step: step.respond(None, 1),
        lambda step: step.respond({}, 1),
        lambda step: step.wait("tomorrow"),
        lambda step: step.wait(None),
        lambda step: step.mark(5),
        lambda step: step.mark(""),
        lambda step: step.emit(None, {}),
        lambda step: step.emit(" ", {}),
        lambda step: step.start(None),
        lambda step: step.log(5),
        lambda step: step.log("text", level="loud"),
        lambda step: step.attach(profile=5),
        lambda step: step.attach(session={}),
        lambda step: step.set(5, 1),
        lambda step: step.increment(None),
    ],
)
async def test_what_a_plugin_asks_wrongly_fails_its_node(does: Any) -> None:
    passage = make_passage(without_profile=True, without_session=True)
    run = await write(passage, does)
    assert run.done[0].error
    assert not any((passage.response, passage.emitted, passage.waits, passage.log, passage.edits))


async def test_a_time_without_a_zone_is_utc() -> None:
    passage = make_passage()
    await write(passage, lambda step: step.wait(datetime(2026, 2, 1, 12)))
    assert passage.waits == [Wait(datetime(2026, 2, 1, 12, tzinfo=UTC))]


async def test_internal_events_are_bounded_and_a_dropped_one_is_none() -> None:
    passage = make_passage()
    passage.budget.emits = 2
    run = await write(passage, *[lambda step: step.emit("x", {})] * 4)
    assert len(passage.emitted) == 2
    assert [bool(done.error) for done in run.done] == [False, False, True, True]


async def test_a_result_stays_as_it_was() -> None:
    passage = make_passage({"stats": {"counters": {"n": 1}}})

    def read(step: Step) -> Out:
        return Out("a", step.profile.stats)

    def count(step: Step) -> Out:
        step.increment("profile.stats.counters.n")
        return Out("a")

    workflow = make_workflow({"one": {"then": {"a": ["two"]}}, "two": {}}, {"one": read, "two": count})
    run = await run_workflow(workflow, passage)
    assert run.done[0].out.result["counters"] == {"n": 1}
    assert profile_of(passage)["stats"]["counters"] == {"n": 2}
