"""One call to HelloWork's status API, as its page "Envoi changements de statut" documents it.

What could surprise is switched off: redirects (body and headers must not travel on), proxies and credentials from the
environment, cookies, decompression (a small reply could unpack to gigabytes), replies beyond 64 KiB.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from cdc_sync import __version__
from cdc_sync.core import payload
from cdc_sync.core.outbox import Entry
from cdc_sync.core.reply import Reply

READ_LIMIT = 64 * 1024
"""Bytes of a reply that are read (design, "What a reply means")."""

EXCERPT = 2_000
"""Characters of a reply that are kept for people."""

HIDDEN = "(hidden)"

_SHORTEST_SECRET = 8
"""Shorter words of a header (`Bearer`, a version) are no secrets, and would be hidden all over a reply."""


class Caller(Protocol):
    """Makes a call and tells what came back; never raises for what the other side does."""

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        """Send an entry's content. Returns the reply, and an excerpt of its body."""


class Client:
    """HelloWork's API over HTTP; an async context manager.

    Args:
        headers: sent with each call (credentials).
        timeout: for the whole call, in seconds.
        connections: how many at once.
    """

    def __init__(self, headers: Mapping[str, str], timeout: float, connections: int) -> None:
        self._opened = _opened(headers, timeout, connections)

    async def use(self, headers: Mapping[str, str], timeout: float, connections: int) -> None:  # noqa: ASYNC109 - of calls
        """Make calls in another way from now on; those that are under way end as they began."""
        before, self._opened = self._opened, _opened(headers, timeout, connections)
        if not before.under_way:
            await before.session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.session.close()

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        """See `Caller`."""
        body, key = payload.request(entry.application_id, entry.content)
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        # encoded=True: the URL was checked as it stands, so it must be called as it stands.
        url = URL(entry.content.url, encoded=True)
        opened = self._opened
        opened.under_way += 1
        try:
            async with opened.session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                text = _excerpt_of(await _read(response), opened.secrets)
                reply = Reply(
                    status=response.status,
                    content_type=_header(response, "Content-Type") or "",
                    retry_after=_header(response, "Retry-After"),
                )
                return reply, text
        except TimeoutError:
            return Reply(failure="no answer within hellowork.timeout"), ""
        except Exception as error:  # noqa: BLE001 - whatever an answer does to the library, the other calls go on
            return Reply(failure=_in_words(error)), ""
        finally:
            opened.under_way -= 1
            if opened is not self._opened and not opened.under_way:
                await opened.session.close()


@dataclass(slots=True)
class _Opened:
    """A session with its settings, the secrets in them, and how many calls are under way in it."""

    session: aiohttp.ClientSession
    secrets: list[str]
    under_way: int = 0


def _opened(headers: Mapping[str, str], timeout: float, connections: int) -> _Opened:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ttl_dns_cache=60),
        timeout=aiohttp.ClientTimeout(total=timeout),
        headers=_merged(
            {
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"cdc-sync/{__version__}",
            },
            headers,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )
    return _Opened(session, _secrets_in(headers))


def _excerpt_of(read: bytes, secrets: list[str]) -> str:
    """The beginning of a reply's body, without what it repeats of our credentials."""
    text = read.decode("utf-8", "replace")
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text[:EXCERPT]


def _secrets_in(headers: Mapping[str, str]) -> list[str]:
    """The configured headers' values, and the words in them: of `Bearer …` a server repeats the second only."""
    words = {word for value in headers.values() for word in (value, *value.split())}
    return sorted((word for word in words if len(word) >= _SHORTEST_SECRET), key=len, reverse=True)


def _merged(ours: Mapping[str, str], configured: Mapping[str, str]) -> CIMultiDict[str]:
    """Our headers and the configured ones, which win, however they spell a name that both have."""
    merged = CIMultiDict(ours)
    merged.update(configured)
    return merged


def _header(response: aiohttp.ClientResponse, name: str) -> str | None:
    """A header as text that can be written down: bytes that are no UTF-8 come as lone surrogates."""
    value = response.headers.get(name)
    return None if value is None else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    read = bytearray()
    while len(read) < READ_LIMIT:
        chunk = await response.content.read(READ_LIMIT - len(read))
        if not chunk:
            break
        read += chunk
    else:
        # More may be on its way. The connection is given up rather than read to an end that may never come.
        response.close()
    return bytes(read)


def _in_words(error: Exception) -> str:
    """A failure without an HTTP status: what happened, and nothing of the request (its headers hold secrets)."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            words = f"TLS: the certificate is not trusted ({error.certificate_error})"
        case aiohttp.ClientConnectorDNSError():
            words = f"DNS: the host name {error.host} cannot be resolved"
        case aiohttp.ClientConnectorSSLError():
            words = f"TLS: {_ssl_reason(error)}"
        case aiohttp.ClientConnectorError():
            words = f"no connection to {error.host}:{error.port} ({_os_reason(error.os_error)})"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | aiohttp.ClientOSError():
            words = "the connection was lost before the answer"
        case aiohttp.ClientPayloadError() | asyncio.IncompleteReadError():
            words = "the connection was lost in the middle of the answer"
        case aiohttp.ClientResponseError():
            words = "the answer is not HTTP"
        case _:
            words = f"the call failed ({type(error).__name__})"
    return words


def _os_reason(error: OSError) -> str:
    # asyncio's own text repeats the address and leaves the reason out.
    return os.strerror(error.errno) if error.errno else str(error)


def _ssl_reason(error: aiohttp.ClientConnectorSSLError) -> str:
    cause = error.os_error
    # OpenSSL's reasons are constants: WRONG_VERSION_NUMBER.
    return cause.reason.replace("_", " ").lower() if isinstance(cause, ssl.SSLError) and cause.reason else str(cause)
