"""What is answered to requests that reach something matches the OpenAPI document.

Requests with any ids at all, most of which find nothing, are the business of the tests of the document itself.
"""

from time import monotonic, sleep
from typing import Any, NamedTuple

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from headrace.api.routes import ROUTES
from tests.live.server import TOKEN, Server, track_body

EXAMPLES = 25
# The document tells the shape of what is sent. Blanks, cursors and days are looked at by the server alone.
LEFT_OUT = [positive_data_acceptance, negative_data_rejection]
WITHOUT_PARAMETERS = ("/healthz", "/readyz", "/metrics")
CASES = [
    (route.path, route.method, mode)
    for route in ROUTES
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if mode is GenerationMode.POSITIVE or route.path not in WITHOUT_PARAMETERS
]


class Aim(NamedTuple):
    """What a path asks for that the server knows: the parts of the path, the query, a body that is taken."""

    parts: dict[str, str]
    query: dict[str, str] | None = None
    body: dict[str, Any] | None = None


class Known(NamedTuple):
    """The document as it was loaded, and what the server knows, by its paths."""

    document: Any
    aims: dict[str, Aim]


@pytest.fixture(scope="module")
def known(shared: Server) -> Known:
    """Load the document from the server, as a client would; some things are there to be found."""
    mine = profile_of(shared, track_body("page-view", "items", session="known", ids=["known", "known-2"]))
    profile_of(shared, track_body("outgoing", session="known-3"))
    assert shared.post(track_body("numbered", session="known"))[0] == 200
    aims = {
        "/api/sessions/{id}": Aim({"id": "known"}),
        "/api/events/{id}": Aim({"id": "known"}),
        "/api/events/{id}/story": Aim({"id": "known-2"}),
        "/api/segments/{name}/explain": Aim({"name": "viewers"}, {"profile": mine}),
    }
    for kind, deeds in (
        ("effects", ("/resend", "/drop")),
        ("timers", ("/cancel",)),
        ("failed", ("/resend",)),
    ):
        found = Aim({"id": first_of(shared, f"/api/{kind}")}, body={"properties": {"n": 1}})
        aims |= {f"/api/{kind}/{{id}}{deed}": found for deed in ("", *deeds)}
    aims |= aims_at_profiles(shared, mine)
    return Known(schemathesis.openapi.from_url(f"http://127.0.0.1:{shared.port}/openapi.json"), aims)


def aims_at_profiles(server: Server, mine: str) -> dict[str, Aim]:
    """Return what the paths of profiles ask for: one that can be merged, and one that was."""
    one, two = (profile_of(server, track_body("page-view", session=f"merged-{n}")) for n in range(2))
    status, merged = server.post({"with": two}, f"/api/profiles/{one}/merge", Authorization=f"Bearer {TOKEN}")
    assert status == 200
    with_whom = {"with": one, "dry_run": True}
    return {
        "/api/profiles/{id}": Aim({"id": mine}),
        "/api/profiles/{id}/export": Aim({"id": mine}),
        "/api/profiles/{id}/merge": Aim({"id": mine}, body=with_whom),
        "/api/profiles/{id}/unmerge": Aim({"id": merged["merged"]}),
    }


def profile_of(server: Server, body: dict[str, Any]) -> str:
    """Send events and return whose they are."""
    status, answer = server.post(body)
    assert status == 200
    profile: str = answer["profile"]["id"]
    return profile


def first_of(server: Server, path: str) -> str:
    """Return the id of the newest thing of a list, once it is there."""
    until = monotonic() + 20
    while not (items := server.get(path)[1]["items"]):
        assert monotonic() < until, f"{path} stays empty"
        sleep(0.1)
    found: str = items[0]["id"]
    return found


def aim(case: Any, aims: Aim | None, mode: GenerationMode) -> None:
    """Send a case to a source that exists, or ask for something that does."""
    if isinstance(case.body, dict) and isinstance(case.body.get("source"), dict):
        case.body["source"]["id"] = "web"
    if case.path_parameters and "source_id" in case.path_parameters:
        case.path_parameters["source_id"] = "web"
    if aims is not None and case.method != "DELETE":
        case.path_parameters |= aims.parts
        case.query = dict(aims.query or {})
        if aims.body is not None and case.operation.body and mode is GenerationMode.POSITIVE:
            case.body = aims.body


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_answers_match_the_document(known: Known, path: str, method: str, mode: GenerationMode) -> None:
    operation = known.document[path][method]
    answered = set[int]()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        aim(case, known.aims.get(path), mode)
        answer = case.call_and_validate(
            headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20, excluded_checks=LEFT_OUT
        )
        answered.add(answer.status_code)

    check()
    assert all(status < 500 for status in answered)
    assert mode is GenerationMode.NEGATIVE or method == "DELETE" or 200 in answered
