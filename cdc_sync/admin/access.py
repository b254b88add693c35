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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from aiohttp import web

from cdc_sync.config import Admin
from cdc_sync.core.events import Emit, TokenRefused
from cdc_sync.core.reasons import Reason, coded
from cdc_sync.listening import comes_from_ourselves, names_loopback
from cdc_sync.packaged import data

HEALTH = frozenset({"/healthz", "/readyz"})

_ANSWERS = data("admin/answers.yaml")

SAFE_HEADERS: Mapping[str, str] = _ANSWERS["headers"]
REFUSALS: Mapping[str, str] = _ANSWERS["refusals"]

_CHALLENGE = 'Basic realm="cdc-sync", charset="UTF-8"'

_NO_OTHER_SITE = frozenset({"same-origin", "none"})
_ALL_SITES = frozenset({*_NO_OTHER_SITE, "same-site", "cross-site"})
"""Values of `Sec-Fetch-Site`; `none`: a person asked."""

WRONG_ANSWERED_AFTER = 1.0
"""Seconds before a wrong token is refused."""

_MOST_DELAYED = 32
"""Refusals that are delayed at once; others go out immediately. Each keeps one of the server's places."""

_LONGEST_NAME = 100


def refuse(kind: Callable[..., web.HTTPException], code: str, /, **values: object) -> web.HTTPException:
    """A refusal with its reason as argument."""
    why = coded(code, REFUSALS[code], **values)
    made = kind(text=f"{why}\n")
    made.args = (why,)
    return made


@dataclass(frozen=True)
class Visitor:
    """The sender of an admitted request; `who` names the person, as far as is known."""

    has_token: bool
    who: Reason


class Access:
    """The module's rules for one configuration."""

    def __init__(self, admin: Admin, observe: Emit) -> None:
        self._observe = observe
        self._delays = asyncio.Semaphore(_MOST_DELAYED)
        self.use(admin)

    def use(self, admin: Admin) -> None:
        """Follow another configuration."""
        self._admin = admin
        self._token = "" if admin.token is None else admin.token.get_secret_value()
        self.is_loopback = admin.listen is not None and admin.listen.is_loopback

    @property
    def has_actions(self) -> bool:
        """Whether anybody may act."""
        return bool(self._token)

    async def admit(self, request: web.Request) -> Visitor:
        """The sender of a request, by its headers alone. Raises `HTTPException`."""
        _insist_on_ourselves(request)
        given = _credentials(request.headers.get("Authorization", ""))
        if self._token and _equal(given.token, self._token):
            return Visitor(has_token=True, who=self._who(request, given.login))
        is_wrong = bool(self._token and given.token)
        if is_wrong:
            self._observe(TokenRefused(request.remote or "unknown"))
        if not self._token or request.path in HEALTH:
            self._insist_on_loopback(request)
            return Visitor(has_token=False, who=self._who(request, ""))
        if is_wrong and not self._delays.locked():
            async with self._delays:
                await asyncio.sleep(WRONG_ANSWERED_AFTER)
        raise web.HTTPUnauthorized(
            text="admin.token is needed, as the password of any user (Basic) or as `Authorization: Bearer …`\n",
            headers={"WWW-Authenticate": _CHALLENGE},
        )

    def _insist_on_loopback(self, request: web.Request) -> None:
        """Raise `HTTPMisdirectedRequest` if a server on loopback is asked for by another name."""
        # No browser leaves Host out; an HTTP/1.0 health check may.
        host = request.headers.get("Host")
        if self.is_loopback and host is not None and not names_loopback(host):
            raise web.HTTPMisdirectedRequest(
                text=f"{host!r} is no name of this machine's loopback: ask for 127.0.0.1, [::1] or localhost.\n"
            )

    def _who(self, request: web.Request, login: str) -> Reason:
        """Whom a trusted proxy names; else by the token, and the name that was given with it."""
        address, header = request.remote or "unknown", self._admin.user_header
        named = request.headers.get(header, "") if header else ""
        if named and ip_address(address) in self._admin.proxies:
            return coded("by-user", "%(name)s by the proxy %(address)s", name=_name(named), address=address)
        if login:
            return coded("by-login", "the token as %(name)s from %(address)s", name=_name(login), address=address)
        return coded("by-token", "the token from %(address)s", address=address)


@dataclass(frozen=True)
class _Credentials:
    """What an `Authorization` header brings."""

    token: str = ""
    login: str = ""


def _credentials(header: str) -> _Credentials:
    """The credentials of a header, empty if it is nothing that we know."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return _Credentials(rest.strip())
    if scheme.lower() != "basic":
        return _Credentials()
    try:
        # Some clients send the name in Latin-1; only the password is compared.
        text = base64.b64decode(rest, validate=True).decode("utf-8", "surrogateescape")
    except ValueError:
        return _Credentials()
    login, _, password = text.partition(":")
    return _Credentials(password, login)


def _name(given: str) -> str:
    """A header's bytes that are no UTF-8 are lone surrogates, which no store holds."""
    return given.encode("utf-8", "replace").decode()[:_LONGEST_NAME]


def _insist_on_ourselves(request: web.Request) -> None:
    """Raise HTTPForbidden for a request from a page of another origin."""
    if request.method in {"GET", "HEAD"}:
        # A person types an address, or follows a link: no other page can read the answer.
        is_followed = request.headers.get("Sec-Fetch-Dest") == "document"
        is_ours = comes_from_ourselves(request, _ALL_SITES if is_followed else _NO_OTHER_SITE)
    else:
        is_ours = comes_from_ourselves(request)
    if not is_ours:
        raise refuse(web.HTTPForbidden, "origin-foreign")


def _equal(given: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())
