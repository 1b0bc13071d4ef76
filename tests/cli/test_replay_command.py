"""The commands `replay` and `story`."""

import json
from pathlib import Path

import pytest

from .conftest import Call

ORDER = (
    '{"type": "purchase-order", "id": "%s", "session": "s1", "source": "shop", "properties": {"total": %s}}'
)
EVENTS = "\n".join((ORDER % ("o1", 150), ORDER % ("o2", 5), ORDER % ("o3", '"much"')))


@pytest.fixture
def kept(call: Call, shop: Path, tmp_path: Path) -> Path:
    """Return a workspace whose events are in the store: two that were processed, and one that was refused."""
    (tmp_path / "events.ndjson").write_text(EVENTS)
    assert call("events", "import", "events.ndjson", "--workspace", shop).exit_code == 1
    return shop


@pytest.fixture
def draft(kept: Path) -> Path:
    """Return a draft in which every order is a big one."""
    file = kept / "workflows/big_order.json"
    text = file.read_text()
    assert "100" in text
    file.write_text(text.replace("100", "1"))
    return kept


def test_the_same_workspace_gives_the_same(call: Call, kept: Path) -> None:
    result = call("replay", "--query", "type=purchase-order", "--workspace", kept)
    assert result.exit_code == 0, result.output
    assert "Dry: nothing is written, nothing is called." in result.output
    assert result.output.endswith("2 events, none differs\n")


def test_a_draft_is_compared_with_what_happened(call: Call, draft: Path) -> None:
    result = call("replay", "--query", "type=purchase-order", "--query", "source=shop", "--workspace", draft)
    assert result.exit_code == 1, result.output
    for line in ("≠ o2 purchase-order from shop", "big_order path", "- then count.done is_big.false"):
        assert line in result.output
    assert "≠ o1" not in result.output
    assert result.output.endswith("2 events, 1 differ\n")


def test_one_event_is_shown_whole(call: Call, draft: Path) -> None:
    result = call("replay", "o1", "--workspace", draft)
    assert "= o1 purchase-order from shop" in result.output
    assert "is_big (branch) → true" in result.output


def test_as_json(call: Call, draft: Path) -> None:
    result = call("replay", "--query", "type=purchase-order", "--workspace", draft, "--json")
    *events, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["event"], one["differs"]) for one in events] == [("o1", False), ("o2", True)]
    assert last["summary"]["workflows"] == {"big_order": {"then": 2, "now": 2, "differ": 1}}


def test_a_story_tells_what_its_type_did(call: Call, shop: Path, tmp_path: Path) -> None:
    order = {"versions": {"2": {}}, "reshape": {"total": 5}, "tags": ["sale"]}
    maps = {"map": {"profile.traits.name": {"append": 1}}}
    types = {"purchase-order": order | maps, "named": {"map": {"profile.traits.name": "Ann"}}}
    named = {"type": "named", "session": "s9"}
    line = {"type": "purchase-order", "id": "o9", "session": "s9", "version": "2"}
    (shop / "event_types.json").write_text(json.dumps({"event_types": types}))
    (tmp_path / "e.ndjson").write_text(f"{json.dumps(named)}\n{json.dumps(line)}")
    assert call("events", "import", "e.ndjson", "--workspace", shop, "--source", "shop").exit_code == 0
    told = call("story", "o9", "--workspace", shop).output
    for part in ("reshaped", "version 2", 'tags ["sale"]', "profile.traits.name: cannot append to a text"):
        assert part in told, told


def test_only_what_was_changed(call: Call, kept: Path, draft: Path) -> None:
    words = ("replay", "--query", "type=purchase-order", "--workspace", draft)
    assert call(*words, "--changed").exit_code == 1
    text = '{"on": {"event": ["*"]}, "nodes": {"note": {"plugin": "log", "config": {"message": "x"}}}}'
    (draft / "workflows/noted.json").write_text(text)
    output = call(*words, "--workflow", "noted").output
    assert "noted ran" in output
    assert "big_order path" not in output
    assert kept == draft


def test_what_segments_make_is_named_and_of_no_workflow(call: Call, kept: Path) -> None:
    file = kept / "segments.json"
    found = json.loads(file.read_text())
    found["segments"]["somebody"] = {"when": "profile.id != none"}
    file.write_text(json.dumps(found))
    words = ("replay", "--query", "type=purchase-order", "--workspace", kept)
    result = call(*words)
    assert result.exit_code == 1, result.output
    assert "internal event somebody" in result.output
    assert "+ now  segment-entered" in result.output
    for narrow in (("--changed",), ("--workflow", "big_order")):
        result = call(*words, *narrow)
        assert (result.exit_code, "somebody" in result.output) == (0, False), result.output


