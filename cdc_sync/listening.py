"""HTTP servers with a bounded number of connections, none of which waits for ever.

A connection waits, at first and after each answer, until the next request is complete. One that waits too long is
closed. When all places are taken, a new connection displaces the longest waiting one, so silent ones cannot keep out a
health check. It is refused only if all others are being answered.
"""

import asyncio
import errno
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
"""Seconds within which a client takes some of a long answer; the kernel shows it in steps."""

_AT_ONCE = 50
"""Most connections accepted in one turn of the event loop: their files are open beyond the places."""

_KEPT_BY_KERNEL = 1_024
"""Connections that the kernel keeps until they are accepted; others try again after a second."""


def bugs_alone(record: logging.LogRecord) -> bool:
    """A filter for a server's logger: requests that are no HTTP are not logged, or a port scanner fills the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | web.RequestPayloadError))


def allow_all_descriptors() -> None:
    """Raise the process's soft limit of open files, which systemd sets to 1,024, to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A sandbox that forbids it (systemd's filter @resources) has a deliberate limit.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors() -> int:
    """The process's limit of open files."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def names_loopback(host: str) -> bool:
    """Whether a `Host` header or an address names this machine's loopback."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def comes_from_ourselves(request: web.BaseRequest, sites: frozenset[str] = frozenset({"same-origin"})) -> bool:
    """Whether no other origin's page sends this; `sites` are the allowed `Sec-Fetch-Site`."""
    origin = request.headers.get("Origin")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in sites:
        return False
    return origin is None or origin.partition("://")[2] == request.headers.get("Host")


@dataclass(eq=False)
class Listener:
    """Listens on an address for an HTTP server.

    Attributes:
        most: most connections at once.
        request_within: seconds for a complete request.
        idle: seconds that a connection may wait after an answer.
        displaced: called for each connection that loses or gets no place.
    """

    server: web.Server
    most: int
    request_within: float
    idle: float
    displaced: Callable[[], None] = lambda: None
    _open: set["_Connection"] = field(default_factory=set)
    _waiting: dict["_Connection", asyncio.TimerHandle] = field(default_factory=dict)
    """The end of each wait, the earliest begun first."""
    _listening: asyncio.Server = field(init=False)

    async def open(self, host: str, port: int) -> Self:
        """Listen; raises `OSError` if the address does not permit it."""
        self._loop = asyncio.get_running_loop()
        try:
            self._listening = await self._loop.create_server(lambda: _Connection(self), host, port, backlog=_AT_ONCE)
        except UnicodeError as error:
            raise OSError(errno.EINVAL, f"{host} is no host name") from error
        for listening in self._listening.sockets:
            # asyncio has one number for this and `_AT_ONCE`.
            with listening.dup() as same:
                same.listen(_KEPT_BY_KERNEL)
        self.port: int = self._listening.sockets[0].getsockname()[1]
        return self

    def close(self) -> None:
        """Accept no more connections."""
        self._listening.close()

    def abort(self) -> None:
        """Close every connection at once."""
        for connection in list(self._open):
            self._cut_off(connection)

    @contextmanager
    def answering(self, request: web.BaseRequest) -> Iterator[None]:
        """Answer a request within this: from its body's end on its connection does not wait."""
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
        """Let a connection wait, at most so many seconds."""
        self._wait_no_more(connection)
        self._waiting[connection] = self._loop.call_later(seconds, self._waited, connection)

    def begin(self, connection: "_Connection") -> None:
        """Give a new connection a place, or close it."""
        if len(self._open) >= self.most:
            self.displaced()
            if not self._waiting:
                connection.transport.abort()
                return
            self._cut_off(next(iter(self._waiting)))
        self._open.add(connection)
        self.wait(connection, self.request_within)

    def forget(self, connection: "_Connection") -> None:
        """Free the place of an ended connection."""
        self._open.discard(connection)
        self._wait_no_more(connection)

    def _cut_off(self, connection: "_Connection") -> None:
        # The loop reports its end too late for the next connection.
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
"""A connection's protocol until its first bytes."""


class _Connection(asyncio.Protocol):
    """A connection. Its first bytes make its HTTP protocol: a silent one costs little."""

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
        """Whether the client took some of a long answer since the last call."""
        before, self._left_to_send = self._left_to_send, self.transport.get_write_buffer_size()
        return self._left_to_send > 0 and (before == 0 or self._left_to_send < before)
