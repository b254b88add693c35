"""The emulator as its clients see it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from support.connections import TOKEN, WORDS
from support.looking import admin_server

from cdc_sync.core.events import ConnectionDisplaced, Event
from cdc_sync.emulator.server import Emulator

BODY = {
    "status": "NEW_STATUS",
    "eventDate": "2023-01-10T09:00:00.000Z",
    "created": "2023-01-01T09:00:00.000Z",
    "jobId": "2022-001-developer",
}
UPDATED = {"result": "Status was updated successfully"}


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def send(
    client: aiohttp.ClientSession,
    emulator: Emulator,
    path: str = "/v1/applications/a-1/status",
    raw: bytes | None = None,
    **headers: str,
) -> tuple[int, dict[str, object]]:
    data = json.dumps(BODY).encode() if raw is None else raw
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with client.post(emulator.url + path, data=data, headers=sent) as answer:
        return answer.status, await answer.json()


async def test_a_good_call_is_acknowledged_and_recorded(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    assert await send(client, emulator, Idempotency_Key="k-1") == (200, UPDATED)
    (call,) = emulator.calls
    assert (call.status, call.violations, call.idempotency_key) == (200, (), "k-1")
    assert (call.application_id, call.body, json.loads(call.raw)) == ("a-1", BODY, BODY)


async def test_a_bad_call_is_refused_with_every_violation(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    status, answer = await send(client, emulator, raw=b'{"applicationId": "a"}', Content_Type="text/plain")
    assert (status, answer["statusCode"], answer["error"]) == (400, 400, "Bad Request")
    (call,) = emulator.calls
    assert answer["message"] == "; ".join(call.violations)
    assert len(call.violations) == 6


# Connections that say nothing, or half of something: whom they keep out of the admin server.


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
MOST = 4


@asynccontextmanager
async def connected(port: int, words: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, which has sent some words."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(words)
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def is_cut_off(reader: asyncio.StreamReader, within: float) -> bool:
    """Whether the server ends the connection without a word."""
    try:
        async with asyncio.timeout(within):
            return await reader.read() == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("kind", WORDS)
async def test_a_new_connection_takes_the_place_of_the_oldest(tmp_path: Path, kind: str) -> None:
    seen: list[Event] = []
    async with (
        admin_server(tmp_path, token=TOKEN, observe=seen.append, places=MOST) as admin,
        AsyncExitStack() as stack,
    ):
        idle = [await stack.enter_async_context(connected(admin.port, WORDS[kind])) for _ in range(MOST)]
        assert seen == []
        reader, _ = await stack.enter_async_context(connected(admin.port, HEALTH))

        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert await is_cut_off(idle[0][0], within=30)
        assert not await is_cut_off(idle[1][0], within=0.5)
        assert seen == [ConnectionDisplaced()]
