"""Calls of nodes: made once however often a request runs, and told in the trace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import pytest

from headrace.engine.calls.address import Rules
from headrace.engine.calls.client import Client, Reply
from headrace.engine.calls.inline import Calls
from headrace.engine.calls.memory import Memory
from headrace.engine.errors import CallError, NodeError
from headrace.engine.model import EventInput
from headrace.engine.plugin import Out, Step
from headrace.engine.run import run_workflow
from headrace.engine.trace import full_trace
from tests.calls.receiver import Answers, Got, always, plain, receiving
from tests.conftest import OpenLab
from tests.makers import Lab, count, make_passage, make_workflow


def workflow(url: str, **config: Any) -> dict[str, Any]:
    """Count, call, and keep what came back."""
    keep = {"fields": {"profile.traits.answer": "{{ nodes.ask.body.n }}"}}
    note = {"fields": {"profile.traits.error": "{{ nodes.ask.error }}"}}
    return {
        "on": {"event": ["ask"]},
        "nodes": {
            "count": {"plugin": "increment", "config": count()[1], "then": {"done": ["ask"]}},
            "ask": {
                "plugin": "http_request",
                "config": {"url": url, "body": {"id": "{{ event.id }}"}, **config},
                "then": {"ok": ["keep"], "refused": ["note"], "failed": ["note"]},
            },
            "keep": {"plugin": "set_fields", "config": keep},
            "note": {"plugin": "set_fields", "config": note},
        },
    }


OTHER = {
    "on": {"event": ["other"]},
    "nodes": {"count": {"plugin": "increment", "config": {"field": "profile.stats.counters.other"}}},
}


def interfering(lab: Lab, answer: bytes | None) -> Answers:
    """Answer a call after someone else wrote the caller's profile, once; None hangs up instead."""
    left = [lab]

    async def say(_: Got, writer: asyncio.StreamWriter) -> None:
        if left:
            await left.pop().track("other")
        if answer is None:
            writer.close()
        else:
            writer.write(answer)

    return say


def numbered() -> Answers:
    """Answer the calls with 1, 2, 3 …"""
    numbers = iter(range(1, 100))

    async def say(_: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(b'{"n": %d}' % next(numbers), content_type="application/json"))

    return say


@pytest.mark.parametrize(
    ("answer", "traits"),
    [
        (plain(b'{"n": 1}', content_type="application/json"), {"answer": 1}),
        (plain(b"no", 503), {"error": "the answer's status is 503"}),
        (None, {"error": "{place}: closed the connection without an answer"}),
    ],
)
async def test_a_conflict_after_a_call_does_not_call_again(
    open_lab: OpenLab, answer: bytes | None, traits: dict[str, Any]
) -> None:
    """Two engines write one profile: the second while the first waits for its answer, so that the first loses."""
    async with receiving() as there:
        files = {"ask": workflow(f"{there.url}/x"), "other": OTHER}
        async with open_lab(files, allow_addresses=there.place) as lab, open_lab(files) as second:
            await lab.track()
            there.answers = interfering(second, answer)
            answered = await lab.track("ask")
            assert not answered.errors
            profile = await lab.one("profile")
            assert profile["stats"]["counters"] == {"n": 1, "other": 1}
            assert profile["traits"] == {
                name: value.format(place=there.place) if isinstance(value, str) else value
                for name, value in traits.items()
            }
            assert lab.engine.metrics.conflicts >= 1
            assert len(there.requests) == 1


async def test_a_conflict_calls_again_when_the_request_differs(open_lab: OpenLab) -> None:
    async with receiving(numbered()) as there:
        url = f"{there.url}/?others={{{{ profile.stats.counters.other }}}}"
        files = {"ask": workflow(url), "other": OTHER}
        async with open_lab(files, allow_addresses=there.place) as lab, open_lab(files) as second:
            await lab.track()
            answers, interfere = numbered(), interfering(second, b"")

            async def both(got: Got, writer: asyncio.StreamWriter) -> None:
                await interfere(got, writer)
                await answers(got, writer)

            there.answers = both
            await lab.track("ask")
            assert [got.target for got in there.requests] == ["/?others=", "/?others=1"]
            assert len(set(there.keys())) == 2
            profile = await lab.one("profile")
            assert (profile["traits"], profile["stats"]["counters"]["n"]) == ({"answer": 2}, 1)


