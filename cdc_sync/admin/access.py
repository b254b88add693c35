"""Who may look, and who may act.

    what                                 needs
    /healthz, /readyz                    nothing; beyond loopback, without the token /readyz gives no details
    all else, without a token            nothing, but the server listens on loopback only, and nobody may act
    all else, with a token               `Authorization: Bearer TOKEN`, or the cookie of a log-in
    an action                            the token, always

Guessing the token is slow (`Guesses`), and delays no health check. A page of another site in the same browser

- cannot read: without CORS headers; on loopback a request without the token needs the loopback in `Host`, against DNS
  rebinding. With the token a proxy may pass its own name on.
- cannot act: the cookie is `SameSite=Strict`, the origin (`Sec-Fetch-Site`, `Origin`) must be ours, and a form needs
  its session's token. The cookie is not enough: other ports of the host are the same *site*.
- cannot frame, embed or open us with a handle: see the headers.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, NamedTuple

from aiohttp import web

from cdc_sync.config import Admin
from cdc_sync.core.events import Emit, TokenRefused
from cdc_sync.core.reasons import coded
from cdc_sync.listening import comes_from_ourselves, names_loopback
from cdc_sync.packaged import data

HEALTH = frozenset({"/healthz", "/readyz"})

_ANSWERS = data("admin/answers.yaml")

SAFE_HEADERS: Mapping[str, str] = _ANSWERS["headers"]
REFUSALS: Mapping[str, str] = _ANSWERS["refusals"]

LIFETIME = 12 * 60 * 60
"""Seconds that a log-in lasts."""

_MOST_SESSIONS = 64
"""Log-ins at once; the oldest ends first."""

FREE = 10
"""Wrong tokens without a delay."""

_APART = 1.0
_APART_OVERALL = 0.25
"""Seconds between two turns, of one address and of all."""

_FORGOTTEN_AFTER = 600.0
"""Seconds without a wrong token that reset the count."""

_REMEMBERED = 1_000
"""Addresses; the oldest is dropped first."""

_NEIGHBOUR = 64
"""Bits of an IPv6 address that identify a visitor's network."""


def refuse(kind: type[web.HTTPException], code: str, /, **values: object) -> web.HTTPException:
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


@dataclass(slots=True)
class _Limit:
    """Recent wrong tokens, the time of the last one, and the next turn."""

    apart: float = _APART
    wrong: int = 0
    last: float = -_FORGOTTEN_AFTER
    next_turn: float = 0.0


class Guesses:
    """Slows the guessing of the token.

    After ten wrong tokens of an address each try from there waits for its turn; after ten of all addresses, so does
    each from one without a recent right token. A try that would wait longer than `longest_wait` seconds is refused
    unread. The right token resets its address.
    """

    def __init__(self, clock: Callable[[], float], longest_wait: float = 10.0) -> None:
        self._clock = clock
        self.longest_wait = longest_wait
        self._peers: dict[str, _Limit] = {}
        self._all = _Limit(_APART_OVERALL)
        # Apart: guessing addresses must not push it out.
        self._right: dict[str, float] = {}

    def wait(self, address: str | None) -> float | None:
        """Take a turn; returns the seconds until then, or None if it is too far away."""
        now, peer = self._clock(), _peer(address)
        is_known = now - self._right.get(peer, -_FORGOTTEN_AFTER) < _FORGOTTEN_AFTER
        limits = [self._peers.get(peer, _Limit()), *([] if is_known else [self._all])]
        limits = [each for each in limits if each.wrong >= FREE and now - each.last < _FORGOTTEN_AFTER]
        turn = max((now, *(each.next_turn for each in limits)))
        if turn - now > self.longest_wait:
            return None
        for each in limits:
            each.next_turn = turn + each.apart
        return turn - now

    def wrong(self, address: str | None) -> None:
        """Note a wrong token."""
        now, peer = self._clock(), _peer(address)
        limit = self._peers.get(peer) or _Limit()
        _keep(self._peers, peer, limit, _REMEMBERED)
        for each in (limit, self._all):
            each.wrong = each.wrong + 1 if now - each.last < _FORGOTTEN_AFTER else 1
            each.last = now

    def right(self, address: str | None) -> None:
        """Note the right token."""
        self._peers.pop(_peer(address), None)
        _keep(self._right, _peer(address), self._clock(), _REMEMBERED)


