"""Whether HelloWork can be reached, as `cdc-sync check` finds out without telling it anything.

Step by step, since each has a remedy of its own: the name, the connection, the certificate, an answer. What is asked
for is `HEAD` of base_url, without the configured headers: no application's path, nothing that could have an effect, and
no secret. Whatever the answer's status is, it shows that HTTP is spoken there; whether the credentials are right, only
a real call could tell. Its `Date` gives the other side's clock.

Hosts that a row's status URL may name (`allowed_hosts`) are looked at as far as the certificate.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from cdc_sync import __version__
from cdc_sync.config import HelloWork
from cdc_sync.core import clock_skew
from cdc_sync.core.findings import Finding, Tell
from cdc_sync.core.instants import from_datetime
from cdc_sync.core.status_url import is_loopback

_PATIENCE = 10.0
"""Seconds for each step, or hellowork.timeout if that is less."""

_SOON = 14
"""Days before its end from which on a certificate is worth a word."""

_DAY = 86_400
_SECOND = 1_000
_SERVER_ERROR = 500
_PROXY_WANTED = 407


@dataclass(frozen=True, slots=True)
class _Place:
    """Where calls go; `url` only where an answer is asked for."""

    host: str
    port: int
    tls: bool
    url: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


async def check_endpoint(settings: HelloWork, clock: Callable[[], int], tell: Tell) -> None:
    """Tell whether calls could get through.

    Args:
        settings: the section `hellowork`.
        clock: this machine's, in milliseconds since the epoch.
        tell: takes each finding.
    """
    patience = min(_PATIENCE, settings.timeout.total_seconds())
    for place in _places(settings):
        if not await _check_name(place, patience, tell) or not await _check_connection(place, patience, tell):
            continue
        if place.tls and not await _check_certificate(place, clock, patience, tell):
            continue
        if place.url is not None:
            await _check_answer(place, place.url, clock, patience, tell)
    _check_headers(settings, tell)


def _places(settings: HelloWork) -> list[_Place]:
    parts = urlsplit(settings.base_url)
    tls = parts.scheme == "https"
    places = [_Place(parts.hostname or "", parts.port or (443 if tls else 80), tls, settings.base_url)]
    for allowed in settings.allowed_hosts:
        other = urlsplit(f"https://{allowed}")
        # A loopback address is an emulator's, which may speak http.
        if other.hostname is not None and not is_loopback(other.hostname):
            places.append(_Place(other.hostname, other.port or 443, tls=True))
    return list({str(place): place for place in reversed(places)}.values())[::-1]


async def _check_name(place: _Place, patience: float, tell: Tell) -> bool:
    try:
        async with asyncio.timeout(patience):
            found = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        why = "no answer" if isinstance(error, TimeoutError) else str(getattr(error, "strerror", None) or error)
        message = f"the host name {place.host} cannot be resolved ({why})"
        tell(Finding("endpoint-dns", "failed", message, f"getent ahosts {place.host}   # and see /etc/resolv.conf"))
        return False
    addresses = ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))
    tell(Finding("endpoint-dns", "ok", f"{place.host} is {addresses}"))
    return True


async def _check_connection(place: _Place, patience: float, tell: Tell) -> bool:
    try:
        async with asyncio.timeout(patience), _opened(place):
            pass
    except (OSError, TimeoutError) as error:
        message = f"no connection to {place} ({_reason(error, patience)})"
        tell(
            Finding(
                "endpoint-tcp",
                "failed",
                message,
                f"curl -v --noproxy '*' --head https://{place}/   # let the firewall pass it: cdc-sync uses no proxy"
                if place.tls
                else f"curl -v --noproxy '*' --head http://{place}/   # is it running?",
            )
        )
        return False
    tell(Finding("endpoint-tcp", "ok", f"{place} takes connections"))
    return True


async def _check_certificate(place: _Place, clock: Callable[[], int], patience: float, tell: Tell) -> bool:
    shown = f"openssl s_client -connect {place} -servername {place.host} -brief </dev/null"
    try:
        async with asyncio.timeout(patience), _opened(place, ssl.create_default_context()) as writer:
            certificate = writer.get_extra_info("peercert") or {}
    except ssl.SSLCertVerificationError as error:
        message = f"the certificate of {place} is not trusted ({error.verify_message})"
        remedy = (
            f"apt-get install ca-certificates   # or SSL_CERT_FILE=/path/to/ca.pem if a proxy of your own signs; and "
            f"is this machine's date right?\n{shown}"
        )
        tell(Finding("endpoint-tls", "failed", message, remedy))
        return False
    except (OSError, TimeoutError) as error:
        tell(Finding("endpoint-tls", "failed", f"no TLS with {place} ({_reason(error, patience)})", shown))
        return False
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) * _SECOND - clock()) // (_DAY * _SECOND)
    if days < _SOON:
        message = f"the certificate of {place} ends in {days} days"
        tell(Finding("endpoint-tls", "warning", message, f"{shown}   # tell whoever runs it"))
    else:
        tell(Finding("endpoint-tls", "ok", f"the certificate of {place} is trusted, for {days} more days"))
    return True


async def _check_answer(place: _Place, url: str, clock: Callable[[], int], patience: float, tell: Tell) -> None:
    before = clock()
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=patience),
                headers={"User-Agent": f"cdc-sync/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            ) as session,
            session.head(URL(url, encoded=True), allow_redirects=False, ssl=ssl.create_default_context()) as response,
        ):
            status, date = response.status, response.headers.get("Date")
    except (aiohttp.ClientError, TimeoutError) as error:
        why = f"no answer within {patience:g} s" if isinstance(error, TimeoutError) else type(error).__name__
        remedy = f"curl -v --noproxy '*' --head {url}"
        tell(Finding("endpoint-http", "failed", f"{place} does not answer as HTTP does ({why})", remedy))
        return
    after = clock()
    if status >= _SERVER_ERROR or status == _PROXY_WANTED:
        message = f"{place} answers {status} to HEAD: it is not well, or something stands in between"
        remedy = f"curl -v --noproxy '*' --head {url}   # calls are retried for hellowork.retry.for"
        tell(Finding("endpoint-http", "warning", message, remedy))
    else:
        tell(Finding("endpoint-http", "ok", f"{place} answers ({status} to HEAD, which tells no more than that)"))
    try:
        theirs = from_datetime(parsedate_to_datetime(date or ""))
    except (TypeError, ValueError):
        return  # without a date there is nothing to compare
    skew = clock_skew.skew(theirs, before, after, resolution=_SECOND)
    tell(clock_skew.judged("endpoint-clock", f"the clock of {place.host}", skew))


def _check_headers(settings: HelloWork, tell: Tell) -> None:
    if settings.headers:
        tell(Finding("headers", "ok", f"each call carries {', '.join(settings.headers)}"))
    elif is_loopback(urlsplit(settings.base_url).hostname or ""):
        tell(Finding("headers", "ok", "no headers are configured, and calls go to this machine only"))
    else:
        tell(
            Finding(
                "headers",
                "warning",
                "no headers are configured: HelloWork most likely wants to see credentials",
                'hellowork:\n  headers: {X-Api-Key: "${HELLOWORK_API_KEY}"}   # whatever HelloWork agreed with you',
            )
        )


@asynccontextmanager
async def _opened(place: _Place, tls: ssl.SSLContext | None = None) -> AsyncIterator[asyncio.StreamWriter]:
    name = place.host if tls is not None else None
    _, writer = await asyncio.open_connection(place.host, place.port, ssl=tls, server_hostname=name)
    try:
        yield writer
    finally:
        # Nothing was said that would have to arrive.
        writer.transport.abort()


def _reason(error: Exception, patience: float) -> str:
    if isinstance(error, TimeoutError) and not getattr(error, "errno", None):
        return f"no answer within {patience:g} s"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else str(error)
