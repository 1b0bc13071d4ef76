"""Loading a workspace: sources, event types, workflows, and what is broken."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import re2

from headrace.engine.catalog import Catalog, find_plugins
from headrace.engine.errors import WorkspaceError
from headrace.engine.files.event_type import EventType, EventTypeFile
from headrace.engine.files.json_file import MAX_BYTES, read_json_file
from headrace.engine.files.workspace import Workspace, load_workspace
from tests.pace import timed

SOURCES: dict[str, object] = {"sources": {"shop": {}}}
LOG = {"plugin": "log", "config": {"message": "hello"}}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return find_plugins(())


def secrets(name: str) -> str | None:
    return {"SHOP_KEY": "s3cret", "OTHER_KEY": "øther"}.get(name)


def write(folder: Path, file: str, value: object) -> None:
    target = folder / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def workflow(*events: str, **more: object) -> dict[str, object]:
    return {"on": {"event": list(events) or ["order"]}, "nodes": {"a": LOG}, **more}


def load(folder: Path, catalog: Catalog, last: Workspace | None = None) -> Workspace:
    return load_workspace(folder, catalog, secrets, last)


def codes(workspace: Workspace) -> list[str]:
    return [problem.code for problem in workspace.problems]


def load_sources(folder: Path, catalog: Catalog, **sources: object) -> Workspace:
    write(folder, "sources.json", {"sources": sources})
    return load(folder, catalog)


def test_all_optional_files_may_be_missing(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", SOURCES)
    workspace = load(tmp_path, catalog)
    assert workspace.problems == ()
    assert workspace.workflows == ()
    assert workspace.segments == frozenset()
    assert workspace.event_types == {}
    assert workspace.goals == {}
    assert workspace.loaded.tzinfo is not None


def test_without_sources_there_is_no_workspace(tmp_path: Path, catalog: Catalog) -> None:
    with pytest.raises(WorkspaceError, match="headrace init") as raised:
        load(tmp_path, catalog)
    assert "sources.json: is not there" in str(raised.value)


def test_all_problems_of_the_sources_are_named(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", {"sources": {"a": {"tenent": "x"}, "b": {"ip": 5}}})
    with pytest.raises(WorkspaceError) as raised:
        load(tmp_path, catalog)
    assert "sources.a.tenent" in str(raised.value)
    assert "sources.b.ip" in str(raised.value)


def test_defaults_of_a_source(tmp_path: Path, catalog: Catalog) -> None:
    source = load_sources(tmp_path, catalog, shop={}).sources["shop"]
    file = source.file
    assert (source.id, source.tenant, source.enabled, source.is_public) == ("shop", "main", True, True)
    assert (file.consent, file.answers_profile, file.trust_profile_ids, file.debugger) == (False,) * 4
    assert (file.ip, file.respect_dnt, file.bots, file.rate_limit, source.rate) == (
        "mask",
        True,
        "mark",
        None,
        None,
    )
    assert source.doors == {"track", "collect"}
    assert source.doc == {"id": "shop", "tenant": "main", "about": ""}


def test_a_public_source_needs_no_secret(tmp_path: Path, catalog: Catalog) -> None:
    source = load_sources(tmp_path, catalog, shop={}).sources["shop"]
    assert source.accepts(None)
    assert source.accepts("anything")


def test_keys_of_a_source(tmp_path: Path, catalog: Catalog) -> None:
    keys = [{"secret": "SHOP_KEY"}, {"secret": "OTHER_KEY"}]
    source = load_sources(tmp_path, catalog, shop={"keys": keys}).sources["shop"]
    assert source.accepts("s3cret")
    assert source.accepts("øther")
    assert not source.accepts("s3cre")
    assert not source.accepts("")
    assert not source.accepts(None)
    assert not source.accepts("\ud800")
    assert "s3cret" not in repr(source)


def test_a_key_that_is_not_set_opens_nothing(tmp_path: Path, catalog: Catalog) -> None:
    workspace = load_sources(tmp_path, catalog, shop={"keys": [{"secret": "NOT_SET"}]})
    source = workspace.sources["shop"]
    assert codes(workspace) == ["S03"]
    assert not source.is_public
    assert not source.accepts(None)
    assert not source.accepts("")


def test_profile_ids_are_trusted_only_with_a_key(tmp_path: Path, catalog: Catalog) -> None:
    entry = {"trust_profile_ids": True}
    workspace = load_sources(tmp_path, catalog, web=entry, back={**entry, "keys": [{"secret": "SHOP_KEY"}]})
    assert not workspace.sources["web"].trust_profile_ids
    assert workspace.sources["back"].trust_profile_ids


def test_doors(tmp_path: Path, catalog: Catalog) -> None:
    workspace = load_sources(
        tmp_path,
        catalog,
        words={"segment": {"write_keys": ["k"]}, "orbee": {"account": 1, "tracker": "t"}},
        named={"doors": ["pixel"], "bizzkit": {"keys": ["i"]}},
    )
    assert workspace.sources["words"].doors == {"track", "collect", "segment", "orbee"}
    assert workspace.sources["named"].doors == {"pixel"}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://shop.example", True),
        ("HTTPS://Shop.example", True),
        ("https://shop.example:8443", False),
        ("http://shop.example", False),
        ("https://a.shop.test", True),
        ("https://a.b.shop.test", True),
        ("https://shop.test", False),
        ("https://evilshop.test", False),
        ("https://.shop.test", False),
        ("https://evil.example/.shop.test", False),
        ("https://evil.example:80.shop.test", False),
        ("https://evil.example#.shop.test", False),
        ("https://me@evil.example\n.shop.test", False),
        ("http://localhost:3000", True),
        ("null", False),
    ],
)
def test_origins(tmp_path: Path, catalog: Catalog, origin: str | None, allowed: bool) -> None:
    origins = ["https://shop.example/", "https://*.shop.test", "http://localhost:3000"]
    source = load_sources(tmp_path, catalog, shop={"origins": origins}).sources["shop"]
    assert source.allows_origin(origin) is allowed


def test_without_origins_every_origin_may_send(tmp_path: Path, catalog: Catalog) -> None:
    workspace = load_sources(tmp_path, catalog, all={}, none={"origins": []})
    assert workspace.sources["all"].allows_origin("https://any.example")
    assert not workspace.sources["none"].allows_origin("https://any.example")


def test_a_rate_limit(tmp_path: Path, catalog: Catalog) -> None:
    rate = load_sources(tmp_path, catalog, shop={"rate_limit": "100/second"}).sources["shop"].rate
    assert rate is not None
    assert (rate.amount, rate.get_expiry()) == (100, 1)


def order_of(schema: dict[str, Any]) -> EventType:
    return EventType("order", EventTypeFile.model_validate({"schema": schema}))


def test_event_types_check_properties() -> None:
    schema = {"type": "object", "required": ["total"], "properties": {"total": {"minimum": 0}}}
    order = order_of(schema)
    assert order.check({"total": 5}) == []
    assert order.check({"total": -5}) == [("/total", "the value is less than the minimum of 0")]
    assert [error.pointer for error in order.check({})] == [""]
    assert EventType("free", EventTypeFile()).check({"x": 1}) == []


def test_errors_of_an_event_are_bounded_and_do_not_repeat_it() -> None:
    schema = {"additionalProperties": {"type": "number"}}
    errors = order_of(schema).check({f"m/{number}": "my secret" for number in range(1000)})
    assert len(errors) == 20
    assert errors[0].pointer.startswith("/m~1")
    assert not any("my secret" in error.message for error in errors)


def test_patterns_of_a_schema_take_linear_time() -> None:
    slow = order_of({"properties": {"a": {"pattern": "^(a+)+$"}}})
    with timed() as took:
        assert slow.check({"a": "a" * 50_000 + "!"})
    assert took.seconds < 2


def test_numbers_of_any_size_are_checked() -> None:
    order = order_of({"properties": {"n": {"maximum": 5}}})
    assert order.check({"n": 10**400})
    assert order.check({"n": 1}) == []


def test_a_reference_is_never_fetched(tmp_path: Path, catalog: Catalog) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("{}")
    types = {"order": {"schema": {"$ref": secret.as_uri()}}}
    write(tmp_path, "sources.json", SOURCES)
    write(tmp_path, "event_types.json", {"event_types": types})
    workspace = load(tmp_path, catalog)
    assert codes(workspace) == ["E02"]
    assert workspace.event_types == {}


def test_workflows_come_in_their_order(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", SOURCES)
    for name, order in (("b", 0), ("a", 0), ("z", -1), ("c", 5)):
        write(tmp_path, f"workflows/{name}.json", workflow(order=order))
    assert [one.name for one in load(tmp_path, catalog).workflows] == ["z", "a", "b", "c"]


def test_workflows_for_a_type(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", SOURCES)
    write(tmp_path, "workflows/cart.json", workflow("cart-*"))
    write(tmp_path, "workflows/off.json", workflow("cart-add", enabled=False))
    write(tmp_path, "workflows/every.json", workflow("*"))
    workspace = load(tmp_path, catalog)
    assert [one.name for one in workspace.workflows_for("cart-add")] == ["cart", "every", "off"]
    assert [one.name for one in workspace.workflows_for("cart")] == ["every"]
    assert workspace.workflows_for("cart-add") is workspace.workflows_for("cart-add")
    for number in range(10_000):
        workspace.workflows_for(f"type-{number}")
    assert len(workspace._by_type) <= 4096


def test_broken_workflows_are_left_out(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", SOURCES)
    write(tmp_path, "workflows/good.json", workflow())
    write(tmp_path, "workflows/bad.json", "{")
    workspace = load(tmp_path, catalog)
    assert [one.name for one in workspace.workflows] == ["good"]
    assert workspace.broken == ("workflows/bad.json",)


def test_files_that_are_no_workflows(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", SOURCES)
    for file in (".hidden.json", "good.json~", "good.json.swp", "README.md", "good.test.json"):
        write(tmp_path, f"workflows/{file}", "{")
    assert load(tmp_path, catalog).problems == ()


def test_a_file_that_may_not_be_read(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "sources.json", SOURCES)
    write(tmp_path, "workflows/good.json", workflow())
    write(tmp_path, "workflows/secret.json", workflow())
    open_file = os.open

    def refuse(path: Path, flags: int) -> int:
        # Tests may run as root, who may read every file.
        if path.name == "secret.json":
            raise PermissionError(13, "Permission denied")
        return open_file(path, flags)

    monkeypatch.setattr("headrace.engine.files.json_file.os.open", refuse)
    workspace = load(tmp_path, catalog)
    assert [one.name for one in workspace.workflows] == ["good"]
    assert [problem.message for problem in workspace.problems] == ["cannot be read: Permission denied"]


def test_files_that_cannot_be_read(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", SOURCES)
    (tmp_path / "workflows/folder.json").mkdir(parents=True)
    (tmp_path / "workflows/link.json").symlink_to(tmp_path / "nothing.json")
    (tmp_path / "workflows/loop.json").symlink_to(tmp_path / "workflows/loop.json")
    (tmp_path / "segments.json").symlink_to(tmp_path / "nothing.json")
    assert codes(load(tmp_path, catalog)) == ["F01"] * 4


def test_workflows_that_is_a_file(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", SOURCES)
    write(tmp_path, "workflows", "x")
    assert load(tmp_path, catalog).workflows == ()


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "big.json").write_bytes(b"[" + b" " * MAX_BYTES + b"]")
    assert [problem.code for problem in read_json_file(tmp_path, "big.json").problems] == ["F09"]


def test_what_does_not_change_is_not_compiled_again(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", SOURCES)
    write(tmp_path, "workflows/a.json", workflow())
    write(tmp_path, "workflows/b.json", workflow())
    first = load(tmp_path, catalog)
    write(tmp_path, "workflows/b.json", workflow("view"))
    second = load(tmp_path, catalog, first)
    assert second.workflows[0] is first.workflows[0]
    assert second.workflows[1] is not first.workflows[1]
    assert second.workflows[1].version != first.workflows[1].version


def test_a_hundred_workflows_load_fast(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", SOURCES)
    nodes = {
        f"n{number}": {"plugin": "branch", "config": {"when": f"event.properties.total > {number}"}}
        for number in range(10)
    }
    for number in range(100):
        write(tmp_path, f"workflows/w{number}.json", {**workflow(), "nodes": nodes})
    with timed() as took:
        assert len(load(tmp_path, catalog).workflows) == 100
    assert took.seconds < 10


def test_what_is_no_regular_file_is_a_problem_and_hangs_nothing(tmp_path: Path, catalog: Catalog) -> None:
    write(tmp_path, "sources.json", SOURCES)
    write(tmp_path, "workflows/good.json", workflow())
    os.mkfifo(tmp_path / "segments.json")
    os.mkfifo(tmp_path / "workflows/pipe.json")
    (tmp_path / "workflows/folder.json").mkdir()
    (tmp_path / "workflows/zero.json").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        # The path of a socket may have 107 characters only.
        listening.bind(os.path.relpath(tmp_path / "workflows/socket.json"))
        opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        found = [load(tmp_path, catalog) for _ in range(3)][-1]
        assert len(os.listdir("/proc/self/fd")) == opened  # noqa: PTH208
    assert [flow.name for flow in found.workflows] == ["good"]
    assert [(problem.code, problem.message) for problem in found.problems] == [
        ("F01", "cannot be read: it is no regular file")
    ] * 5


@pytest.mark.parametrize("events", [["*a" * 60] * 2000, ["x" * 129]])
def test_names_of_events_are_bounded(tmp_path: Path, catalog: Catalog, events: list[str]) -> None:
    write(tmp_path, "sources.json", SOURCES)
    write(tmp_path, "workflows/large.json", workflow(*events))
    found = load(tmp_path, catalog)
    assert found.workflows == ()
    assert codes(found) == ["M04"]


def test_the_largest_names_of_events_work(
    tmp_path: Path, catalog: Catalog, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "sources.json", SOURCES)
    write(tmp_path, "workflows/large.json", workflow(*[f"{number:03}" + "*a" * 62 for number in range(200)]))
    (large,) = load(tmp_path, catalog).workflows
    assert large.matches("007" + "xa" * 62)
    assert not large.matches("007")

    def too_large(*_: object) -> None:
        raise re2.error("pattern too large")

    monkeypatch.setattr("headrace.engine.workflow.re2.compile", too_large)
    (problem,) = load(tmp_path, catalog).problems
    assert (problem.place, problem.message) == ("on.event", "the names have too many * together")
    assert capfd.readouterr().err == ""
