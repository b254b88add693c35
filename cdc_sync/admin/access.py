"""Who may look, and who may act.

    what                                 needs
    /healthz, /readyz                    nothing; beyond loopback, to a stranger /readyz gives no details
    everything else, without a token     nothing, but the server listens on loopback only then; it may not be acted
    everything else, with a token        `Authorization: Bearer TOKEN`, or the cookie of a log-in
    an action                            the token, always

Guessing the token is slow (`Guesses`), in log-ins as in headers. `/healthz` looks at no token, and `/readyz` answers
whoever has none: a health check is never kept waiting by somebody's guesses.

Against a page of another site in the same browser:

- it cannot read: there is no CORS header, and on loopback a request without the token must name the loopback in `Host`.
  A name that an attacker controls may lead to 127.0.0.1 (DNS rebinding); the browser then takes our answers for the
  attacker's own, but it still sends the attacker's name.
- it cannot act: the cookie is `SameSite=Strict`, a request that says where it comes from (`Sec-Fetch-Site`, `Origin`)
  must come from ourselves, and a form must carry its session's token. Other ports of the same host are the same *site*,
  so the cookie's attribute alone would not do.
- it cannot frame, embed or open us with a handle: see the headers.

Whoever brings the token, in a header or by the cookie of a log-in, need not name the loopback: neither is at an
attacking page's disposal, and a proxy in front of the daemon may pass its own name on.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from aiohttp import web

from cdc_sync.config import Admin
from cdc_sync.core.observations import Observe, TokenRefused
from cdc_sync.listening import comes_from_ourselves, names_loopback

HEALTH = frozenset({"/healthz", "/readyz"})

SAFE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Not no-referrer: with that, browsers say `Origin: null` of our own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""What every answer is wrapped in, also a 404 that no handler of ours makes."""


LIFETIME = 12 * 60 * 60
"""Seconds that a log-in lasts."""

_MOST_SESSIONS = 64
"""Log-ins at once; beyond them the oldest ends, so that a forgotten script cannot fill the memory."""

FREE = 10
"""Wrong tokens before there are turns."""

_APART = 1.0
_APART_OVERALL = 0.25
"""Seconds between two turns of one address, and of all together."""

_FORGOTTEN_AFTER = 600.0
"""Seconds without a wrong token."""

_REMEMBERED = 1_000
"""Addresses, at most: beyond them the oldest is forgotten."""

_NEIGHBOUR = 64
"""Bits of an IPv6 address that belong to one neighbour: of the rest he has as many as he likes."""


@dataclass(slots=True)
class Session:
    """One log-in.

    Attributes:
        until: when it ends, on the sessions' clock.
        form_token: what its forms carry.
        messages: what its next page tells.
    """

    until: float
    form_token: str
    messages: list[str] = field(default_factory=list)


