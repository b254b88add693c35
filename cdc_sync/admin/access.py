"""Who may look, and who may act.

    what                    needs
    /healthz, /readyz       nothing; beyond loopback, without the token /readyz gives no details
    all else                the token, by HTTP Basic (as the password of any user) or Bearer; without a configured
                            token nothing, but then the server listens on loopback only, and nobody may act

All this is decided by a request's headers, on every method, before its body is read. The right token is never delayed
or refused, whatever wrong ones arrive: a wrong one is answered a second later. That slows a person down, and no
attacker, who need not wait for the answer. The token's length protects it.

A browser sends the token by itself once it was typed in. So a page of another site in the same browser

- cannot act: `Sec-Fetch-Site` and `Origin`, which browsers send with every form, must be ours. Only its link to a page
  may be followed.
- cannot read: without CORS headers; on loopback a request without the token needs the loopback in `Host`, against DNS
  rebinding. With the token a proxy may pass its own name on.
- cannot frame, embed or open us with a handle: see the headers.
"""

import asyncio
import base64
import hmac
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from aiohttp import web

from cdc_sync.config import Admin
from cdc_sync.core.events import Emit, TokenRefused
from cdc_sync.core.failures import OperationError
from cdc_sync.core.reasons import Reason, coded
from cdc_sync.core.status_url import names_loopback
from cdc_sync.packaged import data

HEALTH = frozenset({"/healthz", "/readyz"})

_ANSWERS = data("admin/answers.yaml")

SAFE_HEADERS: Mapping[str, str] = _ANSWERS["headers"]
REFUSALS: Mapping[str, str] = _ANSWERS["refusals"]

_CHALLENGE = 'Basic realm="cdc-sync", charset="UTF-8"'

WRONG_ANSWERED_AFTER = 1.0
"""Seconds before a wrong token is refused."""

_LONGEST_NAME = 100


class RefusedError(OperationError):
    """The answer to a request that is not done; a browser gets it as a page."""

    def __init__(self, status: int, code: str, /, **values: object) -> None:
        self.status, self.message = status, coded(code, REFUSALS[code], **values)
        super().__init__(self.message)


@dataclass(frozen=True)
class Access:
    """The module's rules for one configuration."""

    admin: Admin
    observe: Emit

    @property
    def token(self) -> str:
        """Who brings it may act; empty: nobody may."""
        return "" if self.admin.token is None else self.admin.token.get_secret_value()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can ask."""
        return self.admin.listen is not None and self.admin.listen.is_loopback

    async def admit(self, request: web.Request) -> Reason | None:
        """Who brings the token; None if the request needs none. Raises `RefusedError` or `HTTPException`."""
        _insist_on_ourselves(request)
        login, given = _credentials(request.headers.get("Authorization", ""))
        # It takes the same time wherever they differ.
        if self.token and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.token.encode()):
            return self._who(request, login)
        is_wrong = bool(self.token and given)
        if is_wrong:
            self.observe(TokenRefused(request.remote or "unknown"))
        if not self.token or request.path in HEALTH:
            # No browser leaves Host out; an HTTP/1.0 health check may.
            host = request.headers.get("Host")
            if self.is_loopback and host is not None and not names_loopback(host):
                raise web.HTTPMisdirectedRequest(
                    text=f"{host!r} is no name of this machine's loopback: ask for 127.0.0.1, [::1] or localhost.\n"
                )
            return None
        if is_wrong:
            await asyncio.sleep(WRONG_ANSWERED_AFTER)
        raise web.HTTPUnauthorized(
            text="admin.token is needed, as the password of any user (Basic) or as `Authorization: Bearer …`\n",
            headers={"WWW-Authenticate": _CHALLENGE},
        )

    def _who(self, request: web.Request, login: str) -> Reason:
        """Whom a trusted proxy names; else by the token, and the name that was given with it."""
        address = request.remote or "unknown"
        named = request.headers.get(self.admin.user_header or "", "")
        if named and ip_address(address) in self.admin.proxies:
            return coded("by-user", "%(name)s by the proxy %(address)s", name=_name(named), address=address)
        if login:
            return coded("by-login", "the token as %(name)s from %(address)s", name=_name(login), address=address)
        return coded("by-token", "the token from %(address)s", address=address)


def _credentials(header: str) -> tuple[str, str]:
    """The name and the token that an `Authorization` header brings, empty if it is nothing that we know."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return "", rest.strip()
    if scheme.lower() == "basic":
        with suppress(ValueError):
            # Some clients send the name in Latin-1; only the password is compared.
            text = base64.b64decode(rest, validate=True).decode("utf-8", "surrogateescape")
            login, _, password = text.partition(":")
            return login, password
    return "", ""


def _name(given: str) -> str:
    """A header's bytes that are no UTF-8 are lone surrogates, which no store holds."""
    return given.encode("utf-8", "replace").decode()[:_LONGEST_NAME]


def _insist_on_ourselves(request: web.Request) -> None:
    """Raise `RefusedError` for a request from a page of another origin."""
    sites = {"same-origin"}
    if request.method in {"GET", "HEAD"}:
        # A person types an address, or follows a link: no other page can read the answer.
        sites |= {"none"}
        if request.headers.get("Sec-Fetch-Dest") == "document":
            sites |= {"same-site", "cross-site"}
    origin = request.headers.get("Origin")
    is_ours = origin is None or origin.partition("://")[2] == request.headers.get("Host")
    if not is_ours or request.headers.get("Sec-Fetch-Site", "same-origin") not in sites:
        raise RefusedError(403, "origin-foreign")
