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


class Known(NamedTuple):
    """The document as it was loaded, and ids that the server knows by their paths."""

    document: Any
    ids: dict[str, str]


@pytest.fixture(scope="module")
def known(shared: Server) -> Known:
    """Load the document from the server, as a client would; some things are there to be found."""
    status, answer = shared.post(track_body("page-view", "items", session="known", ids=["known", "known-2"]))
    assert status == 200
    ids = {"/api/profiles/{id}": answer["profile"]["id"], "/api/sessions/{id}": "known"}
    ids |= {"/api/events/{id}": "known", "/api/events/{id}/story": "known-2"}
    assert shared.post(track_body("outgoing", session="known-3"))[0] == 200
    for kind, deeds in (("effects", ("/resend", "/drop")), ("timers", ("/cancel",))):
        found = first_of(shared, f"/api/{kind}")
        ids |= {f"/api/{kind}/{{id}}{deed}": found for deed in ("", *deeds)}
    return Known(schemathesis.openapi.from_url(f"http://127.0.0.1:{shared.port}/openapi.json"), ids)


def first_of(server: Server, path: str) -> str:
    """Return the id of the newest thing of a list, once it is there."""
    until = monotonic() + 20
    while not (items := server.get(path)[1]["items"]):
        assert monotonic() < until, f"{path} stays empty"
        sleep(0.1)
    found: str = items[0]["id"]
    return found


def aim(case: Any, path: str, ids: dict[str, str]) -> None:
    """Send a case to a source that exists, or ask for something that does."""
    if isinstance(case.body, dict) and isinstance(case.body.get("source"), dict):
        case.body["source"]["id"] = "web"
    if case.path_parameters and "source_id" in case.path_parameters:
        case.path_parameters["source_id"] = "web"
    if path in ids and case.method != "DELETE":
        case.path_parameters["id"] = ids[path]
        case.query = {}


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
        aim(case, path, known.ids)
        answer = case.call_and_validate(
            headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20, excluded_checks=LEFT_OUT
        )
        answered.add(answer.status_code)

    check()
    assert all(status < 500 for status in answered)
    assert mode is GenerationMode.NEGATIVE or method == "DELETE" or 200 in answered
