"""Whether HelloWork can be reached, for `cdc-sync check`.

Each place of calls gets one `HEAD` without the configured headers: no effect, no secret. Any status will do; only a
real call could check the credentials. An error names the step that failed. Texts: `check_endpoint.yaml`.
"""

import ssl
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import cast
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

_SECOND = 1_000
_SERVER_ERROR = 500
_PROXY_WANTED = 407

_FAILED_STEPS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "endpoint-dns/failed"),
    (aiohttp.ClientSSLError, "endpoint-tls/failed"),
    (aiohttp.ClientConnectorError, "endpoint-tcp/failed"),
    (aiohttp.ConnectionTimeoutError, "endpoint-tcp/failed"),
    (aiohttp.ClientError, "endpoint-http/failed"),
)
"""The text of an error: the first class that fits."""


def _texts() -> Texts:
    return cast("Texts", data("cli/check_endpoint.yaml"))


async def check_endpoint(config: Config, clock: Callable[[], int], tell: Tell) -> None:
    """Report whether calls could get through; `clock` is this machine's, in milliseconds since the epoch."""
    settings = config.hellowork
    patience = min(_PATIENCE, settings.timeout.total_seconds())
    for url in _places(settings):
        for finding in await _check_place(url, patience, clock):
            tell(finding)
    tell(_check_headers(config))


def _places(settings: HelloWork) -> list[str]:
    """Where calls may go; a loopback address beside base_url is an emulator's."""
    allowed = [f"https://{host}" for host in settings.allowed_hosts]
    return [settings.base_url, *(url for url in allowed if not is_loopback(urlsplit(url).hostname or ""))]


async def _check_place(url: str, patience: float, clock: Callable[[], int]) -> list[Finding]:
    tls, headers = ssl.create_default_context(), {"User-Agent": f"cdc-sync/{__version__}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience, sock_read=patience)
    place, before = URL(url, encoded=True), clock()
    try:
        async with aiohttp.request(
            "HEAD", place, headers=headers, allow_redirects=False, ssl=tls, timeout=timeout
        ) as response:
            status, date = response.status, response.headers.get("Date")
    except aiohttp.ClientError as error:
        name = next(name for kind, name in _FAILED_STEPS if isinstance(error, kind))
        return [found(_texts(), name, place=place, why=_reason(error, patience))]
    what = "unwell" if status >= _SERVER_ERROR or status == _PROXY_WANTED else "answered"
    answered = found(_texts(), f"endpoint-http/{what}", place=place, status=status)
    try:
        theirs = from_datetime(parsedate_to_datetime(date or ""))
    except (TypeError, ValueError):
        return [answered]
    skew = clock_skew(theirs, before, clock(), resolution=_SECOND)
    return [answered, check_clock("endpoint-clock", f"the clock of {place.host}", skew)]


def _reason(error: aiohttp.ClientError, patience: float) -> str:
    if isinstance(error, aiohttp.ServerTimeoutError):
        return f"no answer within {patience:g} s"
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"


def _check_headers(config: Config) -> Finding:
    of_accounts = accounts(config)
    names = dict.fromkeys(chain.from_iterable(of_accounts.values()))
    # Rows that name their accounts have those of any.
    without = [name for name in config.watches if not of_accounts.get(account_of(config, name) or "", names)]
    is_local = is_loopback(urlsplit(config.hellowork.base_url).hostname or "")
    what = "configured" if names and not without else "unneeded" if is_local else "of-some" if names else "missing"
    return found(_texts(), f"headers/{what}", names=", ".join(names), without=listed(without))
