"""Whether HelloWork can be reached, for `cdc-sync check`.

Each place of calls gets one `HEAD` without the configured headers: no effect, no secret. Any status will do; only a
real call could check the credentials. Texts: `check_endpoint.yaml`.
"""

import ssl
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from cdc_sync import __version__
from cdc_sync.config import Config
from cdc_sync.config.models import account_of, accounts
from cdc_sync.core.content import from_datetime
from cdc_sync.core.findings import Finding, Tell, Texts, check_clock, clock_skew, found
from cdc_sync.core.status_url import is_loopback
from cdc_sync.core.watch_names import listed
from cdc_sync.packaged import data
from cdc_sync.wall_clock import wall_clock

_PATIENCE = 10.0
"""Seconds for each step, at most."""

_SECOND = 1_000
_SERVER_ERROR = 500
_PROXY_WANTED = 407


def _found(name: str, **facts: Any) -> Finding:
    return found(cast("Texts", data("cli/check_endpoint.yaml")), name, **facts)


async def check_endpoint(config: Config, tell: Tell) -> None:
    """Report whether calls could get through."""
    settings = config.hellowork
    patience = min(_PATIENCE, settings.timeout.total_seconds())
    # A loopback address beside base_url is an emulator's.
    allowed = [f"https://{host}" for host in settings.allowed_hosts]
    for url in [settings.base_url, *(each for each in allowed if not _is_here(each))]:
        await _check_place(URL(url, encoded=True), patience, tell)
    tell(_check_headers(config))


def _is_here(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")


async def _check_place(place: URL, patience: float, tell: Tell) -> None:
    tls, headers = ssl.create_default_context(), {"User-Agent": f"cdc-sync/{__version__}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience, sock_read=patience)
    asked = aiohttp.request("HEAD", place, headers=headers, allow_redirects=False, ssl=tls, timeout=timeout)
    before = wall_clock()
    try:
        async with asked as response:
            status, date = response.status, response.headers.get("Date", "")
    except aiohttp.ClientError as error:
        tell(_found("endpoint/failed", place=place, why=f"{type(error).__name__}: {error}"))
        return
    is_unwell = status >= _SERVER_ERROR or status == _PROXY_WANTED
    tell(_found(f"endpoint/{'unwell' if is_unwell else 'answered'}", place=place, status=status))
    try:
        theirs = from_datetime(parsedate_to_datetime(date))
    except (TypeError, ValueError):
        return
    skew = clock_skew(theirs, before, wall_clock(), resolution=_SECOND)
    tell(check_clock("endpoint-clock", f"the clock of {place.host}", skew))


def _check_headers(config: Config) -> Finding:
    of_accounts = accounts(config)
    names = dict.fromkeys(chain.from_iterable(of_accounts.values()))
    # Rows that name their accounts have those of any.
    without = [name for name in config.watches if not of_accounts.get(account_of(config, name) or "", names)]
    if without and not _is_here(config.hellowork.base_url):
        return _found("headers/missing", without=listed(without))
    return _found("headers/configured", names=", ".join(names) or "no header")