def test_a_refused_event(call: Call, kept: Path) -> None:
    assert call("replay", "o3", "--workspace", kept).exit_code == 0
    (kept / "event_types.json").unlink()
    result = call("replay", "--query", "failed=schema", "--workspace", kept)
    assert result.exit_code == 1, result.output
    assert "- then schema: /properties/total" in result.output
    assert call("replay", "--query", "failed=engine_fault", "--workspace", kept).exit_code == 0
    again = ("replay", "--query", "failed=any", "--workspace", kept, "--apply", "--yes")
    assert "1 event: 1 applied" in call(*again).output
    # What was sent again is left out.
    assert "0 events: nothing to do" in call(*again).output


def test_apply(call: Call, draft: Path) -> None:
    words = ("replay", "--query", "type=purchase-order", "--workspace", draft, "--apply")
    result = call(*words, "--workflow", "big_order")
    assert result.exit_code == 2
    for text in ("--apply runs 2 events for good", "it ran for 2 of them before", "say --yes"):
        assert text in result.output
    result = call(*words, "--workflow", "big_order", "--yes")
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "2 events: 2 applied")
    result = call(*words, "--workflow", "big_order", "--yes", "--json")
    assert json.loads(result.stdout.splitlines()[-1]) == {"summary": {"events": 2, "before": 2}}
    told = call("story", "o1", "--workspace", draft).output
    assert "replays that were applied" in told
    key = told.rpartition("headrace story ")[2].strip()
    assert "a replay of the event with the key" in call("story", key).output
    assert call("replay", key, "--workspace", draft).exit_code == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Say which events"),
        (["o1", "--query", "type=x"], "Say which events"),
        (["--query", "typ=x"], "Did you mean 'type'?"),
        (["--query", "purchase-order"], "It is NAME=VALUE"),
        (["--query", "from=yesterday"], "is not a day or time"),
        (["o9"], "There is no event o9"),
        (["o1", "--workflow", "big_ordr"], "Did you mean 'big_order'?"),
        (["o1", "--mocks", "mocks.json"], "there is no node 'ask'"),
        (["o1", "--mocks", "port.json"], "count has no port 'dne'. Did you mean 'done'?"),
        (["o1", "--mocks", "shape.json"], "--mocks: count.port: Field required"),
        (["o1", "--mocks", "mocks.json", "--apply"], "--mocks are for a dry replay"),
        (["o1", "--apply"], "say which one, by --workflow NAME"),
        (["o3", "--apply", "--workflow", "big_order"], "goes through all workflows"),
    ],
)
def test_wrong_use(words: list[str], says: str, call: Call, kept: Path, tmp_path: Path) -> None:
    (tmp_path / "mocks.json").write_text('{"ask": {"port": "ok"}}')
    (tmp_path / "port.json").write_text('{"count": {"port": "dne"}}')
    (tmp_path / "shape.json").write_text('{"count": {"result": 1}}')
    result = call("replay", *words, "--workspace", kept)
    assert (result.exit_code, says in result.output) == (2, True), result.output


def test_a_draft_with_problems_is_not_applied(call: Call, kept: Path) -> None:
    (kept / "workflows/broken.json").write_text("{")
    words = ("replay", "o1", "--workspace", kept)
    assert call(*words).exit_code == 0
    assert call(*words, "--apply", "--workflow", "big_order", "--yes").exit_code == 2


def test_without_a_store(call: Call, shop: Path, tmp_path: Path) -> None:
    for words in (("replay", "o1", "--workspace", shop), ("story", "o1")):
        result = call(*words)
        assert (result.exit_code, "There is no database" in result.output) == (3, True), result.output
    assert not (tmp_path / "data").exists()


def test_a_story(call: Call, kept: Path) -> None:
    result = call("story", "o1", "--workspace", kept)
    assert result.exit_code == 0, result.output
    for line in (
        "came by import from shop, tenant main",
        "it was made with this request: nothing said whose the event is",
        "count.done → is_big.true → mark.done → thank.done",
    ):
        assert line in result.output
    # Both came at once.
    assert "made with this request" in call("story", "o2").output
    told = json.loads(call("story", "o2", "--workspace", kept, "--json").stdout)
    assert (told["event"]["id"], told["identity"]["by"]) == ("o2", "new")


def test_the_story_of_a_refused_event(call: Call, kept: Path) -> None:
    output = call("story", "o3", "--workspace", kept).output
    assert "It was refused" in output
    assert "/properties/total" in output
    assert call("story", "o9", "--workspace", kept).exit_code == 2
