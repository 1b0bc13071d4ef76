"""A run: waves, joins, failures, limits, what a node sees."""

import asyncio
from itertools import product
from typing import Any

import pytest

from headrace.engine.errors import NodeError
from headrace.engine.held import Wait
from headrace.engine.passage import MAX_NODE_RUNS
from headrace.engine.plugin import Out, Step
from headrace.engine.run import run_workflow
from headrace.engine.trace import full_trace, run_record
from headrace.engine.workflow import MOST_PLACES
from tests.makers import NOW, leave, make_passage, make_workflow, path_of

FORK = {"one": {"then": {"a": ["two", "three"]}}, "two": {}, "three": {}}


async def test_a_node_sees_what_waves_before_it_did_and_not_its_own() -> None:
    seen: list[Any] = []

    def write(step: Step) -> Out:
        step.set("profile.traits.name", step.name)
        step.set(f"vars.{step.name}", 1)
        seen.append((step.name, step.profile.traits.get("name"), dict(step.vars)))
        return Out("a", {"by": step.name})

    passage = make_passage()
    run = await run_workflow(make_workflow(FORK, dict.fromkeys(FORK, write)), passage)
    assert seen == [("one", None, {}), ("two", "one", {"one": 1}), ("three", "one", {"one": 1})]
    # Journals are applied in file order: the last one stands.
    assert passage.draft.profile is not None
    assert passage.draft.profile["traits"] == {"name": "three"}
    assert passage.scope.nodes == {name: {"by": name} for name in FORK}
    assert not run.failed
    assert not run.error


async def test_vars_and_results_live_for_one_run() -> None:
    def write(step: Step) -> Out:
        before = (dict(step.vars), dict(step.nodes), step.read("vars.x"), step.read("nodes.one"))
        step.set("vars.x", 1)
        return Out("a", before)

    passage = make_passage()
    workflow = make_workflow(
        {"one": {"then": {"a": ["two"]}}, "two": {}}, dict.fromkeys(("one", "two"), write)
    )
    for _ in range(2):
        first, second = (await run_workflow(workflow, passage)).done
        assert first.out.result == [{}, {}, None, None]
        assert second.out.result[0] == {"x": 1}
        assert second.out.result[2] == 1
        assert list(second.out.result[1]) == ["one"]
        assert second.out.result[3] is not None


async def test_journals_of_io_nodes_are_applied_in_file_order() -> None:
    async def late(step: Step) -> Out:
        await asyncio.sleep(0.01)
        step.append("profile.traits.list", step.name)
        return Out("a")

    async def early(step: Step) -> Out:
        step.append("profile.traits.list", step.name)
        return Out("a")

    def at_once(step: Step) -> Out:
        step.append("profile.traits.list", step.name)
        return Out("a")

    nodes: dict[str, dict[str, Any]] = {"one": {}, "two": {}, "three": {}}
    passage = make_passage()
    workflow = make_workflow(nodes, {"two": at_once}, {"one": late, "three": early})
    assert path_of(await run_workflow(workflow, passage)) == ["one", "two", "three"]
    assert passage.draft.profile is not None
    assert passage.draft.profile["traits"]["list"] == ["one", "two", "three"]


async def test_nodes_with_io_of_one_wave_run_at_the_same_time() -> None:
    met = asyncio.Barrier(3)

    async def meet(step: Step) -> Out:  # noqa: ARG001
        await met.wait()
        return Out("a")

    nodes: dict[str, dict[str, Any]] = {"one": {}, "two": {}, "three": {}}
    run = await run_workflow(make_workflow(nodes, io=dict.fromkeys(nodes, meet)), make_passage())
    assert not run.error


def fail(step: Step) -> Out:
    step.set("profile.traits.lost", 1)
    step.log("lost")
    step.respond("lost", 1)
    step.effect({"url": "https://x.example"})
    step.emit("lost", {})
    step.mark("lost")
    raise NodeError("it is broken")


def fail_silently(step: Step) -> Out:
    step.set("profile.traits.lost", 1)
    raise NodeError("")


def wrong_port(step: Step) -> Out:
    step.set("profile.traits.lost", 1)
    return Out("nowhere")


def no_out(step: Step) -> Any:
    step.set("profile.traits.lost", 1)
    return "a"


def cannot_apply(step: Step) -> Out:
    step.set("profile.traits.lost", 1)
    step.respond("lost", 1)
    step.log("lost")
    step.effect({"url": "https://x.example"})
    step.emit("lost", {})
    step.mark("lost")
    step.increment("profile.traits.name")
    return Out("a")