def _peer(address: str | None) -> str:
    try:
        # A link-local address has its interface behind a %.
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    found = getattr(found, "ipv4_mapped", None) or found
    return str(int(found) >> (128 - _NEIGHBOUR) if found.version == 6 else found)  # noqa: PLR2004 - IPv6


class Visitor(NamedTuple):
    """The sender of a request."""

    has_token: bool
    session: Session | None = None


class Access:
    """The module's rules for one configuration."""

    def __init__(self, admin: Admin, clock: Callable[[], float], longest_wait: float, observe: Emit) -> None:
        self._token: str | None = None
        self._is_loopback = admin.listen is not None and admin.listen.is_loopback
        self._clock = clock
        self._sessions = Sessions(clock)
        self._guesses = Guesses(clock, longest_wait)
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
        """The sender of a request; a token may wait for its turn. Raises `HTTPException`."""
        if self._token is not None:
            session = self._sessions.find(request.cookies.get(self.cookie, ""))
            if session is not None or await self._has_token(request):
                return Visitor(has_token=True, session=session)
            if request.path not in HEALTH:
                raise web.HTTPUnauthorized(
                    text="admin.token is needed, as `Authorization: Bearer …`\n",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        # No browser leaves Host out; an HTTP/1.0 health check may.
        host = request.headers.get("Host")
        if self._is_loopback and host is not None and not names_loopback(host):
            raise web.HTTPMisdirectedRequest(
                text=f"{host!r} is no name of this machine's loopback: ask for 127.0.0.1, [::1] or localhost.\n"
            )
        return Visitor(has_token=False)

    async def _has_token(self, request: web.Request) -> bool:
        # Without a scheme, all of it is the token.
        scheme, blank, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = "" if blank else scheme
        if not token.strip() or request.path == "/healthz":
            return False
        try:
            return await self.is_token(request, token.strip())
        except web.HTTPTooManyRequests:
            if request.path in HEALTH:
                return False
            raise

    def is_stranger(self, visitor: Visitor) -> bool:
        """Whether a visitor may see no names: beyond loopback, without the token."""
        return not visitor.has_token and not self._is_loopback

    def insist_on_actor(self, request: web.Request, visitor: Visitor, form_token: str) -> None:
        """Raise HTTPForbidden for a visitor who may not act."""
        if not visitor.has_token:
            raise refuse(web.HTTPForbidden, "token-unconfigured")
        self.insist_on_ourselves(request)
        if visitor.session is not None and not _equal(form_token, visitor.session.form_token):
            raise refuse(web.HTTPForbidden, "form-foreign")

    def insist_on_ourselves(self, request: web.Request) -> None:
        """Raise HTTPForbidden for a request from a page of another origin."""
        if not comes_from_ourselves(request):
            raise refuse(web.HTTPForbidden, "origin-foreign")

    async def is_token(self, request: web.Request, given: str) -> bool:
        """Compare with the token, in constant time; may raise `HTTPTooManyRequests`."""
        if self._token is None:
            return False
        wait = self._guesses.wait(request.remote)
        if wait is None:
            again = f"{self._guesses.longest_wait:.0f}"
            refusal = refuse(web.HTTPTooManyRequests, "guesses", seconds=again)
            refusal.headers["Retry-After"] = again
            raise refusal
        await asyncio.sleep(wait)
        # The configuration may have another by now.
        token: str | None = self._token
        if token is not None and _equal(given, token):
            self._guesses.right(request.remote)
            return True
        self._guesses.wrong(request.remote)
        self._observe(TokenRefused(request.remote or "unknown"))
        return False

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


def _equal(given: str, expected: str) -> bool:
    # A header's bytes that are no UTF-8 are lone surrogates.
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())