async def test_an_event_that_is_sent_again_does_not_call_again(open_lab: OpenLab) -> None:
    async with receiving(numbered()) as there:
        files, settings = {"ask": workflow(there.url)}, {"allow_addresses": there.place, "debugger": True}
        async with open_lab(files, **settings) as lab:
            event = EventInput("ask", id="e-1")
            await lab.track(event)
            again = await lab.track(EventInput("ask", id="e-1"), debugger=True)
            assert again.debugging is not None
            assert again.debugging["events"]["duplicates"] == ["e-1"]
            assert len(there.requests) == 1
            await lab.track(EventInput("ask", id="e-2"))
            assert len(there.requests) == len(set(there.keys())) == 2
        # Another process does not know the answer, but it knows the event.
        async with open_lab({"ask": workflow(there.url)}, allow_addresses=there.place) as lab:
            await lab.track(EventInput("ask", id="e-1"))
            assert len(there.requests) == 2


async def test_a_slow_host_fails_its_node_and_the_event_is_kept(open_lab: OpenLab) -> None:
    async def silent(_: Got, writer: asyncio.StreamWriter) -> None:  # noqa: ARG001
        await asyncio.sleep(30)

    async with receiving(silent) as there:
        settings = {"allow_addresses": there.place, "request_deadline_seconds": 4}
        async with open_lab({"ask": workflow(there.url)}, **settings) as lab:
            assert await lab.store.ready() == ""
            started = perf_counter()
            await lab.track("ask")
            assert perf_counter() - started < 10
            profile = await lab.one("profile")
            assert profile["traits"]["error"].startswith(f"{there.place} did not answer within ")
            assert profile["stats"]["counters"]["n"] == 1


async def test_the_trace_context_of_the_request_goes_with_the_call(open_lab: OpenLab) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with (
        receiving() as there,
        open_lab({"ask": workflow(there.url)}, allow_addresses=there.place) as lab,
    ):
        await lab.track("ask", trace_parent=parent)
        assert there.requests[0].headers["traceparent"] == parent


# One node


@asynccontextmanager
async def calling(*allowed: str, **limits: Any) -> AsyncIterator[Calls]:
    client = Client(Rules(allowed), {"TOKEN": "t0p-secret"}.get, **limits)
    try:
        yield Calls(client)
    finally:
        await client.close()


async def run(calls: Calls, does: Any, **members: Any) -> dict[str, Any]:
    """Run a workflow of one node that does something with its step, and return the node's part of the trace."""
    passage = make_passage()
    passage.around.http = calls
    made = make_workflow({"ask": members}, io={"ask": does})
    return dict(full_trace(await run_workflow(made, passage), "e1")["nodes"]["ask"])


async def test_the_trace_has_the_calls_and_no_secret() -> None:
    async with receiving(always(plain(b"", 204))) as there, calling(there.place) as calls:

        async def does(step: Step) -> Out:
            auth = {"bearer": {"secret": "TOKEN"}}
            await step.http.request("PUT", f"{there.url}/a", headers={"x": "y"}, body={"b": 1}, auth=auth)
            await step.http.request("GET", there.url)
            try:
                await step.http.request("GET", "http://127.0.0.1:1/")
            except CallError as error:
                return Out("b", {"error": error.reason})
            return Out("a")

        record = await run(calls, does)
        assert "t0p-secret" not in str(record)
        put, get, refused = record["calls"]
        assert (put["method"], put["url"], put["status"]) == ("PUT", f"{there.url}/a", 204)
        assert (get["method"], get["status"]) == ("GET", 204)
        assert put["ms"] > 0
        assert refused["error"] == record["result"]["error"]
        assert "refused: 127.0.0.1 is a loopback address" in refused["error"]
        assert len(set(there.keys())) == 2


