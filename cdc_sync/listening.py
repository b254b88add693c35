"""HTTP servers among neighbours: a bounded number of connections, none of which may wait for ever.

A connection waits from its beginning, and after each answer, until a request has come completely, its body included.
One that waits too long is cut off. When all places are taken, a new connection takes the place of the one that has
waited longest: a thousand silent connections keep out nobody who has something to ask, such as a health check. Only
where all of them are being answered a new connection is refused.
"""

import asyncio
import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self, cast
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http import HttpProcessingError

_TAKES_SOME_WITHIN = 1.0
"""Seconds within which it shows that a long answer is being taken: the kernel tells in steps of its buffers."""

_AT_ONCE = 50
"""Connections taken in one turn of the event loop, at most: they have files open beyond the places that there are."""

_KEPT_BY_KERNEL = 1_024
"""Connections that wait to be taken: whoever finds no room tries again after a second."""


def bugs_alone(record: logging.LogRecord) -> bool:
    """A filter for a server's logger: what is no HTTP, in its head or in its body, is answered 400, and that is all.

    A port scanner must not fill the log with errors, and a traceback would read like a fault of ours.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | web.RequestPayloadError))


def allow_all_descriptors() -> None:
    """Raise the process's soft limit of open files to the hard one: systemd's default of the soft one is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A sandbox may forbid it (systemd's filter @resources, by setrlimit's name): then it has set a limit that it means.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors() -> int:
    """How many files this process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def names_loopback(host: str) -> bool:
    """Whether a `Host` header, or an address, names this machine's loopback."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def comes_from_ourselves(request: web.BaseRequest, sites: frozenset[str] = frozenset({"same-origin"})) -> bool:
    """Whether no browser sends this for a page of another origin; `sites` are what `Sec-Fetch-Site` may say."""
    origin = request.headers.get("Origin")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in sites:
        return False
    return origin is None or urlsplit(origin).netloc == request.headers.get("Host")


@dataclass(eq=False)
class Listener:
    """Listens on an address, and hands what comes to an HTTP server.

    Attributes:
        server: speaks HTTP.
        most: connections at once.
        request_within: seconds that a request may take to come completely.
        idle: seconds that a connection may stay after an answer.
        displaced: called for each connection that is cut off, or refused, because all places are taken.
    """

    server: web.Server
    most: int
    request_within: float
    idle: float
    displaced: Callable[[], None] = lambda: None
    _open: set["_Connection"] = field(default_factory=set)
    _waiting: dict["_Connection", asyncio.TimerHandle] = field(default_factory=dict)
    """In the order in which they began to wait: what ends the waiting."""
    _listening: asyncio.Server = field(init=False)

    async def open(self, host: str, port: int) -> Self:
        """Listen.

        Raises:
            OSError: the address cannot be listened on.
        """
        self._loop = asyncio.get_running_loop()
        self._listening = await self._loop.create_server(lambda: _Connection(self), host, port, backlog=_AT_ONCE)
        for listening in self._listening.sockets:
            # To asyncio one number is both: how many are taken at once, and how many the kernel keeps until they are.
            with listening.dup() as same:
                same.listen(_KEPT_BY_KERNEL)
        self.port: int = self._listening.sockets[0].getsockname()[1]
        return self

    def close(self) -> None:
        """Take no new connections."""
        self._listening.close()

    def abort(self) -> None:
        """Cut every connection off."""
        for connection in list(self._open):
            self._cut_off(connection)

    @contextmanager
    def answering(self, request: web.BaseRequest) -> Iterator[None]:
        """Answer a request within this: as soon as its body is complete, its connection does not wait."""
        connection = request.transport and request.transport.get_protocol()
        if not isinstance(connection, _Connection):
            yield  # it is gone already
            return
        is_answered = False

        def complete() -> None:
            if not is_answered:
                self._wait_no_more(connection)

        request.content.on_eof(complete)
        try:
            yield
        finally:
            is_answered = True
            if connection in self._open:
                connection.is_idle = True
                self.wait(connection, self.idle)

    def wait(self, connection: "_Connection", seconds: float) -> None:
        """A connection waits from now on, for so many seconds at most."""
        self._wait_no_more(connection)
        self._waiting[connection] = self._loop.call_later(seconds, self._waited, connection)

    def begin(self, connection: "_Connection") -> None:
        """A connection was made: give it a place, or cut it off."""
        if len(self._open) >= self.most:
            self.displaced()
            if not self._waiting:
                connection.transport.abort()
                return
            self._cut_off(next(iter(self._waiting)))
        self._open.add(connection)
        self.wait(connection, self.request_within)

    def forget(self, connection: "_Connection") -> None:
        """A connection has ended."""
        self._open.discard(connection)
        self._wait_no_more(connection)

    def _cut_off(self, connection: "_Connection") -> None:
        # At once: its place is given away before the loop tells it of its end.
        self.forget(connection)
        connection.transport.abort()

    def _waited(self, connection: "_Connection") -> None:
        if connection.is_taking_its_answer():
            self.wait(connection, max(self.idle, _TAKES_SOME_WITHIN))
        else:
            self._cut_off(connection)

    def _wait_no_more(self, connection: "_Connection") -> None:
        if (timer := self._waiting.pop(connection, None)) is not None:
            timer.cancel()


_NOBODY = asyncio.Protocol()
"""Whom a connection speaks to as long as nothing has been sent."""


class _Connection(asyncio.Protocol):
    """One connection. What speaks HTTP is made when something has been sent: silence costs little."""

    transport: asyncio.Transport
    is_idle = False
    _inner = _NOBODY
    _left_to_send = 0

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._listener.begin(self)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._inner is _NOBODY:
            self._inner = self._listener.server()
            self._inner.connection_made(self.transport)
        elif self.is_idle:
            # The next request begins, and has no more time than the first.
            self.is_idle = False
            self._listener.wait(self, self._listener.request_within)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def is_taking_its_answer(self) -> bool:
        """Whether the other side has taken some of a long answer since this was asked last."""
        before, self._left_to_send = self._left_to_send, self.transport.get_write_buffer_size()
        return self._left_to_send > 0 and (before == 0 or self._left_to_send < before)
