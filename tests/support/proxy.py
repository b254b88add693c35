"""A network that falls silent while connections stay open. Clients come by a unix socket."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_PORT = 5432

Direction = Literal["requests", "answers"]
_BOTH: tuple[Direction, ...] = ("requests", "answers")


class _Gates:
    """What passes on one connection, in each direction."""

    def __init__(self, shut: tuple[Direction, ...]) -> None:
        self._gates = {direction: asyncio.Event() for direction in _BOTH}
        self.open()
        self.shut(shut)

    def shut(self, directions: tuple[Direction, ...]) -> None:
        for direction in directions:
            self._gates[direction].clear()

    def open(self) -> None:
        for gate in self._gates.values():
            gate.set()

    async def passed(self, direction: Direction) -> None:
        await self._gates[direction].wait()


class Proxy:
    """Forwards what passes, as long as it is told to.

    Attributes:
        dsn: the server's DSN by way of the proxy.
    """

    def __init__(self, target: dict[str, str | int | None], dsn: str) -> None:
        self.dsn = dsn
        self._target = target
        self._gates: list[_Gates] = []
        self._shut: tuple[Direction, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()

    def fall_silent(self, *directions: Direction) -> None:
        """Hold back whatever comes, in these directions or both; nobody is told, and nobody is hung up on."""
        self._shut = directions or _BOTH
        for gates in self._gates:
            gates.shut(self._shut)

    def forget(self) -> None:
        """Fall silent on the connections that are there, as a firewall that has lost its table; new ones work."""
        for gates in self._gates:
            gates.shut(_BOTH)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect one client."""
        there = await self._connect()
        gates = _Gates(self._shut)
        self._gates.append(gates)
        both = [
            self._forward(reader, there[1], lambda: gates.passed("requests")),
            self._forward(there[0], writer, lambda: gates.passed("answers")),
        ]
        self._tasks |= {asyncio.create_task(direction) for direction in both}

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self._target.get("host") or "127.0.0.1"), self._target.get("port") or _PORT
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, int(port))

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, passed: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            while content := await source.read(65536):
                await passed()
                target.write(content)
                await target.drain()
        except ConnectionError:
            pass
        finally:
            target.close()
            with suppress(ConnectionError):
                await target.wait_closed()


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
