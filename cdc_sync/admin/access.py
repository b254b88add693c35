"""Who may look, and who may act.

    what                                 needs
    /healthz, /readyz                    nothing; beyond loopback, without the token /readyz gives no details
    all else, without a token            nothing, but the server listens on loopback only, and nobody may act
    all else, with a token               `Authorization: Bearer TOKEN`, or the cookie of a log-in
    an action                            the token, always

All this is decided by a request's headers, on every method, before its body is read. The token of a log-in and that of
a form are in a body, so they come last.

The right token is never delayed or refused, whatever wrong ones arrive: a wrong one alone is answered a second later.
That slows a person down, and no attacker, who need not wait for the answer. The token's length protects it.

A page of another site in the same browser

- cannot read: without CORS headers; on loopback a request without the token needs the loopback in `Host`, against DNS
  rebinding. With the token a proxy may pass its own name on.
- cannot act: the cookie is `SameSite=Strict`, the origin (`Sec-Fetch-Site`, `Origin`) must be ours, and a form needs
  its session's token. The cookie is not enough: other ports of the host are the same *site*. Only its link to a page
  may be followed.
- cannot frame, embed or open us with a handle: see the headers.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

from cdc_sync.config import Admin
from cdc_sync.core.events import Emit, TokenRefused
from cdc_sync.core.reasons import coded
from cdc_sync.listening import comes_from_ourselves, names_loopback
from cdc_sync.packaged import data

HEALTH = frozenset({"/healthz", "/readyz"})

LOG_IN, FILES = "/login", "/static/"
"""The log-in, and the beginning of its files' paths: where there is a token, they are open to all."""

_ANSWERS = data("admin/answers.yaml")

SAFE_HEADERS: Mapping[str, str] = _ANSWERS["headers"]
REFUSALS: Mapping[str, str] = _ANSWERS["refusals"]

LIFETIME = 12 * 60 * 60
"""Seconds that a log-in lasts."""

_NO_OTHER_SITE = frozenset({"same-origin", "none"})
_ALL_SITES = frozenset({*_NO_OTHER_SITE, "same-site", "cross-site"})
"""Values of `Sec-Fetch-Site`; `none`: a person asked."""

_MOST_SESSIONS = 64
"""Log-ins at once; the oldest ends first."""

WRONG_ANSWERED_AFTER = 1.0
"""Seconds before a wrong token is refused."""

_MOST_DELAYED = 32
"""Refusals that are delayed at once; others go out immediately. Each keeps one of the server's places."""


def refuse(kind: Callable[..., web.HTTPException], code: str, /, **values: object) -> web.HTTPException:
    """A refusal with its reason as argument."""
    why = coded(code, REFUSALS[code], **values)
    made = kind(text=f"{why}\n")
    made.args = (why,)
    return made


@dataclass(slots=True)
class Session:
    """One log-in; `done` has actions and their numbers of entries, for its next page."""

    until: float
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    form_token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    done: list[tuple[str, int]] = field(default_factory=list)


class Sessions:
    """Log-ins of browsers, in memory, with hashed cookies; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}

    def open(self) -> str:
        """Begin one, and return its cookie."""
        cookie = secrets.token_urlsafe(32)
        _keep(self._sessions, _hash(cookie), Session(self._clock() + LIFETIME), _MOST_SESSIONS)
        return cookie

    def find(self, cookie: str) -> Session | None:
        """The present session of a cookie."""
        session = self._sessions.get(_hash(cookie))
        if session is not None and session.until <= self._clock():
            self.close(cookie)
            return None
        return session

    def close(self, cookie: str) -> None:
        """End one."""
        self._sessions.pop(_hash(cookie), None)


def _hash(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("utf-8", "surrogateescape")).digest()


def _keep(kept: dict[Any, Any], key: object, value: object, most: int) -> None:
    """Put a value last; drop the first of too many."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]


class Visitor(NamedTuple):
    """The sender of a request."""

    has_token: bool
    session: Session | None = None


_WITHOUT_TOKEN = Visitor(has_token=False)


