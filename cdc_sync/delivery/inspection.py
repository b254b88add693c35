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
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from cdc_sync import __version__
from cdc_sync.config.models import HelloWork
from cdc_sync.core.content import from_datetime
from cdc_sync.core.findings import Finding, Tell, check_clock, clock_skew
from cdc_sync.core.status_url import is_loopback

_PATIENCE = 10.0
"""Seconds for each step, or hellowork.timeout if that is less."""

_SOON = 14
"""Days before its end from which on a certificate is worth a word."""

_DAY = 86_400
_SECOND = 1_000
_SERVER_ERROR = 500
_PROXY_WANTED = 407
_CURL = "curl -v --noproxy '*' --head"


class _Place(NamedTuple):
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
        for check in (_check_name, _check_connection, _check_certificate, _check_answer):
            findings = await check(place, patience, clock)
            for finding in findings:
                tell(finding)
            if findings and findings[0].state == "failed":
                break  # what comes next needs it
    tell(_check_headers(settings))


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


async def _check_name(place: _Place, patience: float, _: Callable[[], int]) -> list[Finding]:
    try:
        async with asyncio.timeout(patience):
            found = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        message = f"the host name {place.host} cannot be resolved ({_reason(error, patience)})"
        return [Finding("endpoint-dns", "failed", message, f"getent ahosts {place.host}   # and see /etc/resolv.conf")]
    addresses = ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))
    return [Finding("endpoint-dns", "ok", f"{place.host} is {addresses}")]


async def _check_connection(place: _Place, patience: float, _: Callable[[], int]) -> list[Finding]:
    try:
        await _open(place, patience)
    except (OSError, TimeoutError) as error:
        scheme = "https" if place.tls else "http"
        hint = "let the firewall pass it: cdc-sync uses no proxy" if place.tls else "is it running?"
        message = f"no connection to {place} ({_reason(error, patience)})"
        return [Finding("endpoint-tcp", "failed", message, f"{_CURL} {scheme}://{place}/   # {hint}")]
    return [Finding("endpoint-tcp", "ok", f"{place} takes connections")]


async def _check_certificate(place: _Place, patience: float, clock: Callable[[], int]) -> list[Finding]:
    if not place.tls:
        return []
    shown = f"openssl s_client -connect {place} -servername {place.host} -brief </dev/null"
    try:
        certificate = await _open(place, patience, ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        message = f"the certificate of {place} is not trusted ({error.verify_message})"
        trust = (
            "apt-get install ca-certificates   # or SSL_CERT_FILE=/path/to/ca.pem if a proxy of your own signs; and "
        )
        return [Finding("endpoint-tls", "failed", message, f"{trust}is this machine's date right?\n{shown}")]
    except (OSError, TimeoutError) as error:
        return [Finding("endpoint-tls", "failed", f"no TLS with {place} ({_reason(error, patience)})", shown)]
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) * _SECOND - clock()) // (_DAY * _SECOND)
    if days < _SOON:
        message = f"the certificate of {place} ends in {days} days"
        return [Finding("endpoint-tls", "warning", message, f"{shown}   # tell whoever runs it")]
    return [Finding("endpoint-tls", "ok", f"the certificate of {place} is trusted, for {days} more days")]


async def _check_answer(place: _Place, patience: float, clock: Callable[[], int]) -> list[Finding]:
    if place.url is None:
        return []
    before, remedy, tls = clock(), f"{_CURL} {place.url}", ssl.create_default_context()
    try:
        headers, timeout = {"User-Agent": f"cdc-sync/{__version__}"}, aiohttp.ClientTimeout(total=patience)
        async with aiohttp.request(
            "HEAD", URL(place.url, encoded=True), headers=headers, timeout=timeout, allow_redirects=False, ssl=tls
        ) as response:
            status, date = response.status, response.headers.get("Date")
    except (aiohttp.ClientError, TimeoutError) as error:
        why = _reason(error, patience) if isinstance(error, TimeoutError) else type(error).__name__
        return [Finding("endpoint-http", "failed", f"{place} does not answer as HTTP does ({why})", remedy)]
    after = clock()
    answered = Finding("endpoint-http", "ok", f"{place} answers ({status} to HEAD, which tells no more than that)")
    if status >= _SERVER_ERROR or status == _PROXY_WANTED:
        message = f"{place} answers {status} to HEAD: it is not well, or something stands in between"
        remedy += "   # calls are retried for hellowork.retry.for"
        answered = Finding("endpoint-http", "warning", message, remedy)
    try:
        theirs = from_datetime(parsedate_to_datetime(date or ""))
    except (TypeError, ValueError):
        return [answered]  # without a date there is nothing to compare
    skew = clock_skew(theirs, before, after, resolution=_SECOND)
    return [answered, check_clock("endpoint-clock", f"the clock of {place.host}", skew)]


def _check_headers(settings: HelloWork) -> Finding:
    if settings.headers:
        return Finding("headers", "ok", f"each call carries {', '.join(settings.headers)}")
    if is_loopback(urlsplit(settings.base_url).hostname or ""):
        return Finding("headers", "ok", "no headers are configured, and calls go to this machine only")
    message = "no headers are configured: HelloWork most likely wants to see credentials"
    remedy = 'hellowork:\n  headers: {X-Api-Key: "${HELLOWORK_API_KEY}"}   # whatever HelloWork agreed with you'
    return Finding("headers", "warning", message, remedy)


async def _open(place: _Place, patience: float, tls: ssl.SSLContext | None = None) -> Mapping[str, Any]:
    """Connect, and let go: nothing was said that would have to arrive. Returns the certificate, if there is one."""
    name = place.host if tls is not None else None
    async with asyncio.timeout(patience):
        _, writer = await asyncio.open_connection(place.host, place.port, ssl=tls, server_hostname=name)
    certificate = writer.get_extra_info("peercert") or {}
    writer.transport.abort()
    return certificate


def _reason(error: Exception, patience: float) -> str:
    if isinstance(error, TimeoutError) and not getattr(error, "errno", None):
        return f"no answer within {patience:g} s"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    return str(getattr(error, "strerror", None) or error)
