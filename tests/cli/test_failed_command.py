"""The command `failed`: listed, shown, mended, sent again."""

import json
from pathlib import Path

import pytest

from .conftest import Call

ORDER = (
    '{"type": "purchase-order", "id": "%s", "session": "s1", "source": "shop", "properties": {"total": %s}}'
)


@pytest.fixture
def kept(call: Call, shop: Path, tmp_path: Path) -> dict[str, str]:
    """Refuse two events, and return the ids of the failed ones by the events' ids."""
    (tmp_path / "events.ndjson").write_text("\n".join((ORDER % ("o1", '"much"'), ORDER % ("o2", "-5"))))
    assert call("events", "import", "events.ndjson", "--workspace", shop).exit_code == 1
    return {doc["event"]: doc["id"] for doc in json.loads(call("failed", "list", "--json").stdout)}


def test_hours_are_bounded(call: Call) -> None:
    for hours in (-1, 99_999_999_999_999, "nan"):
        result = call("failed", "list", "--within", hours)
        assert (result.exit_code, "--within" in result.stderr) == (2, True), hours


def test_they_are_listed_and_shown(call: Call, kept: dict[str, str]) -> None:
    result = call("failed", "list", "--type", "purchase-order", "--source", "shop", "--within", 1)
    assert result.exit_code == 0, result.output
    assert all(id in result.output for id in kept.values())
    assert "There are none." in call("failed", "list", "--type", "other").output
    shown = call("failed", "show", kept["o1"]).output
    for part in ("o1 schema", "/properties/total the value is not of type", 'properties: {"total": "much"}'):
        assert part in shown, shown
    assert json.loads(call("failed", "show", kept["o1"], "--json").stdout)["event"] == "o1"
    assert json.loads(call("failed", "show", kept["o1"], "--raw").stdout)["properties"] == {"total": "much"}
    # By the id of its event too.
    assert json.loads(call("failed", "show", "o1", "--json").stdout)["id"] == kept["o1"]
    assert call("failed", "show", "nothing").exit_code == 2
    assert call("failed", "show", kept["o1"], "--tenant", "other").exit_code == 2


def test_one_is_mended_and_sent_again(call: Call, shop: Path, kept: dict[str, str], tmp_path: Path) -> None:
    again = call("failed", "resend", *kept.values(), "--workspace", shop)
    assert again.exit_code == 1
    assert "0 events taken." in again.output
    assert again.output.count("It was refused again.") == 2
    raw = json.loads(call("failed", "show", kept["o1"], "--raw").stdout)
    (tmp_path / "event.json").write_text(json.dumps(raw | {"properties": {"total": 150}}))
    sent = call("failed", "resend", "o1", "--with", "event.json", "--workspace", shop)
    assert (sent.exit_code, "1 events taken." in sent.output) == (0, True), sent.output
    left = json.loads(call("failed", "list", "--json").stdout)
    assert [doc["event"] for doc in left] == ["o2"]
    assert len(json.loads(call("failed", "list", "--all", "--json").stdout)) == 2
    assert "sent again" in call("failed", "show", kept["o1"]).output
    story = call("story", "o1", "--source", "shop").output
    assert all(part in story for part in ("is_big", "refused under its id", "sent again"))
    # From standard input, and a second time.
    words = ("failed", "resend", kept["o2"], "--with", "-", "--workspace", shop)
    for _ in range(2):
        assert call(*words, input='{"properties": {"total": 5}}').exit_code == 0
    assert "There are none." in call("failed", "list").output


def test_what_cannot_be_sent_again(call: Call, shop: Path, kept: dict[str, str], tmp_path: Path) -> None:
    words = ("failed", "resend", "--workspace", shop)
    missing = call(*words, "nothing")
    assert (missing.exit_code, "There is no such failed event." in missing.output) == (1, True)
    assert call(*words, "nothing", "--with", "-", input="{}").exit_code == 1
    assert call(*words, *kept.values(), "--with", "-", input="{}").exit_code == 2
    assert call(*words, kept["o1"], "--with", "no.json").exit_code == 2
    assert call(*words, kept["o1"], "--with", "-", input="{").exit_code == 2
    wrong = call(*words, kept["o1"], "--with", "-", input='{"propertys": {}, "id": "x"}')
    assert wrong.exit_code == 1
    assert "/propertys is not known (Did you mean 'properties'?)" in " ".join(wrong.output.split())
    assert "/id cannot be changed" in " ".join(wrong.output.split())
    assert call("failed", "resend", kept["o1"], "--workspace", tmp_path).exit_code == 3