class Access:
    """The module's rules for one configuration."""

    def __init__(self, admin: Admin, clock: Callable[[], float], observe: Emit) -> None:
        self._token: str | None = None
        self._is_loopback = admin.listen is not None and admin.listen.is_loopback
        self._clock = clock
        self._sessions = Sessions(clock)
        self._delayed = 0
        self._observe = observe
        self.cookie = "cdc_sync"
        self.use(admin)

    @property
    def has_actions(self) -> bool:
        """Whether anybody may act."""
        return self._token is not None

    def use(self, admin: Admin) -> None:
        """Require another token; log-ins with the former one end."""
        self.home = f"{admin.prefix}/"
        token = None if admin.token is None else admin.token.get_secret_value()
        if token != self._token:
            self._token, self._sessions = token, Sessions(self._clock)

    def listens_on(self, port: int) -> None:
        """Name the cookie after the port: a host's ports share cookies."""
        self.cookie = f"cdc_sync_{port}"

    async def visitor(self, request: web.Request) -> Visitor:
        """The sender of a request, by its headers alone. Raises `HTTPException`."""
        _insist_on_ourselves(request)
        if self._token is None:
            self._insist_on_loopback(request)
            return _WITHOUT_TOKEN
        if request.path == LOG_IN or request.path.startswith(FILES):
            # A proxy may pass its own name on.
            return _WITHOUT_TOKEN
        session = self._sessions.find(request.cookies.get(self.cookie, ""))
        if session is not None or await self._has_token(request):
            return Visitor(has_token=True, session=session)
        if request.path not in HEALTH:
            raise web.HTTPUnauthorized(
                text="admin.token is needed, as `Authorization: Bearer …`\n",
                headers={"WWW-Authenticate": "Bearer"},
            )
        self._insist_on_loopback(request)
        return _WITHOUT_TOKEN

    def _insist_on_loopback(self, request: web.Request) -> None:
        """Raise `HTTPMisdirectedRequest` if a server on loopback is asked for by another name."""
        # No browser leaves Host out; an HTTP/1.0 health check may.
        host = request.headers.get("Host")
        if self._is_loopback and host is not None and not names_loopback(host):
            raise web.HTTPMisdirectedRequest(
                text=f"{host!r} is no name of this machine's loopback: ask for 127.0.0.1, [::1] or localhost.\n"
            )

    async def _has_token(self, request: web.Request) -> bool:
        # Without a scheme, all of it is the token.
        scheme, blank, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = "" if blank else scheme
        token = token.strip()
        if not token or request.path == "/healthz":
            return False
        if request.path in HEALTH:
            # It is answered without the token too, and never late.
            return self._is_right(request, token)
        return await self.is_token(request, token)

    def is_stranger(self, visitor: Visitor) -> bool:
        """Whether a visitor may see no names: beyond loopback, without the token."""
        return not visitor.has_token and not self._is_loopback

    def insist_on_actor(self, visitor: Visitor) -> None:
        """Raise HTTPForbidden for a visitor who may not act."""
        if not visitor.has_token:
            raise refuse(web.HTTPForbidden, "token-unconfigured")

    def insist_on_form(self, visitor: Visitor, form_token: str) -> None:
        """Raise HTTPForbidden for a form that is not of the visitor's log-in; a script needs none."""
        if visitor.session is not None and not _equal(form_token, visitor.session.form_token):
            raise refuse(web.HTTPForbidden, "form-foreign")

    async def is_token(self, request: web.Request, given: str) -> bool:
        """Whether this is the token; a wrong one is answered late."""
        if self._token is None:
            return False
        if self._is_right(request, given):
            return True
        await self._delay()
        return False

    def _is_right(self, request: web.Request, given: str) -> bool:
        """Compare with the token, in constant time."""
        if self._token is not None and _equal(given, self._token):
            return True
        self._observe(TokenRefused(request.remote or "unknown"))
        return False

    async def _delay(self) -> None:
        if self._delayed >= _MOST_DELAYED:
            return
        self._delayed += 1
        try:
            await asyncio.sleep(WRONG_ANSWERED_AFTER)
        finally:
            self._delayed -= 1

    def log_in(self, request: web.Request) -> web.Response:
        """Lead the browser to the overview, with a cookie."""
        response = web.Response(status=303, headers={"Location": self.home})
        response.set_cookie(
            self.cookie,
            self._sessions.open(),
            max_age=LIFETIME,
            path=self.home,
            httponly=True,
            samesite="Strict",
            # Behind a TLS proxy only the browser knows.
            secure=request.headers.get("Origin", "").startswith("https://"),
        )
        return response

    def log_out(self, request: web.Request) -> web.Response:
        """End the browser's log-in."""
        response = web.Response(status=303, headers={"Location": self.home})
        self._sessions.close(request.cookies.get(self.cookie, ""))
        response.del_cookie(self.cookie, path=self.home, httponly=True, samesite="Strict")
        return response


def _insist_on_ourselves(request: web.Request) -> None:
    """Raise HTTPForbidden for a request from a page of another origin."""
    if request.method in {"GET", "HEAD"}:
        # A person types an address, or follows a link: no other page can read the answer.
        is_followed = request.headers.get("Sec-Fetch-Dest") == "document"
        sites = _ALL_SITES if is_followed else _NO_OTHER_SITE
        is_ours = comes_from_ourselves(request, sites)
    else:
        is_ours = comes_from_ourselves(request)
    if not is_ours:
        raise refuse(web.HTTPForbidden, "origin-foreign")


def _equal(given: str, expected: str) -> bool:
    # A header's bytes that are no UTF-8 are lone surrogates.
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())
