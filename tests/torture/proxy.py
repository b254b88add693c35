"""A TCP proxy between the daemon and PostgreSQL, which can cut, stall and deafen the connections that go through it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Literal

_CHUNK = 65_536

Direction = Literal["requests", "answers"]
BOTH: tuple[Direction, ...] = ("requests", "answers")


class _Link:
    """A client's connection and the one to the server; what a closed gate holds back is not lost."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.ends = (client, server)
        self.gates: dict[Direction, asyncio.Event] = {direction: asyncio.Event() for direction in BOTH}
        self.open()

    def open(self) -> None:
        for gate in self.gates.values():
            gate.set()

    def cut(self) -> None:
        for end in self.ends:
            end.transport.abort()
        self.open()


class Proxy:
    """Made by `proxy()`.

    Attributes:
        port: where it listens on 127.0.0.1.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._links: set[_Link] = set()
        self._refuses = False

    def cut(self) -> None:
        """Reset every connection."""
        for link in tuple(self._links):
            link.cut()

    def hold(self, directions: Iterable[Direction] = BOTH) -> None:
        """Keep back what comes on the present connections, in these directions, until `resume`, `cut` or for ever."""
        for link in self._links:
            for direction in directions:
                link.gates[direction].clear()

    def resume(self) -> None:
        """Let everything through, what was kept back first."""
        self._refuses = False
        for link in self._links:
            link.open()

    def refuse(self) -> None:
        """Reset new connections, until `resume`."""
        self._refuses = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until one of its ends closes it."""
        if self._refuses:
            writer.transport.abort()
            return
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, server, link.gates["requests"]))
                pumps.create_task(_pump(answers, writer, link.gates["answers"]))
        finally:
            self._links.discard(link)
            for end in link.ends:
                end.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event) -> None:
    with suppress(OSError):
        while chunk := await source.read(_CHUNK):
            await gate.wait()
            sink.write(chunk)
            await sink.drain()
    # An end of one direction is the end of both: PostgreSQL knows no half-closed connections.
    await gate.wait()
    sink.close()


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """Stand before a port of 127.0.0.1."""
    made = Proxy(target)
    server = await asyncio.start_server(made.serve, "127.0.0.1")
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()
        await server.wait_closed()