class Sessions:
    """Log-ins of browsers: kept in memory, so that the daemon's end is the end of all of them.

    The cookie holds a random number and nothing else; it is kept hashed here. Each session has a second random number
    that its forms carry, which a page of another site cannot know. `clock` gives seconds that do not go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}

    def open(self) -> str:
        """Begin one; returns what its cookie holds."""
        while len(self._sessions) >= _MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        cookie = secrets.token_urlsafe(32)
        self._sessions[_hash(cookie)] = Session(self._clock() + LIFETIME, secrets.token_urlsafe(32))
        return cookie

    def find(self, cookie: str | None) -> Session | None:
        """The session of a cookie, if it lasts."""
        if cookie is None:
            return None
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


@dataclass(slots=True)
class _Record:
    wrong: int = 0
    last: float = 0.0
    next_turn: float = 0.0


class Guesses:
    """How often somebody may try tokens: freely at first, then in turns, a second apart.

    After ten wrong tokens of one address each further try from there, right or wrong, waits for its turn. After ten of
    all addresses together so does each try from an address that has not brought the right token lately. Who would have
    to wait for longer than ten seconds is sent away without a look at his token, and told when to come again.

    The right token ends it for its address. So nobody is locked out for longer than others keep every turn taken from
    the same address, as can happen behind a proxy; a browser that has logged in needs no turn, as its cookie is no
    guess.

    Args:
        clock: seconds that do not go back.
        longest_wait: seconds that a try waits for its turn, at most.
    """

    def __init__(self, clock: Callable[[], float], longest_wait: float = 10.0) -> None:
        self._clock = clock
        self.longest_wait = longest_wait
        self._peers: dict[str, _Record] = {}
        self._all = _Record()
        self._right: dict[str, float] = {}

    def wait(self, address: str | None) -> float | None:
        """Take a turn; returns in how many seconds it is, or None if it is too far away and was not taken."""
        now = self._clock()
        peer = _peer(address)
        limits: list[tuple[_Record, float]] = []
        own = self._peers.get(peer)
        if own is not None and _is_over(own, now):
            limits.append((own, _APART))
        if _is_over(self._all, now) and now - self._right.get(peer, -_FORGOTTEN_AFTER) >= _FORGOTTEN_AFTER:
            limits.append((self._all, _APART_OVERALL))
        turn = max((record.next_turn for record, _ in limits), default=now)
        wait = max(turn - now, 0.0)
        if wait > self.longest_wait:
            return None
        for record, apart in limits:
            record.next_turn = now + wait + apart
        return wait

    def wrong(self, address: str | None) -> None:
        """A token was wrong."""
        now = self._clock()
        peer = _peer(address)
        own = self._peers.pop(peer, None) or _Record()
        self._peers[peer] = own
        if len(self._peers) > _REMEMBERED:
            del self._peers[next(iter(self._peers))]
        for record in (own, self._all):
            if now - record.last >= _FORGOTTEN_AFTER:
                record.wrong = 0
            record.wrong += 1
            record.last = now

    def right(self, address: str | None) -> None:
        """A token was right."""
        peer = _peer(address)
        self._peers.pop(peer, None)
        self._right.pop(peer, None)
        self._right[peer] = self._clock()
        if len(self._right) > _REMEMBERED:
            del self._right[next(iter(self._right))]


def _is_over(record: _Record, now: float) -> bool:
    return record.wrong >= FREE and now - record.last < _FORGOTTEN_AFTER


def _peer(address: str | None) -> str:
    """Whom an address belongs to."""
    try:
        # A link-local address has its interface behind a %.
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(int(found) >> (128 - _NEIGHBOUR))


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: somebody, somebody with the token in a header, or a browser that has logged in."""

    has_token: bool
    session: Session | None = None


