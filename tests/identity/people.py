"""What the tests of identity share: a workspace, and how people send."""

from typing import Any

from headrace.engine.identity.follow import find_living
from headrace.engine.model import Answer, Caller, Doc, EventInput, doc_key
from headrace.engine.store.protocol import Ref
from tests.makers import Files, Lab, chain, count, sources

IDENTIFY: Doc = {
    "email": {"path": "event.properties.email", "per_profile": 1, "blocked": ["test@test.example"]},
    "customer": {"path": "event.properties.customer", "priority": 2},
}

TYPES: Doc = {
    "event_types": {
        "sign-in": {"identify": IDENTIFY},
        "newsletter": {"identify": {"email": {"path": "event.properties.email"}}},
        "page-view": {},
    }
}

FILES: Files = {
    "sources.json": sources(
        shop={"answers_profile": True, "public_traits": ["name"]},
        backend={"keys": [{"secret": "SHOP_KEY"}]},
        theirs={"tenant": "other", "keys": [{"secret": "SHOP_KEY"}]},
    ),
    "event_types.json": TYPES,
    "count": chain("*", count()),
}


def files(**identify: Any) -> Files:
    """Return the workspace with other identifying fields of `sign-in`."""
    kinds = {name: {"path": f"event.properties.{name}", **settings} for name, settings in identify.items()}
    return FILES | {"event_types.json": {"event_types": {"sign-in": {"identify": kinds}}}}


async def sign_in(lab: Lab, session: str | None, source: str = "backend", **values: Any) -> Answer:
    """Send an event with identifying values, by default from a source with a key."""
    secret = None if source == "shop" else "hush"
    event = EventInput("sign-in", values)
    return await lab.track(event, session_id=session, source=source, caller=Caller(secret=secret))


async def view(lab: Lab, session: str, **more: Any) -> str:
    """Look at a page, and return the id of the profile that the answer names."""
    answer = await lab.track("page-view", session_id=session, **more)
    return who(answer)


def who(answer: Answer) -> str:
    """Return the id of the profile that an answer names."""
    assert answer.profile is not None
    return str(answer.profile["id"])


async def living(lab: Lab, profile: str, tenant: str = "main") -> Doc:
    """Return the profile that an id means now."""
    found = await find_living(lab.store, tenant, profile)
    assert found is not None
    return found


async def session_of(lab: Lab, session: str, tenant: str = "main") -> Doc:
    """Return a session."""
    (found,) = await lab.store.read([Ref("session", doc_key("session", tenant, session))])
    assert found is not None
    return found.doc


async def counted(lab: Lab) -> tuple[int, int]:
    """Return how many events the profiles counted, and how many are there."""
    profiles = await lab.all("profile")
    counters = sum(doc["stats"]["counters"].get("n", 0) for doc in profiles)
    return counters, len(await lab.all("event"))
