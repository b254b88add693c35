"""Connections that say nothing, or half of something: how long they stay, and whom they keep out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest
from support.connections import TOKEN, WORDS
from support.eventually import eventually
from support.looking import admin_server

from cdc_sync.core.events import ConnectionDisplaced, Event
from cdc_sync.emulator import Emulator

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
MOST = 4
SHORT, LONG = 0.5, 60.0


class Start(Protocol):
    """Starts a server with so many places and such patience, in seconds; gives its port."""

    async def __call__(self, *, request_within: float = LONG, idle: float = LONG) -> int: ...


@pytest.fixture
def seen() -> list[Event]:
    """What the admin server has observed."""
    return []


@pytest.fixture(params=["admin", "emulator"])
async def start(request: pytest.FixtureRequest, tmp_path: Path, seen: list[Event]) -> AsyncIterator[Start]:
    """Starts each of the servers."""
    async with AsyncExitStack() as stack:

        async def started(*, request_within: float = LONG, idle: float = LONG) -> int:
            if request.param == "admin":
                # It has one patience for both.
                patience = min(request_within, idle)
                server = admin_server(tmp_path, token=TOKEN, observe=seen.append, places=MOST, patience=patience)
                return (await stack.enter_async_context(server)).port
            emulator = Emulator(places=MOST, request_within=request_within, idle=idle)
            return int((await stack.enter_async_context(emulator)).url.rpartition(":")[2])

        yield started


class Connection:
    """A connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self) -> bytes:
        """Ask for the health, and read the whole answer; gives its first line."""
        self.writer.write(HEALTH)
        async with asyncio.timeout(30):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await self.reader.readexactly(int(length.split()[1]))
        return head.partition(b"\r\n")[0]

    async def is_cut_off(self, within: float = 30.0) -> bool:
        """Whether the server ends it without a word."""
        try:
            async with asyncio.timeout(within):
                return await self.reader.read() == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


@asynccontextmanager
async def connected(port: int, words: bytes = b"") -> AsyncIterator[Connection]:
    """A connection, which has sent some words."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(words)
        yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("kind", WORDS)
async def test_who_sends_no_whole_request_is_cut_off(start: Start, kind: str) -> None:
    port = await start(request_within=SHORT)

    async with connected(port, WORDS[kind]) as connection:
        assert await connection.is_cut_off()


async def test_who_sends_it_byte_by_byte_has_no_longer(start: Start) -> None:
    port = await start(request_within=SHORT)
    async with connected(port, WORDS["half a header"]) as connection:
        cut_off = asyncio.create_task(connection.is_cut_off())
        while not cut_off.done():
            connection.writer.write(b"x")
            await asyncio.sleep(SHORT / 10)

        assert await cut_off


async def test_who_has_been_answered_may_ask_again_and_is_cut_off_when_idle(start: Start) -> None:
    port = await start(idle=SHORT)

    async with connected(port) as connection:
        assert (await connection.ask()).startswith(b"HTTP/1.1 ")
        assert (await connection.ask()).startswith(b"HTTP/1.1 ")
        assert await connection.is_cut_off()


async def test_the_next_request_has_no_more_time_than_the_first(start: Start) -> None:
    port = await start(request_within=SHORT)

    async with connected(port) as connection:
        await connection.ask()
        connection.writer.write(WORDS["half a header"])
        assert await connection.is_cut_off()


@pytest.mark.parametrize("kind", WORDS)
async def test_a_new_connection_takes_the_place_of_the_one_that_waits_longest(start: Start, kind: str) -> None:
    port = await start()
    async with AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(connected(port, WORDS[kind])) for _ in range(MOST)]
        newest = await stack.enter_async_context(connected(port))

        assert (await newest.ask()).startswith(b"HTTP/1.1 ")
        assert await idle[0].is_cut_off()
        assert not await idle[1].is_cut_off(within=SHORT)


async def test_the_admin_server_says_whom_it_cut_off(tmp_path: Path, seen: list[Event]) -> None:
    async with admin_server(tmp_path, observe=seen.append, places=1) as server, connected(server.port):
        assert seen == []
        async with connected(server.port) as another:
            await another.ask()

            assert seen == [ConnectionDisplaced()]


async def test_where_all_are_being_answered_a_new_connection_is_refused() -> None:
    async with Emulator(places=2) as running, AsyncExitStack() as stack:
        port = int(running.url.rpartition(":")[2])
        waits = b"GET /_emulator/calls?wait=60 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        asking = [await stack.enter_async_context(connected(port, waits)) for _ in range(2)]
        await eventually(lambda: len(running._listener._waiting) == 0, "both are being answered")

        async with connected(port, HEALTH) as late:
            assert await late.is_cut_off()
        assert not await asking[0].is_cut_off(within=SHORT)
        asking[0].writer.close()
        await eventually(lambda: can_ask(port), "a place is free")


async def can_ask(port: int) -> bool:
    """Whether a new connection is answered."""
    try:
        async with connected(port) as connection:
            return (await connection.ask()).startswith(b"HTTP/1.1 ")
    except (asyncio.IncompleteReadError, ConnectionError):
        return False


async def test_a_long_answer_may_take_its_time_as_long_as_some_of_it_is_taken() -> None:
    async with Emulator(idle=SHORT) as running:
        running.known = frozenset(f"{number:>1000}" for number in range(20_000))
        port = int(running.url.rpartition(":")[2])
        ask = b"GET /_emulator/applications HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        taken = 0
        async with connected(port, ask) as connection, asyncio.timeout(60):
            # As slow as it takes several of the server's looks.
            while piece := await connection.reader.read(1_000_000):
                taken += len(piece)
                await asyncio.sleep(0.08)
        assert taken > 20_000_000


async def test_a_long_answer_that_nobody_takes_is_given_up() -> None:
    async with Emulator(idle=SHORT) as running:
        running.known = frozenset(f"{number:>1000}" for number in range(20_000))
        port = int(running.url.rpartition(":")[2])
        async with connected(port, b"GET /_emulator/applications HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
            await eventually(lambda: len(running._listener._open) == 1, "it was taken")
            await eventually(lambda: not running._listener._open, "it is given up", within=30)
