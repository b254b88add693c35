"""One call to HelloWork's status API, by its page "Envoi changements de statut".

Off: redirects (body and headers must not travel on), proxies and credentials from the environment, cookies,
decompression (a small reply could unpack to gigabytes), replies beyond 64 KiB, more than ten interim replies (1xx).

A socket dies with its attempt: no byte of a request leaves this host once `call` has returned or the process is gone.
Else the kernel could send an older state after a newer one.

- A call without an answer aborts its transport, without sending its buffers.
- SO_LINGER with 0 seconds: closing the descriptor drops the kernel's queue, also after kill -9. An idle
  connection has none.
- TCP_USER_TIMEOUT: the kernel gives up by itself while the process is stopped (SIGSTOP).

aiohttp's session is left out: it rebuilds for each call what all calls to a host share (decision 13).
"""

import asyncio
import fcntl
import os
import re
import socket
import ssl
import struct
import sys
import termios
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from multidict import CIMultiDict
from yarl import URL

from cdc_sync import __version__
from cdc_sync.core.content import request
from cdc_sync.core.outbox import Entry
from cdc_sync.core.reasons import Reason, coded
from cdc_sync.core.replies import Reply, kernel_gives_up_after
from cdc_sync.core.visible import hiding
from cdc_sync.event_loop import TimeLimit

READ_LIMIT = 64 * 1024
"""Bytes of a reply that are read."""

EXCERPT = 2_000
"""Characters of a reply that are kept for people."""


_BUFFERED = 16 * 1024
"""Bytes of a request that a new connection's kernel takes at once."""

_URL = re.compile(r"([a-z]+://[^/?#]+)([^#]*)", re.IGNORECASE)
"""An origin and its target."""

_INTERIM = frozenset(range(100, 200)) - {101}
"""Statuses of replies before the final one."""

_MOST_INTERIM = 10
"""Replies before the final one; a server may send them without end."""

_SUCCESSES = range(200, 300)

_ENDLESS = aiohttp.ClientTimeout()
"""`Client.call` has the timeout of the whole call."""


class Caller(Protocol):
    """Makes calls; never raises for the other side's behaviour."""

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        """Send an entry's content; returns the reply, and an excerpt of its body."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """What all calls of one account to one origin share.

    `request` is for aiohttp's connector; `hide` hides the headers' secrets in a text.
    """

    request: aiohttp.ClientRequest
    headers: str = field(repr=False)
    hide: Callable[[str], str] = field(repr=False)


class Client:
    """HelloWork's API over HTTP; an async context manager.

    Args:
        accounts: the headers of each account's calls, by its name.
        timeout: of a call, in seconds.
        connections: at once, at most.
    """

    def __init__(self, accounts: Mapping[str, Mapping[str, str]], timeout: float, connections: int) -> None:
        self._limit = TimeLimit(timeout)
        self._connector = aiohttp.TCPConnector(
            limit=connections,
            ttl_dns_cache=60,
            # aiohttp's own is made when it is imported: renewed authorities would wait for a restart.
            ssl=ssl.create_default_context(),
            socket_factory=partial(_a_socket, timeout),
        )
        self.use(accounts)

    def use(self, accounts: Mapping[str, Mapping[str, str]]) -> None:
        """Use other headers for later calls."""
        self._accounts = accounts
        self._origins: dict[tuple[str, str], _Origin] = {}
        """By name and account."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connector.close()

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        """See `Caller`."""
        try:
            return await self._limit.keep(self._call(entry))
        except Exception as error:  # noqa: BLE001 - an answer may break the library
            return Reply(failure=_in_words(error)), ""

    async def _call(self, entry: Entry) -> tuple[Reply, str]:
        """See `Caller`.

        Raises:
            Exception: see `_in_words`.
        """
        body, key = request(entry.application_id, entry.content)
        name, target = _as_it_stands(entry.content.url)
        of = name, entry.content.account
        origin = self._origins.get(of)
        if origin is None:
            origin = self._origins[of] = _origin(name, self._accounts[entry.content.account])
        head = (
            f"POST {target} HTTP/1.1\r\n{origin.headers}Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection, protocol, transport = await self._connected(origin.request)
        # A closed TLS transport forgets the socket's, which then goes on sending its buffers, even if aborted.
        of_socket = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None) or transport
        answered = False
        try:
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            transport.write(head.encode() + body)
            message, content = await _final_reply(protocol)
            if content.is_eof():  # a short reply comes with its headers, as a rule
                read, whole = content.read_nowait(READ_LIMIT), content.at_eof()
            else:
                read, whole = await _read(content)
            # An early answer may leave unsent bytes: of a large request below TLS only the kernel's queue shows them.
            in_doubt = len(body) > _BUFFERED or message.code not in _SUCCESSES
            unsent = of_socket.get_write_buffer_size() or (in_doubt and (protocol.should_close or _unsent(of_socket)))
            answered = whole and not unsent
        finally:
            if answered:
                connection.release()
            else:
                connection.close()
                of_socket.abort()
                await asyncio.sleep(0)  # an aborted transport closes its descriptor in the loop's next turn
        return _reply(message), origin.hide(read.decode("utf-8", "replace"))[:EXCERPT]

    async def _connected(
        self, request: aiohttp.ClientRequest
    ) -> tuple[aiohttp.connector.Connection, ResponseHandler, asyncio.Transport]:
        try:
            connection = await self._connector.connect(request, [], _ENDLESS)
        except BaseException:
            await asyncio.sleep(0)  # as above
            raise
        protocol, transport = connection.protocol, connection.transport
        # Bytes that came without a request are no answer to the next one.
        if protocol is None or transport is None or transport.is_closing() or protocol.should_close:
            connection.close()
            raise ConnectionResetError
        return connection, protocol, transport


