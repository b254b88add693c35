"""TLS: only a certificate that is trusted, and that bears the host's name, is talked to."""

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from support import wire
from support.sending import an_entry
from support.wire import UPDATED, saying, wire_server

from cdc_sync.delivery.client import Client

CERTIFICATE = Path(wire.__file__).with_name("localhost.pem")

CALL = """
import asyncio, sys
from cdc_sync.core.status_url import DEFAULT_ACCOUNT
from cdc_sync.delivery.client import Client
from support.sending import an_entry
async def main():
    async with Client({DEFAULT_ACCOUNT: {}}, timeout=20, connections=1) as client:
        print((await client.call(an_entry(base_url=sys.argv[1])))[0])
asyncio.run(main())
"""
"""A call by a process of its own: whom it trusts is settled when it starts."""


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return context


async def call_trusting(certificate: Path, base_url: str) -> str:
    environment = {**os.environ, "SSL_CERT_FILE": str(certificate), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CALL, base_url, env=environment, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output.decode()


async def test_a_certificate_that_nobody_vouches_for(client: Client, tls: ssl.SSLContext) -> None:
    async with wire_server(saying(UPDATED), name="localhost", tls=tls) as server:
        reply, _ = await client.call(an_entry(base_url=server.url))

    assert reply.failure is not None
    assert reply.failure.startswith("TLS: the certificate is not trusted (")
    assert "self-signed certificate" in reply.failure
    assert server.requests == []


async def test_a_certificate_that_is_trusted(tls: ssl.SSLContext) -> None:
    async with wire_server(saying(UPDATED), name="localhost", tls=tls) as server:
        assert "status=200" in await call_trusting(CERTIFICATE, server.url)

    assert len(server.requests) == 1


async def test_a_certificate_for_another_name(tls: ssl.SSLContext) -> None:
    async with wire_server(saying(UPDATED), name="127.0.0.1", tls=tls) as server:
        said = await call_trusting(CERTIFICATE, server.url)

    assert "TLS: the certificate is not trusted (" in said
    assert "127.0.0.1" in said
    assert server.requests == []


@pytest.mark.parametrize(
    ("greeting", "failure"),
    [
        (b"", "no connection to 127.0.0.1:{port} ("),
        (b"HTTP/1.1 400 Bad Request\r\n\r\nThis is a plain HTTP port", "TLS: wrong version number"),
        (b"SSH-2.0-OpenSSH_9.7\r\n", "TLS: wrong version number"),
    ],
)
async def test_the_other_end_speaks_no_tls(client: Client, greeting: bytes, failure: str) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reply, _ = await client.call(an_entry(base_url=f"https://127.0.0.1:{port}"))

    assert reply.failure is not None
    assert reply.failure.startswith(failure.format(port=port))
