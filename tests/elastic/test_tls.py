"""The way to a cluster by TLS: the right certificate, a strange one, and no check."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from headrace.engine.store.elastic import ElasticStore
from headrace.engine.store.elastic.place import read_place
from tests.parts.elasticsearch import ElasticsearchNode


def make_certificate(path: Path) -> Path:
    """Make a certificate for the loopback that is its own authority, and its key; returns the file of both."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    key, certificate = path / "key.pem", path / "certificate.pem"
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    both = path / "both.pem"
    both.write_text(key.read_text() + certificate.read_text())
    return both


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def port(elasticsearch_node: ElasticsearchNode, tmp_path: Path) -> AsyncIterator[int]:
    """Put TLS before the node, and give its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(make_certificate(tmp_path))
    host, _, plain_port = elasticsearch_node.host.partition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_node, from_node = await asyncio.open_connection(host, int(plain_port))
        await asyncio.gather(pump(reader, from_node), pump(to_node, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield int(server.sockets[0].getsockname()[1])
    server.close()


async def readiness(url: str) -> tuple[str, str]:
    """Return what a store says of itself, and why."""
    store = ElasticStore(read_place(url), dedup_days=28, request_seconds=10)
    try:
        return await store.ready(), store._setup.text
    finally:
        await store.close()


async def test_a_certificate_that_is_named_is_believed(elastic_url: str, port: int, tmp_path: Path) -> None:
    prefix = read_place(elastic_url).prefix
    ca = f"ca={tmp_path / 'certificate.pem'}"
    assert await readiness(f"elasticsearch+https://127.0.0.1:{port}/{prefix}?{ca}") == ("", "")
    # With `ca` it is TLS in any case: a word that was forgotten does not send the password in the open.
    assert await readiness(f"elasticsearch://127.0.0.1:{port}/{prefix}?{ca}") == ("", "")


async def test_a_strange_certificate_is_not_believed_unless_that_is_said(elastic_url: str, port: int) -> None:
    url = f"elasticsearch+https://127.0.0.1:{port}/{read_place(elastic_url).prefix}"
    code, why = await readiness(url)
    assert code == "store-away"
    assert "certificate" in why.lower()
    assert await readiness(f"{url}?verify=false") == ("", "")
