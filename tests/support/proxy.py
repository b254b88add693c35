"""A network that falls silent, refuses, or cuts connections. Clients come by a unix socket."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_PORT = 5432

Direction = Literal["requests", "answers"]
BOTH: tuple[Direction, ...] = ("requests", "answers")


class Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._ends = (client, server)
        self._gates = {direction: asyncio.Event() for direction in BOTH}
        self.resume()

    def hold(self, directions: tuple[Direction, ...]) -> None:
        """Hold back whatever comes; nobody is told, and nobody is hung up on."""
        for direction in directions:
            self._gates[direction].clear()

    def resume(self) -> None:
        for gate in self._gates.values():
            gate.set()

    def cut(self) -> None:
        for end in self._ends:
            end.transport.abort()

    async def forward(self, direction: Direction, source: asyncio.StreamReader) -> None:
        """Forward what comes from one end to the other, until it ends."""
        target = self._ends[direction == "requests"]
        try:
            while content := await source.read(65536):
                await self._gates[direction].wait()
                target.write(content)
                await target.drain()
        except ConnectionError:
            pass
        finally:
            target.close()
            with suppress(ConnectionError):
                await target.wait_closed()


class Proxy:
    """Forwards what passes, as long as it is told to.

    Attributes:
        dsn: the server's DSN by way of the proxy.
        links: its connections, without deafened ones.
        refuses: whether it hangs up on new connections.
    """

    def __init__(self, target: dict[str, str | int | None], dsn: str) -> None:
        self.dsn = dsn
        self.links: set[Link] = set()
        self.refuses = False
        self._target = target
        self._shut: tuple[Direction, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()

    def fall_silent(self, *directions: Direction) -> None:
        """Hold back whatever comes on connections of now and later, in these directions or both."""
        self._shut = directions or BOTH
        for link in self.links:
            link.hold(self._shut)

    def deafen(self, directions: tuple[Direction, ...] = BOTH) -> None:
        """Fall silent on the connections that are there, as a firewall that has lost its table; new ones work."""
        for link in self.links:
            link.hold(directions)
        self.links.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect one client."""
        try:
            if self.refuses:
                raise ConnectionRefusedError
            answers, server = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, server)
        link.hold(self._shut)
        self.links.add(link)
        for task in (
            asyncio.create_task(link.forward("requests", reader)),
            asyncio.create_task(link.forward("answers", answers)),
        ):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: self.links.discard(link))

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self._target.get("host") or "127.0.0.1"), self._target.get("port") or _PORT
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, int(port))


@asynccontextmanager
async def proxy_to(dsn: str) -> AsyncIterator[Proxy]:
    """Stand between clients and the server."""
    # Not pytest's folder: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="cdc") as folder:
        async with _proxy(dsn, Path(folder)) as proxy:
            yield proxy


@asynccontextmanager
async def _proxy(dsn: str, folder: Path) -> AsyncIterator[Proxy]:
    proxy = Proxy(conninfo_to_dict(dsn), make_conninfo(dsn, host=str(folder), port=_PORT, hostaddr=None))
    server = await asyncio.start_unix_server(proxy.serve, folder / f".s.PGSQL.{_PORT}")
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()
