"""The OpenAPI document, the reference made from it, and the page."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.api.openapi import http_reference, openapi
from headrace.api.pages import find_assets
from headrace.api.routes import ROUTES
from tests.api.conftest import Server


async def test_the_document_describes_every_path(server: Server) -> None:
    answer = await server.client.get("/openapi.json")
    assert answer.status_code == 200
    document = answer.json()
    assert document["openapi"] == "3.1.0"
    assert document == openapi()
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.path, route.method) for route in ROUTES}


def test_every_reference_leads_somewhere() -> None:
    text = str(openapi())
    schemas = openapi()["components"]["schemas"]
    names = re.findall(r"#/components/schemas/(\w+)", text)
    assert {"TrackBody", "TrackAnswer", "Problem", "Items"} <= set(names)
    assert all(name in schemas for name in names)


def test_names_of_operations_are_unique() -> None:
    names = [route.name for route in ROUTES]
    assert len(names) == len(set(names))


def test_the_body_of_track_is_described_from_its_type() -> None:
    body = openapi()["components"]["schemas"]["TrackBody"]
    assert body["required"] == ["source", "session", "events"]
    assert set(body["properties"]) == {
        "source",
        "session",
        "events",
        "profile",
        "context",
        "properties",
        "options",
        "sentAt",
    }
    options = openapi()["components"]["schemas"]["OptionsBody"]["properties"]
    assert set(options) == {"debugger", "profile", "saveSession", "saveEvents"}


def test_the_reference_has_every_path_and_status() -> None:
    page = http_reference()
    for route in ROUTES:
        assert f"### {route.method} {route.path}\n" in page
        for given in route.answers.values():
            assert given.about in page


async def test_the_page_needs_no_other_host(server: Server) -> None:
    page = await server.client.get("/docs")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        assert not link.startswith(("http", "//"))
        asset = await server.client.get(f"/{link}")
        assert asset.status_code == 200
        assert len(asset.content) > 50
    assert "<script>" not in page.text


def test_the_installed_page_knows_openapi_31() -> None:
    script = find_assets()["swagger-ui-bundle.js"].read_text(encoding="utf-8")
    version = re.search(r'PACKAGE_VERSION:"(\d+)\.', script)
    assert version is not None
    assert int(version.group(1)) >= 5


@pytest.mark.parametrize("name", ["swagger-editor.js", "../__init__.py", "%2e%2e%2f__init__.py", "x"])
async def test_no_other_file_is_served(server: Server, name: str) -> None:
    assert (await server.client.get(f"/docs/{name}")).status_code == 404


def test_the_server_keeps_to_the_document(start: Any, tmp_path: Path) -> None:
    process = start()
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance"
    )
    found = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"http://127.0.0.1:{process.port}/openapi.json",
            "--header=Authorization: Bearer a",
            f"--checks={checks},response_schema_conformance,unsupported_method",
            "--phases=coverage,fuzzing",
            "--max-examples=20",
            "--seed=1",
            "--no-color",
        ],
        # It leaves a folder where it runs.
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout
