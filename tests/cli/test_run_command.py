"""The command `run`: one event, dry."""

import json
from pathlib import Path

import pytest

from .conftest import Call

EVENT = '{"type": "purchase-order", "properties": {"total": 150}}'


def test_it_draws_what_happened(call: Call, shop: Path) -> None:
    assert shop.is_dir()
    result = call("run", "shop", "-", input=EVENT)
    assert result.exit_code == 0, result.output
    for line in (
        "purchase-order from shop",
        "✓ big_order",
        "is_big (branch) → true",
        'profile.segments: [] → ["big_buyer"]',
        'answered: {"message": "Thank you for order 1!"}',
    ):
        assert line in result.output
    assert not Path("data").exists()


def test_it_says_why_a_node_did_not_run(call: Call, shop: Path) -> None:
    assert shop.is_dir()
    output = call("run", "shop", "-", input=EVENT.replace("150", "5")).output
    assert "thank (respond): branch not taken" in output


def test_without_an_event_the_tests_give_one(call: Call, shop: Path) -> None:
    assert shop.is_dir()
    result = call("run", "shop")
    assert result.exit_code == 0
    assert "✓ big_order" in result.output


def test_in_the_workspace_the_event_may_be_the_only_argument(
    call: Call, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    (shop / "event.txt").write_text(EVENT)
    assert "✓ big_order" in call("run", "event.txt").output
    assert "✓ big_order" in call("run", "-", input=EVENT).output


def test_as_json_with_what_was_there_before(call: Call, shop: Path, tmp_path: Path) -> None:
    assert shop.is_dir()
    (tmp_path / "p.json").write_text('{"id": "ann", "stats": {"counters": {"orders": 7}}}')
    (tmp_path / "s.json").write_text('{"id": "visit"}')
    words = ("run", "shop", "-", "--profile", "p.json", "--session", "s.json", "--at", "2026-01-15T12:00:00Z")
    told = json.loads(call(*words, "--json", input=EVENT).stdout)
    assert told["profile"]["stats"]["counters"] == {"orders": 8}
    assert told["session"]["id"] == "visit"
    assert told["session"]["profile"] == "ann"
    run = told["events"][0]["runs"][0]
    assert run["path"] == ["count", "is_big", "mark", "thank"]
    assert all("ms" in run["nodes"][name] for name in run["path"])
    assert run["started"] == "2026-01-15T12:00:00.000Z"


def test_a_body_of_track_does_too(call: Call, shop: Path) -> None:
    assert shop.is_dir()
    body = f'{{"source": {{"id": "shop"}}, "session": {{"id": "s"}}, "events": [{EVENT}]}}'
    assert "✓ big_order" in call("run", "shop", "-", input=body).output


@pytest.mark.parametrize(
    ("words", "event", "code", "says"),
    [
        (["--no-profile"], EVENT, 1, "✗ big_order"),
        ([], '{"type": "purchase-order", "properties": {"total": "x"}}', 1, "was refused"),
        ([], '{"type": "nothing"}', 0, "no workflow takes this type of event"),
        ([], "{", 2, "is not JSON"),
        ([], "[]", 2, "an object is needed"),
        ([], '{"typ": "x"}', 2, "Did you mean 'type'?"),
        ([], '{"type": 1}', 2, "An event is"),
        ([], '{"type": "a", "time": "yesterday"}', 2, "ISO 8601"),
        (["--source", "shp"], EVENT, 2, "Did you mean 'shop'?"),
        (["--profile", "nowhere.json"], EVENT, 2, "nowhere.json"),
        (["--at", "soon"], EVENT, 2, "--at soon"),
        (["--at", "0001-01-01T00:00:00+14:00"], EVENT, 2, "--at 0001"),
        (["--at", "9999-12-31T23:59:59-14:00"], EVENT, 2, "--at 9999"),
    ],
)
def test_exit_codes(words: list[str], event: str, code: int, says: str, call: Call, shop: Path) -> None:
    assert shop.is_dir()
    result = call("run", "shop", "-", *words, input=event)
    assert result.exit_code == code, result.output
    assert says in result.output


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--profile", {"id": 5}, "profile.id: must be a text, not a number."),
        ("--profile", {"id": "a", "traits": "x"}, "profile.traits: must be an object, not a text."),
        ("--profile", {"stats": None}, "profile.stats: must be an object, not null."),
        ("--profile", {"stats": {"visits": "1"}}, "profile.stats.visits: must be a number, not a text."),
        ("--profile", {"segments": {}}, "profile.segments: must be a list, not an object."),
        ("--session", {"id": []}, "session.id: must be a text, not a list."),
        ("--session", {"profile": 5}, "session.profile: must be a text, not a number."),
    ],
)
def test_documents_of_a_wrong_shape_are_named(
    option: str, value: object, says: str, call: Call, shop: Path, tmp_path: Path
) -> None:
    assert shop.is_dir()
    (tmp_path / "given.json").write_text(json.dumps(value))
    result = call("run", "shop", "-", option, "given.json", input=EVENT)
    assert result.exit_code == 2, result.output
    assert says in result.output


def test_what_never_ends_is_read_to_the_limit(call: Call, shop: Path) -> None:
    assert shop.is_dir()
    for words in (["/dev/zero"], ["-", "--profile", "/dev/zero"]):
        result = call("run", "shop", *words, input=EVENT)
        assert result.exit_code == 2
        assert "is larger than 1024 KiB" in result.output
    assert call("run", "shop", "-", input=" " * (2 << 20)).exit_code == 2


def test_a_fault_of_the_engine_shows_no_secret(
    call: Call, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.is_dir()

    def break_down(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setenv("SHOP_TOKEN", "hush-hush")
    monkeypatch.setattr("headrace.engine.steps.stats.count_event", break_down)
    result = call("run", "shop", "-", input=EVENT)
    assert result.exit_code == 1
    assert "engine_fault" in result.output or "the engine failed on this event" in result.output
    assert "hush-hush" not in result.output + result.stderr