def _as_it_stands(url: str) -> tuple[str, str]:
    """The origin and the target of a URL, exactly as it was checked."""
    found = _URL.match(url)
    if found is None:
        raise aiohttp.InvalidURL(url)
    origin, target = found.groups()
    return origin, target if target.startswith("/") else f"/{target}"


_OURS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"cdc-sync/{__version__}",
}


def _origin(name: str, configured: Mapping[str, str]) -> _Origin:
    url = URL(name, encoded=True)
    request = aiohttp.ClientRequest(hdrs.METH_POST, url, loop=asyncio.get_running_loop())
    # Configured headers win, however they spell a name.
    headers = CIMultiDict({hdrs.HOST: url.host_port_subcomponent or "", **_OURS})
    headers.update(configured)
    return _Origin(request, "".join(f"{name}: {value}\r\n" for name, value in headers.items()), hiding(configured))


def _reply(message: RawResponseMessage) -> Reply:
    headers = message.headers
    kind, date = _as_text(headers.get(hdrs.CONTENT_TYPE, "")), _as_text(headers.get(hdrs.DATE, ""))
    retry_after = headers.get(hdrs.RETRY_AFTER)
    return Reply(message.code, kind, retry_after and _as_text(retry_after), date=date)


def _unsent(transport: asyncio.Transport) -> bool:
    """Whether part of the request may be unsent."""
    if transport.is_closing():
        return True
    unsent = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    return struct.unpack("i", unsent) != (0,)


def _a_socket(timeout: float, address: tuple[Any, ...]) -> socket.socket:
    """See the module's text."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if sys.platform == "linux":
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(kernel_gives_up_after(timeout) * 1000))
    return made


def _as_text(header: str) -> str:
    """A header as printable text: bytes outside UTF-8 come as lone surrogates."""
    return header.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class _NoFinalReplyError(Exception):
    """There was one interim reply after the other."""


async def _final_reply(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """The final reply, after interim ones.

    Raises:
        _NoFinalReplyError: there are too many interim replies before it.
    """
    for _ in range(_MOST_INTERIM + 1):
        message, content = await protocol.read()
        if message.code not in _INTERIM:
            return message, content
    raise _NoFinalReplyError


async def _read(content: aiohttp.StreamReader) -> tuple[bytes, bool]:
    """The body, and whether it is complete; a longer one may be endless."""
    read = bytearray()
    while len(read) < READ_LIMIT:
        chunk = await content.read(READ_LIMIT - len(read))
        if not chunk:
            return bytes(read), True
        read += chunk
    return bytes(read), False


def _in_words(error: Exception) -> Reason:  # noqa: PLR0911 - a table, one return per row
    """What happened instead of a reply, without the request (its headers hold secrets)."""
    match error:
        case TimeoutError():
            return coded("timeout", "no answer within hellowork.timeout")
        case aiohttp.ClientConnectorCertificateError():
            cause = str(error.certificate_error)
            return coded("tls-certificate", "TLS: the certificate is not trusted (%(cause)s)", cause=cause)
        case aiohttp.ClientConnectorDNSError():
            return coded("dns", "DNS: the host name %(host)s cannot be resolved", host=error.host)
        case aiohttp.ClientConnectorSSLError():
            return coded("tls", "TLS: %(cause)s", cause=_ssl_reason(error))
        case aiohttp.ClientConnectorError():
            # asyncio's text has the address, not the reason.
            cause = os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error)
            place = f"{error.host}:{error.port}"
            return coded("unconnectable", "no connection to %(place)s (%(cause)s)", place=place, cause=cause)
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | aiohttp.ClientOSError():
            return coded("lost-before-answer", "the connection was lost before the answer")
        case aiohttp.ClientPayloadError() | asyncio.IncompleteReadError():
            return coded("lost-in-answer", "the connection was lost in the middle of the answer")
        case HttpProcessingError():
            return coded("not-http", "the answer is not HTTP")
        case _NoFinalReplyError():
            most = _MOST_INTERIM
            return coded("no-final-reply", "more than %(most)s interim replies (1xx) and no final one", most=most)
        case _:
            return coded("call-failed", "the call failed (%(cause)s)", cause=type(error).__name__)


def _ssl_reason(error: aiohttp.ClientConnectorSSLError) -> str:
    cause = error.os_error
    # OpenSSL's reasons are constants: WRONG_VERSION_NUMBER.
    return cause.reason.replace("_", " ").lower() if isinstance(cause, ssl.SSLError) and cause.reason else str(cause)
