"""The command `test`: results, coverage, JUnit."""

import re
from pathlib import Path
from xml.etree import ElementTree

from .conftest import Call


def spoil(shop: Path) -> None:
    file = shop / "workflows" / "big_order.test.json"
    file.write_text(file.read_text().replace('"orders": 2}', '"orders": 3}').replace("[]", '["x"]'))


def test_a_wrong_expectation_is_shown_with_the_way_that_was_taken(call: Call, shop: Path) -> None:
    spoil(shop)
    result = call("test", "shop")
    assert result.exit_code == 1
    assert re.sub(r"[\d.]+ (ms|s)\b", "N \\1", result.output) == (
        "shop/workflows/big_order\n"
        "  ✗ a big order makes a big buyer\n"
        "      profile.stats.counters.orders\n"
        "        - expected 3\n"
        "        + came out 2\n"
        "      path taken: count.done → is_big.true → mark.done → thank.done\n"
        "  ✗ a small order only counts\n"
        "      profile.segments\n"
        '        - expected ["x"]\n'
        "        + came out []\n"
        "      path taken: count.done → is_big.false\n"
        "\n"
        "Coverage                          nodes      ports\n"
        "  big_order                          4/4        5/5  100 %\n"
        "\n"
        "2 failed, 0 passed in N s\n"
    )


def test_some_tests_by_a_word(call: Call, shop: Path) -> None:
    spoil(shop)
    result = call("test", "shop", "-k", "SMALL")
    assert "1 failed, 0 passed" in result.output
    assert "Coverage" not in result.output
    assert call("test", "shop", "-k", "no such test").exit_code == 2


def test_too_little_coverage_fails(call: Call, shop: Path) -> None:
    file = shop / "workflows" / "big_order.test.json"
    tests, _, _ = file.read_text().partition('    {\n      "name": "a small')
    file.write_text(tests.rstrip().rstrip(",") + "\n]}")
    assert call("test", "shop", "--fail-under", "80").exit_code == 0
    result = call("test", "shop", "--fail-under", "81")
    assert result.exit_code == 1
    assert "never taken: is_big.false" in result.output
    assert "Less than 81 %" in result.output


def test_a_workflow_without_tests_is_told(call: Call, shop: Path) -> None:
    (shop / "workflows" / "big_order.test.json").unlink()
    result = call("test", "shop")
    assert result.exit_code == 0
    assert "no tests: write workflows/big_order.test.json" in result.output
    assert call("test", "shop", "--fail-under", "1").exit_code == 1


def test_a_file_that_cannot_be_used_fails(call: Call, shop: Path) -> None:
    (shop / "workflows" / "big_order.test.json").write_text("{")
    result = call("test", "shop")
    assert result.exit_code == 1
    assert "F05" in result.output
    (shop / "sources.json").unlink()
    result = call("test", "shop")
    assert result.exit_code == 1
    assert "sources.json" in result.output


def test_junit(call: Call, shop: Path, tmp_path: Path) -> None:
    spoil(shop)
    assert call("test", "shop", "--junit", "out/junit.xml").exit_code == 1
    root = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()  # noqa: S314 - our own file
    (suite,) = root
    assert suite.attrib["name"] == "shop.big_order"
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("2", "2")
    assert "came out 2" in (suite[0][0].text or "")
    (tmp_path / "file").write_text("")
    assert call("test", "shop", "--junit", "file/junit.xml").exit_code == 3
