"""Connections that say nothing, or half of something: whom they keep out of the admin server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from support.connections import TOKEN, WORDS
from support.looking import admin_server

from cdc_sync.core.events import ConnectionDisplaced, Event

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
