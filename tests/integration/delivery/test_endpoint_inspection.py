"""What `cdc-sync check` finds of HelloWork's API, step by step, and that it tells it nothing."""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from support import wire
from support.configurations import LEAST, a_config
from support.emulated import Emulator, EmulatorOptions
from support.wire import saying, wire_server

from cdc_sync.cli.check import check_endpoint
from cdc_sync.core.findings import Finding

CERTIFICATE = Path(wire.__file__).with_name("localhost.pem")
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
def tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


async def test_it_is_there_and_was_told_nothing() -> None:
    async with Emulator(EmulatorOptions(required_headers=HEADERS)) as emulator:
        findings = await found(emulator.url, headers=HEADERS)

        assert emulator.calls == []
    assert wrong(findings) == {}
    assert set(findings) == {"endpoint", "endpoint-clock", "headers"}


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


async def test_a_certificate_that_nobody_vouches_for(tls: ssl.SSLContext) -> None:
    async with wire_server(saying(NOT_FOUND), name="localhost", tls=tls) as server:
        findings = await found(server.url)

        assert server.requests == []
    assert wrong(findings) == {"endpoint": "failed"}
    assert "self-signed certificate" in findings["endpoint"].message
    assert "ca-certificates" in (findings["endpoint"].remedy or "")


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


async def test_the_clock_of_the_other_side() -> None:
    dated = NOT_FOUND.replace(b"\r\n\r\n", b"\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\n\r\n")
    async with wire_server(saying(dated)) as server:
        findings = await found(server.url)

    assert wrong(findings) == {"endpoint-clock": "warning"}


@pytest.mark.usefixtures("trusted")
async def test_allowed_hosts_are_asked_too() -> None:
    findings: list[Finding] = []
    async with Emulator() as emulator:
        changes = {"hellowork.base_url": emulator.url, "hellowork.allowed_hosts": ["nowhere.invalid", "localhost"]}
        await check_endpoint(a_config(changes), findings.append)

    (failed,) = (finding for finding in findings if finding.state != "ok")
    assert failed.check == "endpoint"
    assert "nowhere.invalid" in failed.message


@pytest.mark.parametrize("section", ["watches.applications.hellowork.headers", "hellowork.headers"])
async def test_headers_of_a_watch_are_credentials_too(section: str) -> None:
    findings: list[Finding] = []
    changes = {"hellowork.base_url": "https://nowhere.invalid", "hellowork.headers": {}, section: HEADERS}
    await check_endpoint(a_config(changes), findings.append)

    (headers,) = (finding for finding in findings if finding.check == "headers")
    assert (headers.state, headers.watch) == ("ok", None)
    assert "X-Api-Key" in headers.message
    assert "planted-secret" not in headers.message


async def test_a_watch_without_headers_beside_others_that_have_some() -> None:
    findings: list[Finding] = []
    watch = yaml.safe_load(LEAST)["watches"]["applications"]
    changes = {
        "hellowork.base_url": "https://nowhere.invalid",
        "hellowork.headers": {},
        "watches.others": {**watch, "hellowork": {"headers": HEADERS}},
    }
    await check_endpoint(a_config(changes), findings.append)

    (headers,) = (finding for finding in findings if finding.check == "headers")
    assert headers.state == "warning"
    assert headers.message.startswith("calls for applications carry no headers")
