"""A TCP proxy before PostgreSQL that cuts, stalls and deafens connections."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Literal

_LOOPBACK = "127.0.0.1"

_NOTICED_AFTER = 3.0
"""Seconds until a deaf connection is noticed, as by TCP's keepalives."""

Direction = Literal["requests", "answers"]
BOTH: tuple[Direction, ...] = ("requests", "answers")


class _End(asyncio.Protocol):
    """One end of a connection; its bytes go to its peer, or are held."""

    peer: "_End"

    def __init__(self, *, holds: bool) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self.held: list[bytes] | None = [] if holds else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self.transport = transport

    def data_received(self, data: bytes) -> None:
        there = self.peer.transport
        if self.held is not None:
            self.held.append(data)
        elif there is not None and not there.is_closing():
            there.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        if self.held is not None:
            asyncio.get_running_loop().call_later(_NOTICED_AFTER, self.peer.abort)
        elif self.peer.transport is not None:
            self.peer.transport.close()

    def release(self) -> None:
        held, self.held = self.held or (), None
        for data in held:
            self.data_received(data)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Link:
    def __init__(self) -> None:
        # The client's first bytes wait for the server's connection.
        self.client = _End(holds=True)
        self.server = _End(holds=False)
        self.client.peer, self.server.peer = self.server, self.client

    def hold(self, directions: Iterable[Direction]) -> None:
        for direction in directions:
            end = self.client if direction == "requests" else self.server
            end.held = end.held or []

    def resume(self) -> None:
        self.client.release()
        self.server.release()

    def cut(self) -> None:
        self.client.abort()
        self.server.abort()


class Proxy:
    """Made by `proxy()`.

    Attributes:
        port: on 127.0.0.1.
        links: its connections, without deafened ones.
        refuses: whether it resets new connections.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.links: set[Link] = set()
        self.refuses = False
        self._target = target
        self._deaf: set[Link] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def accept(self) -> asyncio.Protocol:
        link = Link()
        task = asyncio.get_running_loop().create_task(self._serve(link))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return link.client

    def deafen(self, directions: Iterable[Direction]) -> None:
        """Let no more bytes pass in these directions of present connections, which stay open."""
        for link in self.links:
            link.hold(directions)
        self._deaf |= self.links
        self.links.clear()

    async def end(self) -> None:
        for link in (*self.links, *self._deaf):
            link.cut()
        await asyncio.gather(*self._serving)

    async def _serve(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self.refuses:
                raise ConnectionRefusedError
            await loop.create_connection(lambda: link.server, _LOOPBACK, self._target)
        except OSError:
            link.client.abort()
            return
        self.links.add(link)
        link.client.release()
        await asyncio.wait([link.client.lost, link.server.lost])
        self.links.discard(link)
        self._deaf.discard(link)


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    made = Proxy(target)
    server = await asyncio.get_running_loop().create_server(made.accept, _LOOPBACK)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.end()
        await server.wait_closed()