def crash(step: Step) -> Out:
    step.set("profile.traits.lost", 1)
    return Out("a", 1 // 0)


@pytest.mark.parametrize(
    ("does", "error"),
    [
        (fail, "it is broken"),
        (fail_silently, "the plugin failed without a word"),
        (
            wrong_port,
            "plugin 'one' gave Out(port='nowhere', result=None), which is no Out by one of its ports: ",
        ),
        (no_out, "plugin 'one' gave 'a', which is no Out by one of its ports: a, b, c, error"),
        (cannot_apply, "cannot increment a text at profile.traits.name"),
        (crash, "ZeroDivisionError: "),
    ],
)
@pytest.mark.parametrize("io", [False, True])
async def test_a_failed_node_changes_nothing_and_leaves_by_error(does: Any, error: str, io: bool) -> None:
    async def does_io(step: Step) -> Out:
        await asyncio.sleep(0)
        return does(step)  # type: ignore[no-any-return]

    wired = {"one": {"then": {"error": ["two"], "a": ["three"]}}, "two": {}, "three": {}}
    unwired = {"one": {"then": {"a": ["three"]}}, "two": {}, "three": {}}
    for nodes, path in ((wired, ["one", "two"]), (unwired, ["one", "two"])):
        passage = make_passage({"traits": {"name": "Ann"}})
        workflow = make_workflow(nodes, {} if io else {"one": does}, {"one": does_io} if io else {})
        run = await run_workflow(workflow, passage)
        assert path_of(run) == path
        assert run.failed
        assert bool(run.error) == (nodes is unwired)
        assert error in run.done[0].error
        assert run.done[0].out.port == "error"
        assert passage.scope.nodes["one"] == {"error": run.done[0].error}
        assert passage.draft.profile is not None
        assert passage.draft.profile["traits"] == {"name": "Ann"}
        assert passage.draft.profile["marks"] == {}
        kept = (
            passage.edits,
            passage.log,
            passage.effects,
            passage.emitted,
            passage.waits,
            passage.response,
        )
        assert not any(kept)


async def test_the_first_error_that_nothing_takes_is_the_runs() -> None:
    nodes = {"one": {"then": {"error": ["two", "three"]}}, "two": {}, "three": {}}
    run = await run_workflow(make_workflow(nodes, dict.fromkeys(nodes, fail)), make_passage())
    assert run.error == "two: it is broken"


async def test_a_node_with_io_times_out_with_nothing_done() -> None:
    async def slow(step: Step) -> Out:
        step.set("profile.traits.lost", 1)
        await asyncio.sleep(5)
        return Out("a")

    passage = make_passage()
    workflow = make_workflow({"one": {"timeout_seconds": 0.01}}, io={"one": slow})
    run = await run_workflow(workflow, passage)
    assert run.error == "one: timed out after 0.01 s"
    assert passage.edits == []


async def test_a_failed_node_is_tried_again_with_an_empty_journal() -> None:
    tries: list[int] = []

    async def third_time(step: Step) -> Out:
        tries.append(len(step.journal))
        step.append("profile.traits.list", 1)
        if len(tries) < 3:
            raise NodeError("not yet")
        return Out("a")

    nodes = {"one": {"retry": {"times": 2, "wait_seconds": 0}}}
    passage = make_passage()
    run = await run_workflow(make_workflow(nodes, io={"one": third_time}), passage)
    assert (run.error, tries) == ("", [0, 0, 0])
    assert passage.draft.profile is not None
    assert passage.draft.profile["traits"]["list"] == [1]


async def test_a_node_that_never_works_fails_after_its_tries() -> None:
    tries: list[int] = []

    async def never(step: Step) -> Out:
        tries.append(1)
        step.append("profile.traits.list", 1)
        raise NodeError("no")

    nodes = {"one": {"retry": {"times": 2, "wait_seconds": 0}}}
    passage = make_passage()
    run = await run_workflow(make_workflow(nodes, io={"one": never}), passage)
    assert run.error == "one: no"
    assert len(tries) == 3
    assert passage.edits == []


async def test_stop_finishes_the_wave() -> None:
    def stop(step: Step) -> Out:
        step.stop()
        return Out("a")

    nodes = {"one": {"then": {"a": ["four"]}}, "two": {"then": {"a": ["four"]}}, "three": {}, "four": {}}
    passage = make_passage()
    run = await run_workflow(make_workflow(nodes, {"one": stop}), passage)
    assert path_of(run) == ["one", "two", "three"]
    assert run.stopped
    assert not passage.stopped


async def test_a_wait_holds_its_branch_only() -> None:
    def wait(step: Step) -> Out:
        step.wait(step.now)
        return Out("a")

    nodes = {"one": {"then": {"a": ["three"]}}, "two": {"then": {"a": ["four"]}}, "three": {}, "four": {}}
    passage = make_passage()
    run = await run_workflow(make_workflow(nodes, {"one": wait}), passage)
    assert path_of(run) == ["one", "two", "four"]
    assert run.held == {"one": Wait(NOW)}
    assert run.place.path == "one.waits two.a four.a"


@pytest.mark.parametrize("room", [MOST_PLACES, 3, 0])
async def test_runs_go_the_same_way_whether_their_places_are_kept_or_not(room: int) -> None:
    def choose(step: Step) -> Out:
        if step.event["properties"][step.name] == "wait":
            step.wait(step.now)
            return Out("a")
        return Out(step.event["properties"][step.name])

    ports = {"a": ["three", "four"], "b": []}
    nodes: dict[str, dict[str, Any]] = {
        "one": {"then": ports},
        "two": {"then": ports},
        "three": {"join": "all"},
        "four": {},
    }
    workflow = make_workflow(nodes, dict.fromkeys(("one", "two"), choose))
    workflow.start.room[0] = room
    paths: dict[tuple[str, ...], str] = {}
    for _ in range(2):
        for ways in product(("a", "b", "wait"), repeat=2):
            passage = make_passage(event={"properties": dict(zip(("one", "two"), ways, strict=True))})
            run = await run_workflow(workflow, passage)
            last = ["three"] * (ways == ("a", "a")) + ["four"] * ("wait" not in ways and "a" in ways)
            assert path_of(run) == ["one", "two", *last]
            assert [name for name, way in zip(("one", "two"), ways, strict=True) if way == "wait"] == list(
                run.held
            )
            record = run_record(run)
            assert record["path"] == " ".join(done.way.label for done in run.done)
            assert paths.setdefault(ways, record["path"]) == record["path"]
    # Places further on take their share of the room.
    assert len(workflow.start.after) == {MOST_PLACES: 9, 3: 2, 0: 0}[room]


async def test_the_budget_of_node_runs_ends_a_run() -> None:
    nodes = {"one": {"then": {"a": ["two"]}}, "two": {"then": {"a": ["three"]}}, "three": {}}
    passage = make_passage()
    passage.budget.left = 2
    run = await run_workflow(make_workflow(nodes), passage)
    assert path_of(run) == ["one", "two"]
    assert run.error == "stopped: the event has used all of its node runs"
    trace = full_trace(run, "e1")
    assert trace["nodes"]["three"]["skipped"] == "the run was stopped"
    again = await run_workflow(make_workflow(nodes), passage)
    assert path_of(again) == []


def test_the_budget_is_what_the_design_says() -> None:
    assert make_passage().budget.left == MAX_NODE_RUNS == 2000


async def test_deep_chains_and_wide_waves() -> None:
    deep: dict[str, dict[str, Any]] = {f"n{i}": {"then": {"a": [f"n{i + 1}"]}} for i in range(199)} | {
        "n199": {}
    }
    run = await run_workflow(make_workflow(deep), make_passage())
    assert path_of(run) == list(deep)
    # The first leaves by a port that leads nowhere: the whole chain is dead.
    run = await run_workflow(make_workflow(deep, {"n0": leave("b")}), make_passage())
    assert path_of(run) == ["n0"]
    wide: dict[str, dict[str, Any]] = {"start": {"then": {"a": [f"n{i}" for i in range(198)]}}}
    wide |= {f"n{i}": {"then": {"a": ["end"]}} for i in range(198)}
    wide["end"] = {"join": "all"}
    run = await run_workflow(make_workflow(wide), make_passage())
    assert path_of(run) == list(wide)


async def test_a_dense_graph_is_quick() -> None:
    names = [f"n{i}" for i in range(200)]
    nodes = {name: {"then": {"a": names[i + 1 :]}, "join": "all"} for i, name in enumerate(names)}
    run = await run_workflow(make_workflow(nodes), make_passage())
    assert path_of(run) == names
    assert run.ms < 1000


async def test_undoing_the_edits_gives_the_documents_back() -> None:
    def write(step: Step) -> Out:
        step.set("profile.traits.a.b.c", 1)
        step.set("profile.traits.name", "Bob")
        step.remove("profile.traits.age")
        step.add("profile.segments", "vip")
        step.increment("profile.stats.counters.n")
        step.set("session.context.x", None)
        step.mark("here")
        step.respond("x", 1)
        return Out("a")

    passage = make_passage({"traits": {"name": "Ann", "age": 3}})
    before = repr((passage.draft.profile, passage.draft.session, passage.response))
    await run_workflow(
        make_workflow({"one": {"then": {"a": ["two"]}}, "two": {}}, {"one": write, "two": write}), passage
    )
    assert repr((passage.draft.profile, passage.draft.session, passage.response)) != before
    passage.undo()
    assert repr((passage.draft.profile, passage.draft.session, passage.response)) == before
