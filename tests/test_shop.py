"""The example workspace: clean, tested wholly, with fresh schemas, and open to what clients send."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from headrace.compose import load_settings, make_engine
from headrace.engine.catalog import find_plugins
from headrace.engine.engine import Engine
from headrace.engine.files.lint import lint
from headrace.engine.files.schemas import make_schemas
from headrace.engine.files.workflow_test import TestFile
from headrace.engine.files.workspace import Workspace, load_workspace
from headrace.engine.model import Answer, Caller, Doc, EventInput, Options, TrackRequest, utc_now
from headrace.engine.store.protocol import Query
from headrace.engine.testing.runner import measure, run_tests
from headrace.engine.timers.kinds import KINDS
from headrace.engine.timers.worker import TimerWorker

SHOP = Path(__file__).resolve().parent.parent / "workflows" / "shop"
FILES = sorted(
    path.relative_to(SHOP).as_posix() for path in SHOP.rglob("*.json") if path.parent.name != "schema"
)
WORKFLOWS = sorted(file for file in FILES if file.startswith("workflows/") and ".test." not in file)
README = SHOP.parent.parent / "README.md"
KEY = "let-me-in"


def read(file: str) -> Any:
    return json.loads((SHOP / file).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    return load_workspace(SHOP, find_plugins(), lambda _: KEY)


def test_the_only_problem_is_there_on_purpose() -> None:
    problems = lint(SHOP, find_plugins(), lambda _: KEY)
    assert [(problem.code, problem.place) for problem in problems] == [
        ("S02", "sources.shop-web.answers_profile")
    ]


@pytest.mark.parametrize("file", WORKFLOWS)
def test_the_readme_names_every_workflow(file: str) -> None:
    assert f"(workflows/shop/{file})" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", FILES)
def test_files_keep_to_their_schemas(file: str) -> None:
    value = read(file)
    schema = (SHOP / file).parent / value["$schema"]
    validator = jsonschema_rs.validator_for(json.loads(schema.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(value)] == []


def test_schemas_are_fresh() -> None:
    # Mended by `headrace schema workflows/shop`.
    for name, schema in make_schemas(find_plugins(())).items():
        assert read(f"schema/{name}.json") == json.loads(json.dumps(schema)), name


@pytest.mark.parametrize("file", WORKFLOWS)
async def test_workflows_are_tested_wholly(file: str, workspace: Workspace) -> None:
    name = Path(file).stem
    (workflow,) = (each for each in workspace.workflows if each.name == name)
    assert workflow.file.about
    tests = TestFile.model_validate(read(f"workflows/{name}.test.json")).tests
    results = await run_tests(workspace, workflow, tests)
    assert [str(result) for result in results if not result.passed] == []
    assert measure(workflow, results).missed == []


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    monkeypatch.setenv("SHOP_BACKEND_KEY", KEY)
    engine = make_engine(load_settings(SHOP, data=tmp_path))
    await engine.start()
    yield engine
    await engine.stop()


async def track(engine: Engine, *events: tuple[str, Doc], **members: Any) -> Answer:
    given = [EventInput(kind, properties) for kind, properties in events]
    request = TrackRequest("shop-web", given, "track", utc_now(), "session-id", options=Options(profile=True))
    for name, value in members.items():
        setattr(request, name, value)
    return await engine.track(request)


async def test_what_clients_send_is_taken(engine: Engine) -> None:
    answer = await track(
        engine,
        ("purchase-order", {"product": "Nike shoes", "quantity": 1}),
        ("page-view", {}),
        ("login attempt", {}),
    )
    assert answer.errors == []
    assert answer.profile is not None
    assert answer.profile["stats"] == {"visits": 1, "views": 1, "counters": {"orders": 1}}


async def test_a_customer_from_the_first_visit_to_a_vip(engine: Engine) -> None:
    await track(engine, ("page-view", {"kind": "product", "category": "Running"}))
    await track(engine, ("registration", {"email": "Ann@Shop.example", "name": "Ann"}))
    await track(engine, ("consent-given", {"consent": "marketing"}))
    answer = await track(engine, ("page-view", {}), ("purchase-order", {"total": 300}))
    assert answer.response == {
        "greeting": "Good to see you again, Ann!",
        "offer": {"percent": 5},
        "thanks": "Thank you, Ann: you are a vip now.",
    }
    assert answer.profile is not None
    assert answer.profile["segments"] == ["registered", "vip"]
    assert answer.profile["interests"] == {"Running": 3}
    assert answer.profile["traits"] == {
        "email": "ann@shop.example",
        "name": "Ann",
        "largest_order": 300,
        "average_order": 300,
    }


async def test_a_coupon_finds_the_profile_it_was_made_for(engine: Engine) -> None:
    visitor = (await track(engine, ("page-view", {}))).profile
    assert visitor is not None
    coupon = ("coupon-redeemed", {"coupon": "SPRING", "profile_id": visitor["id"]})
    from_till = {
        "source_id": "shop-backend",
        "door": "collect",
        "session_id": None,
        "profile_less": True,
        "caller": Caller(secret=KEY),
    }
    answer = await track(engine, coupon, **from_till)
    assert answer.profile is not None
    assert answer.profile["id"] == visitor["id"]
    assert answer.profile["stats"]["counters"] == {"coupons_redeemed": 1}
    # The web site may send the event, but not cause this with it.
    other = await track(engine, coupon, **from_till | {"source_id": "shop-web"})
    assert other.profile is None


async def test_a_cart_that_was_left_is_reminded_of(engine: Engine) -> None:
    await track(engine, ("registration", {"email": "ann@shop.example", "name": "Ann"}))
    await track(engine, ("consent-given", {"consent": "marketing"}))
    cart = {"items": [{"sku": "N-1", "name": "Nike shoes"}], "url": "https://shop.example/cart"}
    await track(engine, ("cart-filled", cart))
    await track(engine, ("cart-filled", cart))
    in_an_hour = utc_now() + timedelta(hours=1)
    await TimerWorker(engine.parts, KINDS, lambda: in_an_hour).fire_due()
    (effect,) = (await engine.store.find(Query("effect"))).items
    assert (effect["workflow"], effect["node"]) == ("cart", "remind")
    assert effect["request"]["mail"]["to"] == ["ann@shop.example"]
    assert "- Nike shoes" in effect["request"]["mail"]["text"]
