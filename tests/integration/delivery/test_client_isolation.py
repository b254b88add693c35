"""What a call must not do: follow, go round about, remember, unpack."""

import asyncio
import gzip
import tracemalloc
from pathlib import Path

import pytest
from support.emulated import Emulator
from support.faults import Status
from support.sending import an_entry
from support.wire import OK, saying, wire_server

from cdc_sync.core.replies import Reply
from cdc_sync.core.status_url import DEFAULT_ACCOUNT
from cdc_sync.delivery.client import EXCERPT, READ_LIMIT, Client

MIB = 1024 * 1024

ACCEPTED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(client: Client, hellowork: Emulator, status: int) -> None:
    async with Emulator() as elsewhere:
        target = f"{elsewhere.url}/v1/applications/a1/status"
        hellowork.inject(Status(status=status, headers={"Location": target}))

        reply, _ = await client.call(an_entry(base_url=hellowork.url))

        assert reply.status == status
        assert elsewhere.calls == []
        assert len(hellowork.calls) == 1


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_no_proxy_is_taken_from_the_environment(
    hellowork: Emulator, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    async with Emulator() as proxy:
        monkeypatch.setenv(variable, proxy.url)
        async with Client({DEFAULT_ACCOUNT: {}}, timeout=20, connections=1) as client:
            reply, _ = await client.call(an_entry(base_url=hellowork.url))

        assert reply.status == 200
        assert proxy.calls == []


async def test_no_credentials_are_taken_from_netrc(
    hellowork: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password planted-secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with Client({DEFAULT_ACCOUNT: {}}, timeout=20, connections=1) as client:
        await client.call(an_entry(base_url=hellowork.url))

    (call,) = hellowork.calls
    assert "Authorization" not in call.headers


async def test_no_cookie_is_kept(client: Client, hellowork: Emulator) -> None:
    hellowork.inject(Status(status=200, headers={"Set-Cookie": "session=1; Path=/"}))
    # By name: to keep a cookie of a bare address would be odd in any case.
    url = hellowork.url.replace("127.0.0.1", "localhost")
    for _ in range(2):
        await client.call(an_entry(base_url=url))

    assert [call.headers.get("Cookie") for call in hellowork.calls] == [None, None]


async def test_a_compressed_answer_is_not_unpacked(client: Client) -> None:
    bomb = gzip.compress(bytes(80 * MIB))
    assert len(bomb) > READ_LIMIT
    answer = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb
    async with wire_server(saying(answer)) as wire:
        tracemalloc.start()
        try:
            reply, text = await client.call(an_entry(base_url=wire.url))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert reply == Reply(200, "application/json")
    assert len(text) <= EXCERPT
    assert text.startswith("\x1f")
    assert peak < 4 * MIB


async def test_of_an_endless_answer_no_more_is_read_than_the_limit(client: Client) -> None:
    gone = asyncio.Event()
    sent = 0

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        try:
            while True:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
        finally:
            gone.set()

    async with wire_server(pour) as wire:
        tracemalloc.start()
        try:
            reply, text = await client.call(an_entry(base_url=wire.url))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        async with asyncio.timeout(20):
            # The connection was given up: what the kernel had taken in between is all that was ever sent.
            await gone.wait()

    assert (reply, text) == (Reply(200, "application/json"), "x" * EXCERPT)
    assert peak < 4 * MIB
    assert sent < 64 * MIB


async def test_what_came_unasked_on_an_idle_connection_answers_no_call(client: Client) -> None:
    idle = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        if len(wire.requests) > 1:
            writer.write(REFUSED)
            return
        writer.write(ACCEPTED)
        await idle.wait()
        writer.write(ACCEPTED)
        await asyncio.Event().wait()

    async with wire_server(answer) as wire:
        entry = an_entry(base_url=wire.url)
        first, _ = await client.call(entry)
        idle.set()
        await asyncio.sleep(0.1)
        second, _ = await client.call(entry)
        third, _ = await client.call(entry)

    assert (first.status, second.status, third.status) == (200, None, 400)
    assert len(wire.requests) == 2