async def test_the_next_try_of_a_node_calls_again_and_all_tries_are_told() -> None:
    statuses = iter((500, 502, 200))

    async def say(_: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(b"", next(statuses)))

    async def does(step: Step) -> Out:
        answer = await step.http.request("GET", there.url)
        if answer.status >= 500:
            raise NodeError("later")
        return Out("a")

    async with receiving(say) as there, calling(there.place) as calls:
        record = await run(calls, does, retry={"times": 3, "wait_seconds": 0})
        assert [call["status"] for call in record["calls"]] == [500, 502, 200]
        assert len(there.requests) == 3
        assert len(set(there.keys())) == 1
        assert "error" not in record


async def test_calls_at_the_same_time_have_keys_of_their_own() -> None:
    async def does(step: Step) -> Out:
        await asyncio.gather(*(step.http.request("GET", there.url) for _ in range(5)))
        return Out("a")

    async with receiving() as there, calling(there.place) as calls:
        record = await run(calls, does)
        assert len(set(there.keys())) == len(record["calls"]) == 5


async def test_a_node_that_fails_tells_its_calls_and_what_it_dropped() -> None:
    async def does(step: Step) -> Out:
        step.set("profile.traits.a", 1)
        step.effect({"url": "https://crm.example"})
        await step.http.request("GET", there.url)
        raise NodeError("no")

    async with receiving() as there, calling(there.place) as calls:
        record = await run(calls, does)
        assert [call["status"] for call in record["calls"]] == [200]
        assert [entry["op"] for entry in record["dropped"]] == ["set", "effect"]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (plain(b'{"a": [1, "x"]}', content_type="application/json; charset=utf-8"), {"a": [1, "x"]}),
        (plain(b"[1]", content_type="application/vnd.crm+json"), [1]),
        (plain(b"", content_type="application/json"), None),
        (plain(b"<p>hi</p>", content_type="text/html"), "<p>hi</p>"),
        (plain("Åse".encode("latin-1"), content_type="text/plain; charset=iso-8859-1"), "Åse"),
        (plain(b"a=1", content_type="application/x-www-form-urlencoded"), "a=1"),
        (plain(b"plain"), "plain"),
        (plain(b"\xff\xfe\x00", content_type="image/png"), None),
        (plain(b"a\x00b"), None),
        (plain(b"x", content_type="text/plain; charset=nonsense"), None),
        (plain(b"x", content_type="text/plain; charset=undefined"), None),
        (plain(b"x", content_type="text/plain; charset=unicode_escape"), None),
        (plain(b"x", content_type='text/plain; charset="'), None),
        (plain(b"x", content_type="; ;;"), "x"),
        (plain(b"{not json", 500, content_type="application/json"), "{not json"),
        (plain(b"{not json", content_type="application/json"), "not JSON"),
        (plain(b"[" * 100 + b"]" * 100, content_type="application/json"), "not JSON"),
        (plain(b'{"a": NaN}', content_type="application/json"), "not JSON"),
        (plain(b'"\\ud800"', content_type="application/json"), "not JSON"),
    ],
)
async def test_a_body_is_read_by_its_type(answer: bytes, body: Any) -> None:
    found: list[Any] = []

    async def does(step: Step) -> Out:
        try:
            found.append((await step.http.request("GET", there.url)).body)
        except CallError as error:
            found.append("not JSON" if "says that it is JSON" in error.reason else error)
        return Out("a")

    async with receiving(always(answer)) as there, calling(there.place) as calls:
        await run(calls, does)
        assert found == [body]


async def test_what_is_wrong_with_a_body_fails_the_call() -> None:
    async def does(step: Step) -> Out:
        await step.http.request("GET", there.url)
        return Out("a")

    async with receiving(always(plain(b"x", content_encoding="br"))) as there, calling(there.place) as calls:
        record = await run(calls, does)
        assert record["port"] == "error"
        assert record["calls"][0]["status"] == 200
        assert "encoded as 'br'" in record["calls"][0]["error"]


