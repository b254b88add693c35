"""A server that answers with whatever bytes a test wants, and keeps what it received, byte for byte.

The emulator speaks HTTP; this one need not.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
"""The beginning of a good answer: the rest of the headers, the empty line and the body are to follow."""

UPDATED = OK + b'Content-Length: 45\r\n\r\n{"result": "Status was updated successfully"}'
"""HelloWork's documented success."""

Play = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Answers one request."""


@dataclass
class Wire:
    """Where the server listens, and the requests that it received."""

    url: str
    port: int
    requests: list[bytes] = field(default_factory=list)

    @property
    def request(self) -> tuple[str, dict[str, str], bytes]:
        """The only request: its first line, its headers by lower-case name, its body."""
        (raw,) = self.requests
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        pairs = [header.split(": ", 1) for header in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), f"a header was sent twice: {pairs}"
        return line, headers, body


def saying(answer: bytes) -> Play:
    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return play


@asynccontextmanager
async def wire_server(play: Play, *, name: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Serve one request for each connection; `name` stands for the host in the URL."""

    serving = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            wire.requests.append(await _request(reader))
            await play(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    wire = Wire(f"{'https' if tls else 'http'}://{name}:{port}", port)
    try:
        yield wire
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