class Access:
    """The rules of the module's text, for one configuration.

    Args:
        admin: where the server listens, and its token.
        clock: seconds that do not go back.
        guesses: makes those wait who guess.
        observe: told of wrong tokens.
    """

    def __init__(
        self, admin: Admin, clock: Callable[[], float], guesses: Guesses, observe: Observe = lambda _: None
    ) -> None:
        self._token = _token_of(admin)
        self._is_loopback = admin.listen is not None and admin.listen.is_loopback
        self._clock = clock
        self._sessions = Sessions(clock)
        self._guesses = guesses
        self._observe = observe
        self.cookie = "cdc_sync"

    @property
    def has_actions(self) -> bool:
        """Whether anybody may act through this server."""
        return self._token is not None

    def use(self, admin: Admin) -> None:
        """Ask for another token from now on; whoever logged in with the one before has to log in again."""
        token = _token_of(admin)
        if token != self._token:
            self._token, self._sessions = token, Sessions(self._clock)

    def listens_on(self, port: int) -> None:
        """Give the cookie a name of its own: browsers share cookies between the ports of a host."""
        self.cookie = f"cdc_sync_{port}"

    async def visitor(self, request: web.Request) -> Visitor:
        """Who asks; a token in a header may have to wait for its turn.

        Raises:
            HTTPException: it is not allowed to.
        """
        if self._token is not None:
            session = self._sessions.find(request.cookies.get(self.cookie))
            if session is not None:
                return Visitor(has_token=True, session=session)
            if await self._has_token(request):
                return Visitor(has_token=True)
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
        given = _given(request.headers.get("Authorization", ""))
        if not given or request.path == "/healthz":
            return False
        try:
            return await self.is_token(request, given)
        except web.HTTPTooManyRequests:
            if request.path in HEALTH:
                return False
            raise

    def is_stranger(self, visitor: Visitor) -> bool:
        """Whether somebody may know nothing of hosts and names: without the token, from who knows where."""
        return not visitor.has_token and not self._is_loopback

    def insist_on_actor(self, request: web.Request, visitor: Visitor, form_token: str) -> None:
        """Refuse a visitor who may not act.

        Raises:
            HTTPException: he may not.
        """
        if not visitor.has_token:
            raise web.HTTPForbidden(
                text="admin.token is not configured, and actions need it. Configure one, or use the command line: "
                "`cdc-sync fuse`, `cdc-sync dead-letters`.\n"
            )
        self.insist_on_ourselves(request)
        expected = None if visitor.session is None else visitor.session.form_token
        if expected is not None and not _equal(form_token, expected):
            raise web.HTTPForbidden(text="The form is not this log-in's. Load the page again.\n")

    async def is_token(self, request: web.Request, given: str) -> bool:
        """Whether it is the token; takes as long for a wrong one, however much of it is right.

        Raises:
            HTTPTooManyRequests: too many were wrong.
        """
        if self._token is None:
            return False
        wait = self._guesses.wait(request.remote)
        if wait is None:
            again = f"{self._guesses.longest_wait:.0f}"
            raise web.HTTPTooManyRequests(
                text=f"Too many wrong tokens were given. Try again in {again} s.\n", headers={"Retry-After": again}
            )
        await asyncio.sleep(wait)
        # The configuration may have another by now.
        if self._is_right(given):
            self._guesses.right(request.remote)
            return True
        self._guesses.wrong(request.remote)
        self._observe(TokenRefused(request.remote or "unknown"))
        return False

    def _is_right(self, given: str) -> bool:
        return self._token is not None and _equal(given, self._token)

    def log_in(self, request: web.Request, response: web.StreamResponse) -> None:
        """Give the browser a cookie."""
        response.set_cookie(
            self.cookie,
            self._sessions.open(),
            max_age=LIFETIME,
            path="/",
            httponly=True,
            samesite="Strict",
            # Behind a proxy that speaks TLS the browser knows better than we do what it spoke.
            secure=urlsplit(request.headers.get("Origin", "")).scheme == "https",
        )

    def log_out(self, request: web.Request, response: web.StreamResponse) -> None:
        """Forget the browser's log-in, here and there."""
        self._sessions.close(request.cookies.get(self.cookie, ""))
        response.del_cookie(self.cookie, path="/", httponly=True, samesite="Strict")

    def insist_on_ourselves(self, request: web.Request) -> None:
        """Refuse what a browser sends for a page of another origin.

        Raises:
            HTTPForbidden: it comes from elsewhere.
        """
        if comes_from_ourselves(request):
            return
        raise web.HTTPForbidden(
            text="This was asked for by a page of another site. If there is a proxy in between, let it pass the Host "
            "header on.\n"
        )


def _given(authorization: str) -> str:
    """The token in a header: behind the scheme, which is written in any case; empty if there is none."""
    scheme, blank, token = authorization.partition(" ")
    if not blank:
        return "" if scheme.lower() == "bearer" else scheme
    return token.strip() if scheme.lower() == "bearer" else ""


def _token_of(admin: Admin) -> str | None:
    return None if admin.token is None else admin.token.get_secret_value()


def _equal(given: str, expected: str) -> bool:
    # Bytes that are no UTF-8 come as lone surrogates.
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())
