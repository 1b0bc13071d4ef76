"""Step 1: who sends, and may it come in by this door?"""

import random
from functools import lru_cache

import crawleruseragents
import msgspec

from headrace.engine.errors import FieldError, InputError
from headrace.engine.files.source import Source
from headrace.engine.files.workspace import Workspace
from headrace.engine.limiter import Limiter
from headrace.engine.model import TrackRequest
from headrace.engine.request import Admission
from headrace.engine.settings import Settings

INTERNAL = "internal"
"""The door of requests that Headrace makes itself."""

COPIES = 16
"""How many times the largest body the context may have in all, once it stands in each event of its request."""

_WIDENS = 4
"""A number may be written so many times as long as it came, and a little less: `1e15` is 1000000000000000.0."""

_encode = msgspec.json.Encoder().encode


def admit(request: TrackRequest, workspace: Workspace, settings: Settings, limiter: Limiter) -> Admission:
    """Return what the request may do. Raises InputError (401, 403, 413, 429)."""
    source = workspace.sources.get(request.source_id)
    caller = request.caller
    if source is None or not source.enabled or not (source.accepts(caller.secret) or caller.admin):
        raise InputError(
            401, "unauthorized", "There is no enabled source of that id for which the key is right."
        )
    is_ours = request.door == INTERNAL
    if not is_ours and request.door not in source.doors:
        raise InputError(
            403, "door_not_allowed", f"The source does not take events by the door {request.door}."
        )
    if not is_ours and not source.allows_origin(caller.origin):
        raise InputError(403, "origin_not_allowed", "The source does not take events from this origin.")
    if source.rate is not None and not is_ours:
        limiter.take(source)
    room = COPIES * settings.body_limit_bytes
    # What the context cannot be larger than, in all events: nearly every request is done with here.
    if (request.size + len(caller.referrer or "")) * len(request.events) * _WIDENS > room:
        check_copies(request, room)
    allowed = settings.debugger or source.file.debugger or caller.admin
    debugger = request.options.debugger and allowed
    return Admission(
        source=source,
        tracing=debugger or source.file.trace or sampled(settings.trace_sample),
        debugger=debugger,
        debugger_refused=request.options.debugger and not allowed,
        not_kept=why_not_kept(request, source),
    )


def check_copies(request: TrackRequest, room: int) -> None:
    """Raise InputError 413 when the context takes more than `room` bytes once it stands in every event.

    Packed, a kilobyte could fill gigabytes otherwise, and would become more than Elasticsearch takes at once.
    """
    size, count = len(_encode(request.context)) + len(request.caller.referrer or ""), len(request.events)
    if size * count > room:
        raise InputError(
            413,
            "context_too_large",
            f"The context and the referrer have {size} bytes, which stand in each of {count} events: together at "
            f"most {room} bytes are taken. Nothing was kept. Send less context or fewer events, or send the context "
            "once, in a request without events: it is kept with the session.",
            [FieldError("/context", "is too large for so many events")],
        )


def sampled(share: float) -> bool:
    """Say whether this request is one of the share that is traced."""
    return share > 0 and random.random() < share  # noqa: S311 - which requests are traced is no secret


def why_not_kept(request: TrackRequest, source: Source) -> str:
    """Return why nothing of the request is kept (`dnt`, `bot`), or ""."""
    if source.file.respect_dnt and request.caller.do_not_track:
        return "dnt"
    if source.file.bots == "drop" and is_bot(request.caller.user_agent):
        return "bot"
    return ""


def is_bot(user_agent: str | None) -> bool:
    """Say whether a user agent is that of a known crawler."""
    return user_agent is not None and _is_crawler(user_agent[:512])


@lru_cache(maxsize=4096)
def _is_crawler(user_agent: str) -> bool:
    return bool(crawleruseragents.is_crawler(user_agent))
