"""Step 1: who sends, and may it come in by this door?"""

import random
from functools import lru_cache

import crawleruseragents

from headrace.engine.errors import InputError
from headrace.engine.files.source import Source
from headrace.engine.files.workspace import Workspace
from headrace.engine.limiter import Limiter
from headrace.engine.model import TrackRequest
from headrace.engine.request import Admission
from headrace.engine.settings import Settings

INTERNAL = "internal"
"""The door of requests that Headrace makes itself."""


def admit(request: TrackRequest, workspace: Workspace, settings: Settings, limiter: Limiter) -> Admission:
    """Return what the request may do. Raises InputError (401, 403, 429)."""
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
    allowed = settings.debugger or source.file.debugger or caller.admin
    debugger = request.options.debugger and allowed
    return Admission(
        source=source,
        tracing=debugger or source.file.trace or sampled(settings.trace_sample),
        debugger=debugger,
        debugger_refused=request.options.debugger and not allowed,
        not_kept=why_not_kept(request, source),
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
