"""The request as it leaves, to the byte."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from support import wire
from support.builders import CREATED, NOW
from support.configurations import a_config
from support.emulated import Emulator
from support.sending import an_entry
from support.wire import UPDATED, saying, wire_server

from cdc_sync import __version__
from cdc_sync.cli.check import check_endpoint
from cdc_sync.core.content import Content, request
from cdc_sync.core.findings import Finding
from cdc_sync.core.replies import Reply
from cdc_sync.core.status_url import DEFAULT_ACCOUNT, build
from cdc_sync.delivery.client import Client

# HelloWork's page "Envoi changements de statut", with the white space that we send.
TEXT_SOURCE = '"hellowork.com"'
BODY_WITH_TEXT_SOURCE = (
    b'{"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z", '
    b'"jobId": "2022-001-developer", "source": "hellowork.com"}'
)
OBJECT_SOURCE = '{"sourceTypeId": "DIRECT_SOURCING", "sourceSubTypeId": "ClientId", "sourceId": "CVCatcherWebsite"}'
BODY_WITH_OBJECT_SOURCE = (
    b'{"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z", '
    b'"jobId": "2022-001-developer", '
    b'"source": {"sourceTypeId": "DIRECT_SOURCING", "sourceSubTypeId": "ClientId", "sourceId": "CVCatcherWebsite"}}'
)


def documented(base_url: str, source: str) -> Content:
    return Content(
        status="NEW_STATUS",
        job_id="2022-001-developer",
        deleted=False,
        created=CREATED,
        event_date=NOW,
        source=source,
        extra=None,
        url=build(base_url, "a1"),
    )


@pytest.mark.parametrize(
    ("source", "body"), [(TEXT_SOURCE, BODY_WITH_TEXT_SOURCE), (OBJECT_SOURCE, BODY_WITH_OBJECT_SOURCE)]
)
async def test_the_documented_calls(client: Client, source: str, body: bytes) -> None:
    async with wire_server(saying(UPDATED)) as wire:
        content = documented(wire.url, source)

        answer = await client.call(an_entry(base_url=wire.url)._replace(content=content))

    assert answer == (Reply(200, "application/json"), '{"result": "Status was updated successfully"}')
    assert wire.request == (
        "POST /v1/applications/a1/status HTTP/1.1",
        {
            "host": f"127.0.0.1:{wire.port}",
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"cdc-sync/{__version__}",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "idempotency-key": request("a1", content)[1],
            "x-api-key": "planted-secret",
        },
        body,
    )


@pytest.mark.parametrize(
    ("application_id", "segment"),
    [
        ("../../admin", "..%2F..%2Fadmin"),
        ("100%", "100%25"),
        ("a%2Fb", "a%252Fb"),
        ("Zoé €😀", "Zo%C3%A9%20%E2%82%AC%F0%9F%98%80"),
        ("?x=1&y#z;+", "%3Fx%3D1%26y%23z%3B%2B"),
    ],
)
async def test_an_id_cannot_leave_its_place_in_the_path(
    client: Client, hellowork: Emulator, application_id: str, segment: str
) -> None:
    reply, _ = await client.call(an_entry(application_id, base_url=hellowork.url))

    (call,) = hellowork.calls
    assert call.path == f"/v1/applications/{segment}/status"
    assert (call.application_id, call.violations, reply.status) == (application_id, (), 200)


async def test_a_configured_header_takes_the_place_of_ours_however_it_is_spelt() -> None:
    headers = {"user-agent": "ATS 4.2", "ACCEPT": "*/*", "X-Name": "Zoé"}
    async with (
        Client({DEFAULT_ACCOUNT: headers}, timeout=20, connections=1) as client,
        wire_server(saying(UPDATED)) as wire,
    ):
        await client.call(an_entry(base_url=wire.url))

    _, sent, _ = wire.request
    assert (sent["user-agent"], sent["accept"]) == ("ATS 4.2", "*/*")
    assert sent["x-name"].encode("latin-1").decode() == "Zoé"


async def test_each_call_has_the_headers_of_its_account_and_no_others() -> None:
    accounts = {"default": {"X-Api-Key": "shared-secret", "X-Vendor": "v"}, "quiet": {"x-api-key": "planted-secret"}}
    answer = b"HTTP/1.1 401 No\r\nContent-Length: 14\r\n\r\nplanted-secret"
    sent, texts = {}, {}
    async with Client(accounts, 20, 1) as client:
        for account in accounts:
            async with wire_server(saying(answer)) as wire:
                _, texts[account] = await client.call(an_entry(base_url=wire.url, account=account))
            sent[account] = wire.request[1].get("x-api-key"), wire.request[1].get("x-vendor")

    assert sent == {"default": ("shared-secret", "v"), "quiet": ("planted-secret", None)}
    assert "planted-secret" not in texts["quiet"]


async def test_an_account_without_headers_makes_no_call() -> None:
    async with Client({DEFAULT_ACCOUNT: {}}, 20, 1) as client, wire_server(saying(UPDATED)) as wire:
        reply, _ = await client.call(an_entry(base_url=wire.url, account="gone"))

    assert (reply.status, wire.requests) == (None, [])


async def test_a_body_waits_for_no_permission() -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + UPDATED
    client = Client({DEFAULT_ACCOUNT: {"Expect": "100-continue"}}, timeout=20, connections=1)
    async with client, wire_server(saying(answer)) as wire:
        reply, _ = await client.call(an_entry(base_url=wire.url))

    assert reply.status == 200
    assert wire.request[1]["expect"] == "100-continue"


# TLS: only a certificate that is trusted, and that bears the host's name, is talked to.


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


async def test_renewed_authorities_count_for_a_new_client(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with (
        wire_server(saying(UPDATED), name="localhost", tls=tls) as server,
        Client({DEFAULT_ACCOUNT: {}}, timeout=20, connections=1) as client,
    ):
        reply, _ = await client.call(an_entry(base_url=server.url))

    assert reply.status == 200


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


# What `cdc-sync check` finds of HelloWork's API, step by step, and that it tells it nothing.


HEADERS = {"X-Api-Key": "planted-secret"}
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def found(base_url: str, **hellowork: object) -> dict[str, Finding]:
    changes = {f"hellowork.{name}": value for name, value in {"base_url": base_url, **hellowork}.items()}
    findings: list[Finding] = []
    await check_endpoint(a_config(changes), findings.append)
    return {finding.check: finding for finding in findings}


def wrong(findings: Mapping[str, Finding]) -> dict[str, str]:
    return {name: finding.state for name, finding in findings.items() if finding.state != "ok"}


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


@pytest.mark.usefixtures("trusted")
async def test_one_head_without_secrets_is_all_that_is_asked(tls: ssl.SSLContext) -> None:
    async with wire_server(saying(NOT_FOUND), name="localhost", tls=tls) as server:
        findings = await found(f"{server.url}/ats", headers=HEADERS)

        ((line, headers, body),) = [server.request]
    assert wrong(findings) == {}
    assert line == "HEAD /ats HTTP/1.1"
    assert body == b""
    assert not {"x-api-key", "authorization", "cookie"} & set(headers)


async def test_a_name_that_is_not_known() -> None:
    findings = await found("https://nowhere.invalid")

    assert wrong(findings) == {"endpoint": "failed", "headers": "warning"}
    assert "--head https://nowhere.invalid" in (findings["endpoint"].remedy or "")
    assert "X-Api-Key" in (findings["headers"].remedy or "")


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "warning"),
        (b"SSH-2.0-OpenSSH_9.7\r\n", "failed"),
        (b"", "failed"),
    ],
)
async def test_what_does_not_answer_well(answer: bytes, state: str) -> None:
    async with wire_server(saying(answer)) as server:
        findings = await found(server.url)

    assert wrong(findings) == {"endpoint": state}
    assert "curl " in (findings["endpoint"].remedy or "")


async def test_whoever_does_not_answer_is_not_waited_for_for_ever() -> None:
    async def silence(_: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with wire_server(silence) as server:
        findings = await found(server.url, timeout="200ms")

    assert wrong(findings) == {"endpoint": "failed"}
    assert "Timeout" in findings["endpoint"].message


@pytest.mark.usefixtures("trusted")
async def test_allowed_hosts_are_asked_too() -> None:
    findings: list[Finding] = []
    async with Emulator() as emulator:
        changes = {"hellowork.base_url": emulator.url, "hellowork.allowed_hosts": ["nowhere.invalid", "localhost"]}
        await check_endpoint(a_config(changes), findings.append)

    (failed,) = (finding for finding in findings if finding.state != "ok")
    assert failed.check == "endpoint"
    assert "nowhere.invalid" in failed.message
