"""match_pattern and replace_pattern: bounded, and wrong patterns found at load."""

from typing import Any

import pytest
from pydantic import ValidationError

from headrace.engine.plugin import Example
from headrace.engine.testing.example import ExampleRun, run_example
from tests.pace import timed

TEXT = "{{ event.properties.t }}"


async def replaced(text: Any, pattern: str, replacement: str) -> ExampleRun:
    config = {"text": TEXT, "pattern": pattern, "replacement": replacement}
    return await run_example("replace_pattern", Example(config, "", event={"properties": {"t": text}}))


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a{2000}", "x" * 5000])
@pytest.mark.parametrize("plugin", ["match_pattern", "replace_pattern"])
async def test_bad_patterns_are_found_at_load(plugin: str, pattern: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        await run_example(plugin, Example({"text": "x", "pattern": pattern}, ""))


@pytest.mark.parametrize("replacement", ["$", "$2", "${name}", "${", "$ 1"])
async def test_bad_replacements_are_found_at_load(replacement: str) -> None:
    with pytest.raises(ValueError, match="replacement"):
        await replaced("x", "(x)", replacement)


@pytest.mark.parametrize(
    ("text", "pattern", "replacement", "result"),
    [
        ("aé-b", "é", "$0$0", "aéé-b"),
        ("a.b", r"\.", "$$", "a$b"),
        ("ab", "", "-", "-a-b-"),
        ("ab", "(a)|(b)", "[$1|$2]", "[a|][|b]"),
        ("a", "a", r"\1\n", r"\1\n"),
        ("{{ 1 }}", "x", "", "{{ 1 }}"),
        (["a"], '"', "'", "['a']"),
        (None, "a", "b", ""),
    ],
)
async def test_replacement(text: Any, pattern: str, replacement: str, result: str) -> None:
    assert (await replaced(text, pattern, replacement)).result["text"] == result


async def test_results_are_bounded() -> None:
    ran = await replaced("x" * 10_000, "x", "y" * 1000)
    assert (ran.port, ran.error) == ("error", "the result would be longer than 1 MiB")


async def test_time_is_bounded() -> None:
    example = Example(
        {"text": TEXT, "pattern": "(a+)+$"}, "", event={"properties": {"t": "a" * 50_000 + "b"}}
    )
    with timed() as took:
        assert (await run_example("match_pattern", example)).port == "unmatched"
    assert took.seconds < 2


@pytest.mark.parametrize(
    ("text", "pattern", "error"),
    [
        ("a" * 1_000_000, r"[^\d+]", "the pattern looks at texts up to 65,536 bytes, and this has 1,000,000"),
        ("é" * 40_000, "x", "the pattern looks at texts up to 65,536 bytes, and this has 80,000"),
        ("a " * 30_000, r"(?i)\b(\w+\s*){1,200}z$", "the pattern looks at texts up to"),
        ("a" * 10_001, "a|b", "the pattern matches more than 10,000 times"),
        ("order " * 10_000, "order( .* shipped)?", "it takes too much work"),
        ("x" * 65_000, "x(.*y)?", "it takes too much work"),
    ],
)
async def test_texts_matches_and_searching_are_bounded(text: str, pattern: str, error: str) -> None:
    example = Example({"text": TEXT, "pattern": pattern}, "", event={"properties": {"t": text}})
    with timed() as took:
        ran = await replaced(text, pattern, "")
        matched = await run_example("match_pattern", example)
    assert (ran.port, ran.error[: len(error)]) == ("error", error)
    assert matched.port == ("error" if "texts up to" in error else "matched")
    assert took.seconds < 1


async def test_groups_that_did_not_match_are_null() -> None:
    ran = await run_example("match_pattern", Example({"text": "b", "pattern": "(?P<a>a)|b"}, ""))
    assert ran.result == {"groups": {"0": "b", "1": None, "a": None}}
