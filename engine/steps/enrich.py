"""Step 5: make the event's document, with address and page."""

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from headrace.engine.model import Doc
from headrace.engine.request import Attempt, Incoming, Job
from headrace.engine.steps.admit import is_bot

PAGE_MEMBERS = ("url", "path", "title", "referrer", "search")


def new_event(job: Job, attempt: Attempt, event: Incoming) -> Doc:
    """Return the document of an event, ready for its workflows."""
    given, draft = event.input, attempt.draft
    time = {"happened": event.happened, "received": job.received, "processed": None}
    if given.time is not None:
        time["claimed"] = given.time
    doc: Doc = {
        "id": event.id,
        "key": event.key,
        "type": given.type,
        "properties": given.properties,
        "session": draft.session["id"] if draft.session else None,
        "profile": draft.profile["id"] if draft.profile else None,
        "profile_by": draft.profile_by,
        "time": time,
        **(job.alike or alike(job)),
        "runs": [],
        "errors": [],
    }
    if given.context:
        doc["context"] = context = {**job.request.context, **given.context}
        doc["page"] = page(context, job.request.caller.referrer)
    if draft.profile_asked is not None:
        doc["profile_asked"] = draft.profile_asked
    if event.content:
        doc["content"] = event.content
    if given.version is not None:
        doc["version"] = given.version
    return doc


def alike(job: Job) -> Doc:
    """Return the members that all events of a request have alike; made with the first, never changed."""
    if not job.alike:
        context = job.request.context
        job.alike = {
            "context": context,
            "source": job.source.id,
            "tenant": job.tenant,
            "door": job.request.door,
            "device": device(job),
            "page": page(context, job.request.caller.referrer),
            "utm": {},
        }
    return job.alike


def device(job: Job) -> Doc:
    """Return what the request tells of the device: the address as far as it may be kept, and whether it is a bot."""
    caller, source = job.request.caller, job.source.file
    found: Doc = {}
    address = shown_address(caller.ip, source.ip)
    if address is not None:
        found["ip"] = address
    if source.bots == "mark" and is_bot(caller.user_agent):
        found["bot"] = True
    return found


@lru_cache(maxsize=4096)
def shown_address(address: str | None, rule: str) -> str | None:
    """Return an address as a source wants it kept: whole, without its last part (/24, /48), or not at all."""
    if address is None or rule == "drop":
        return None
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    if rule == "keep":
        return str(ip)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    network = ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False)
    return str(network.network_address)


def page(context: Doc, referrer: str | None) -> Doc:
    """Return the page that the event happened on: `context.page` as clients send it, else the Referer header."""
    given = context.get("page")
    if isinstance(given, dict):
        found = {name: given[name] for name in PAGE_MEMBERS if isinstance(given.get(name), str)}
    elif isinstance(given, str):
        found = {"url": given}
    else:
        found = {} if referrer is None else {"url": referrer}
    if "url" in found and "path" not in found:
        found["path"] = _path(found["url"])
    return found


def _path(url: str) -> str:
    try:
        return urlsplit(url).path or "/"
    except ValueError:
        return "/"