# Hosts that hang


async def silent(_: Got, writer: asyncio.StreamWriter) -> None:  # noqa: ARG001
    await asyncio.sleep(30)


async def test_a_host_that_hangs_holds_some_calls_then_none_until_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace.engine.outbox.breaker.FIRST_SECONDS", 1.5)
    errors: list[str] = []
    numbers = iter(range(100))

    async def does(step: Step) -> Out:
        try:
            await step.http.request("GET", f"{there.url}/{next(numbers)}", timeout_seconds=1)
        except CallError as error:
            errors.append(error.reason.removeprefix(f"{there.place} "))
        return Out("a")

    async with receiving(silent) as there, calling(there.place, per_host=2) as calls:
        await asyncio.gather(*(run(calls, does) for _ in range(10)))
        assert sorted(set(errors)) == [
            "did not answer within 1 s",
            "keeps 4 calls waiting; this call was not made",
        ]
        assert errors.count("did not answer within 1 s") == 4
        errors.clear()
        await run(calls, does)
        await run(calls, does)
        assert errors == ["did not answer within 1 s", "did not answer lately; this call was not made"]
        there.answers = always(plain())
        await asyncio.sleep(2)
        errors.clear()
        for _ in range(3):
            await run(calls, does)
        assert errors == []


async def test_requests_of_others_do_not_wait_for_a_host_that_hangs(open_lab: OpenLab) -> None:
    async with receiving(silent) as there:
        files = {"ask": workflow(there.url, timeout_seconds=40), "other": OTHER}
        settings = {"allow_addresses": there.place, "request_deadline_seconds": 60}
        async with open_lab(files, calls_per_host=5, **settings) as lab:
            hung = [asyncio.create_task(lab.track("ask", session_id=f"h{n}")) for n in range(30)]
            # All but twice as many as there are connections are told at once.
            await asyncio.wait_for(asyncio.gather(*(_first(hung, 20))), 30)
            await asyncio.gather(*(lab.track("other", session_id=f"o{n}") for n in range(10)))
            assert there.connections == 5
            assert sum(not task.done() for task in hung) == 10
            for task in hung:
                task.cancel()
            await asyncio.gather(*hung, return_exceptions=True)


def _first(tasks: list[asyncio.Task[Any]], number: int) -> list[Any]:
    """Return what to wait for until so many of the tasks are done."""
    left = asyncio.Semaphore(0)
    for task in tasks:
        task.add_done_callback(lambda _: left.release())
    return [left.acquire() for _ in range(number)]


# Memory


def reply(size: int = 0) -> Reply:
    return Reply(200, {}, bytes(size), 1.0)


def test_the_memory_is_bounded_by_count_bytes_and_time() -> None:
    memory = Memory(most=3, most_bytes=1 << 20, seconds=60)
    for number in range(10):
        memory.keep(str(number), reply(), 1.0)
    assert len(memory) == 3
    assert memory.find("6", 1.0) is None
    assert memory.find("9", 1.0) == reply()
    memory.keep("large", reply(1 << 20), 1.0)
    assert len(memory) == 0
    memory.keep("a", reply(400_000), 1.0)
    memory.keep("a", reply(400_000), 1.0)
    memory.keep("b", reply(400_000), 1.0)
    assert memory.find("a", 1.0) is not None
    memory.keep("c", reply(400_000), 1.0)
    assert memory.find("a", 1.0) is None
    short = Memory(seconds=0)
    short.keep("a", reply(), 1.0)
    assert short.find("a", 1.0) is None


def test_a_failure_is_remembered_for_the_request_that_met_it() -> None:
    memory = Memory()
    memory.keep("a", CallError("no"), 1.0)
    assert isinstance(memory.find("a", 1.0), CallError)
    assert memory.find("a", 2.0) is None
    memory.keep("a", reply(), 1.0)
    assert memory.find("a", 2.0) == reply()
