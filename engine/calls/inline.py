"""Calls that nodes make while they run, and wait for."""

import re
from collections.abc import Mapping
from email.message import Message
from time import perf_counter
from typing import Any

import msgspec

from headrace.engine.calls.call import USUAL_SECONDS
from headrace.engine.calls.client import Client, Reply
from headrace.engine.calls.hosts import Hosts
from headrace.engine.calls.http import Http, HttpAnswer
from headrace.engine.calls.memory import Memory
from headrace.engine.errors import CallError, InputError, NodeError
from headrace.engine.model import Doc, make_key
from headrace.engine.strict_json import decode
from headrace.engine.view import plain

SHARE = 0.95
"""How much of its node's time a call may take, so that the node can still say what became of it."""

_CHARSET = re.compile(
    r"utf-?8|utf-?16|(us-)?ascii|latin-?1|iso-8859-\d\d?|windows-125\d|shift_jis|euc-(jp|kr)|gb(k|2312|18030)|big5"
)
"""Charsets of texts that are read; Python has more, some of which are no charsets."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Calls(Http):
    """The client of all nodes of a process: it knows what was called before a request ran again."""

    def __init__(self, client: Client, memory: Memory | None = None) -> None:
        self.client = client
        self.memory = memory or Memory()
        # As many again may wait for a connection.
        self.hosts = Hosts(2 * client.per_host)

    def at(self, passage: Any, step: Any) -> Http:
        """Return the client for one node at work for one event."""
        return NodeCalls(self, passage, step)


class Tries:
    """What one node called in one attempt: `step` is the try that is at work, `notes` are of all tries."""

    __slots__ = ("keys", "notes", "number", "step")

    def __init__(self) -> None:
        self.step: Any = None
        self.number = 0
        self.keys: set[str] = set()
        self.notes: list[Doc] = []


class NodeCalls(Http):
    """The client of one node, at work for one event."""

    def __init__(self, calls: Calls, passage: Any, step: Any) -> None:
        self._calls = calls
        self._passage = passage
        self._step = step

    async def send(self, call: Mapping[str, Any]) -> HttpAnswer:
        """Send a call, or give the answer that it brought in an earlier attempt of the request."""
        call = self._bounded(plain(call))
        tries = self._tries()
        key = self._key(call, tries.number)
        note = noted(call)
        tries.notes.append(note)
        self._step.journal.append(("call", None, note))
        reply = await self._reply(call, key, note, tries)
        if reply.problem:
            note["error"] = reply.problem
            raise CallError(f"{note['method']} {note['url']}: {reply.problem}", retryable=True)
        return HttpAnswer(reply.status, reply.headers, parsed(reply))

    async def _reply(self, call: Doc, key: str, note: Doc, tries: Tries) -> Reply:
        """Return what the call brought, in an earlier attempt or now; a node's next try calls again."""
        around, memory = self._passage.around, self._calls.memory
        found = None if key in tries.keys else memory.find(key, around.ends)
        tries.keys.add(key)
        started = perf_counter()
        try:
            if found is None:
                note["error"] = "the node did not wait for the answer"
                found = await self._calls.client.send(
                    call, key=key, traceparent=around.trace_parent, hosts=self._calls.hosts
                )
                memory.keep(key, found, around.ends)
            else:
                note["remembered"] = True
            if isinstance(found, CallError):
                raise found
        except CallError as error:
            if "remembered" not in note:
                memory.keep(key, error, around.ends)
            note["error"] = error.reason
            raise CallError(error.reason, retryable=error.retryable) from None
        finally:
            note["ms"] = round((perf_counter() - started) * 1000, 3)
        note.pop("error", None)
        note["status"] = found.status
        return found

    def _tries(self) -> Tries:
        """Return what this node called so far in this attempt, and count this call."""
        passage = self._passage
        place = (passage.key, passage.runs[-1].workflow.name, self._step.name)
        if passage.around.calls is None:
            passage.around.calls = {}
        tries: Tries = passage.around.calls.setdefault(place, Tries())
        if tries.step is not self._step:
            tries.step, tries.number = self._step, 0
            # What an earlier try of the node called is told too.
            self._step.journal += [("call", None, note) for note in tries.notes]
        tries.number += 1
        return tries

    def _key(self, call: Doc, number: int) -> str:
        """Return hash(event key, workflow, node, number within the node, rendered request)."""
        rendered = {name: value for name, value in call.items() if name not in ("timeout_seconds", "tls")}
        try:
            text = _encode(rendered).decode()
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise NodeError(f"the call is no JSON: {error}") from None
        workflow = self._passage.runs[-1].workflow.name
        return make_key("call", self._passage.key, workflow, self._step.name, str(number), text)

    def _bounded(self, call: Doc) -> Doc:
        """Return the call with a timeout that ends before the node's, and before the request's."""
        passage = self._passage
        nodes = passage.runs[-1].workflow.nodes
        node = next((node.timeout_seconds for node in nodes if node.name == self._step.name), 10.0)
        left = SHARE * min(node, passage.around.ends - perf_counter())
        given = call.get("timeout_seconds", USUAL_SECONDS)
        return {**call, "timeout_seconds": min(given, left) if isinstance(given, int | float) else given}


def noted(call: Mapping[str, Any]) -> Doc:
    """Return what a trace shows of a call: method and URL; a secret one by its name."""
    url = call.get("url")
    if isinstance(url, Mapping):
        url = f"(secret {url.get('secret')})"
    return {"method": str(call.get("method", "GET")), "url": str(url)[:500]}


def parsed(reply: Reply) -> Any:
    """Return a body by its type: JSON, text, or None when it is neither.

    Raises CallError for what says that it is JSON, and is not, unless the status says that something is wrong anyway.
    """
    if not reply.body:
        return None
    header = Message()
    header["content-type"] = reply.headers.get("content-type", "")
    kind = header.get_content_type()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return decode(reply.body)
        except InputError as error:
            if reply.status < 300:
                raise CallError(f"the answer says that it is JSON, and is not: {error.detail}") from None
            return reply.body.decode("utf-8", "replace")
    charset = header.get_content_charset("utf-8")
    if not _CHARSET.fullmatch(charset):
        return None
    try:
        text = reply.body.decode(charset)
    except (LookupError, UnicodeError):
        return None
    return text if "\0" not in text else None
