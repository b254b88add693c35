"""Whether HelloWork can be reached, for `cdc-sync check`.

The steps are the name, the connection, the certificate, an answer. The request is `HEAD` of base_url without the
configured headers: no effect, no secret. Any status will do; only a real call could check the credentials.

Other hosts of status URLs (`allowed_hosts`) are checked up to the certificate. Texts: `check_endpoint.yaml`.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from cdc_sync import __version__
from cdc_sync.config import Config
from cdc_sync.config.hellowork import HelloWork
from cdc_sync.config.models import account_of, accounts
from cdc_sync.core.content import from_datetime
from cdc_sync.core.findings import Finding, Tell, Texts, check_clock, clock_skew, found
from cdc_sync.core.status_url import is_loopback
from cdc_sync.core.watch_names import listed
from cdc_sync.packaged import data

_PATIENCE = 10.0
"""Seconds for each step, at most."""

_SOON = 14
"""Days before a certificate's end that call for a warning."""

_DAY = 86_400
_SECOND = 1_000
_SERVER_ERROR = 500
_PROXY_WANTED = 407


class _Place(NamedTuple):
    """A target of calls; `url` only where an answer is wanted."""

    host: str
    port: int
    tls: bool
    url: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def scheme(self) -> str:
        """For `check_endpoint.yaml`."""
        return "https" if self.tls else "http"

    @property
    def hint(self) -> str:
        """A possible reason for a failed connection."""
        return "let the firewall pass it: cdc-sync uses no proxy" if self.tls else "is it running?"


def _texts() -> Texts:
    return cast("Texts", data("cli/check_endpoint.yaml"))


async def check_endpoint(config: Config, clock: Callable[[], int], tell: Tell) -> None:
    """Report whether calls could get through; `clock` is this machine's, in milliseconds since the epoch."""
    settings = config.hellowork
    patience = min(_PATIENCE, settings.timeout.total_seconds())
    for place in _places(settings):
        for check, ask in _STEPS.items():
            try:
                async with asyncio.timeout(patience):
                    findings = await ask(place, clock)
            except (OSError, UnicodeError, aiohttp.ClientError) as error:
                is_untrusted = check == "endpoint-tls" and isinstance(error, ssl.SSLCertVerificationError)
                what = "untrusted" if is_untrusted else "failed"
                tell(found(_texts(), f"{check}/{what}", place=place, why=_reason(error, patience)))
                break  # the next steps need it
            for finding in findings:
                tell(finding)
    tell(_check_headers(config))


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


async def _check_name(place: _Place, _: Callable[[], int]) -> list[Finding]:
    answer = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    addresses = ", ".join(dict.fromkeys(str(entry[4][0]) for entry in answer))
    return [found(_texts(), "endpoint-dns/known", place=place, addresses=addresses)]


async def _check_connection(place: _Place, _: Callable[[], int]) -> list[Finding]:
    await _open(place)
    return [found(_texts(), "endpoint-tcp/made", place=place)]


async def _check_certificate(place: _Place, clock: Callable[[], int]) -> list[Finding]:
    if not place.tls:
        return []
    certificate = await _open(place, ssl.create_default_context())
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) * _SECOND - clock()) // (_DAY * _SECOND)
    return [found(_texts(), f"endpoint-tls/{'soon' if days < _SOON else 'trusted'}", place=place, days=days)]


async def _check_answer(place: _Place, clock: Callable[[], int]) -> list[Finding]:
    if place.url is None:
        return []
    before, headers, tls = clock(), {"User-Agent": f"cdc-sync/{__version__}"}, ssl.create_default_context()
    url = URL(place.url, encoded=True)
    async with aiohttp.request("HEAD", url, headers=headers, allow_redirects=False, ssl=tls) as response:
        status, date = response.status, response.headers.get("Date")
    after = clock()
    what = "unwell" if status >= _SERVER_ERROR or status == _PROXY_WANTED else "answered"
    answered = found(_texts(), f"endpoint-http/{what}", place=place, status=status)
    try:
        theirs = from_datetime(parsedate_to_datetime(date or ""))
    except (TypeError, ValueError):
        return [answered]
    skew = clock_skew(theirs, before, after, resolution=_SECOND)
    return [answered, check_clock("endpoint-clock", f"the clock of {place.host}", skew)]


_STEPS: Mapping[str, Callable[[_Place, Callable[[], int]], Awaitable[list[Finding]]]] = {
    "endpoint-dns": _check_name,
    "endpoint-tcp": _check_connection,
    "endpoint-tls": _check_certificate,
    "endpoint-http": _check_answer,
}
"""By the check's name; they may raise network errors."""


def _check_headers(config: Config) -> Finding:
    settings, of_accounts = config.hellowork, accounts(config)
    own = {name: watch.hellowork.headers for name, watch in (config.watches or config.templates).items()}
    names = dict.fromkeys(chain.from_iterable((*of_accounts.values(), *own.values())))
    without = [name for name, headers in own.items() if not (headers or _headers_of(config, name, of_accounts))]
    is_local = is_loopback(urlsplit(settings.base_url).hostname or "")
    what = "configured" if not without else "unneeded" if is_local else "of-some" if names else "missing"
    return found(_texts(), f"headers/{what}", names=", ".join(names), without=listed(without))


def _headers_of(config: Config, name: str, of_accounts: Mapping[str, Mapping[str, str]]) -> object:
    """The headers of a watch's account; of a template's, or of rows', those of any."""
    account = account_of(config, name) if name in config.watches else config.templates[name].account
    found = of_accounts.get(account or "")
    return any(of_accounts.values()) if found is None else found


async def _open(place: _Place, tls: ssl.SSLContext | None = None) -> Mapping[str, Any]:
    """Connect, and abort: nothing was sent that must arrive. Returns the certificate, if any."""
    name = place.host if tls is not None else None
    _, writer = await asyncio.open_connection(place.host, place.port, ssl=tls, server_hostname=name)
    certificate = writer.get_extra_info("peercert") or {}
    writer.transport.abort()
    return certificate


def _reason(error: Exception, patience: float) -> str:
    if isinstance(error, TimeoutError) and not error.errno:
        return f"no answer within {patience:g} s"
    if isinstance(error, aiohttp.ClientError):
        return type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(getattr(error, "strerror", None) or error)
