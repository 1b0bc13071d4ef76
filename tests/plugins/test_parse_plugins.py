"""parse_json and parse_url: whatever an event may hold."""

from typing import Any

import pytest

from headrace.engine.plugin import Example
from headrace.engine.testing.example import ExampleRun, run_example
from tests.pace import timed


async def parsed(plugin: str, field: str, value: Any) -> ExampleRun:
    config = {field: "{{ event.properties.v }}"}
    return await run_example(plugin, Example(config, "", event={"properties": {"v": value}}))


@pytest.mark.parametrize(
    "text", ["", " ", "{", "NaN", "1e999", "[1,]", '"\\ud800"', "[" * 100_000, "{} {}", "'a'", "\x00"]
)
async def test_bad_json(text: str) -> None:
    ran = await parsed("parse_json", "text", text)
    assert (ran.port, ran.error) == ("invalid", "")
    assert ran.result["reason"]


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("null", None), (" [1, {}] ", [1, {}]), ('"ä"', "ä")])
async def test_good_json(text: str, value: Any) -> None:
    assert (await parsed("parse_json", "text", text)).result == {"value": value}


async def test_json_that_is_parsed_already_stays() -> None:
    assert (await parsed("parse_json", "text", {"a": [1]})).result == {"value": {"a": [1]}}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "//a.b/c",
        "http://",
        "http://[::1",
        "http://a:b",
        "http://a:99999",
        "mailto:a@b.c",
        None,
        7,
        ["x"],
    ],
)
async def test_bad_urls(url: Any) -> None:
    ran = await parsed("parse_url", "url", url)
    assert (ran.port, ran.error) == ("invalid", "")


async def test_url_with_too_many_parameters() -> None:
    ran = await parsed("parse_url", "url", "http://a.b/?" + "&".join(f"a{n}=1" for n in range(2000)))
    assert ran.port == "invalid"


async def test_odd_urls() -> None:
    ran = await parsed("parse_url", "url", " HTTPS://User:pw@[2001:DB8::1]/%20?a=&b=%C3%A4&a=2&c ")
    assert ran.result == {
        "scheme": "https",
        "host": "2001:db8::1",
        "port": None,
        "path": "/%20",
        "query": {"a": "", "b": "ä", "c": ""},
        "fragment": "",
    }


async def test_numbers_that_take_long_to_read_cost_little() -> None:
    text = "[" + "1e300," * 100_000 + "1]"
    with timed() as took:
        ran = await parsed("parse_json", "text", text)
    assert ran.port == "parsed"
    assert took.seconds < 0.4
    assert (await parsed("parse_json", "text", "[1e400]")).port == "invalid"
