"""Log-ins of browsers: kept in memory, so that the daemon's end is the end of all of them.

The cookie holds a random number and nothing else; it is kept hashed here. Each session has a second random number that
its forms carry, which a page of another site cannot know.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

LIFETIME = 12 * 60 * 60
"""Seconds that a log-in lasts."""

_MOST = 64
"""Log-ins at once; beyond them the oldest ends, so that a forgotten script cannot fill the memory."""


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
    """The log-ins that last; `clock` gives seconds that do not go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}

    def open(self) -> str:
        """Begin one; returns what its cookie holds."""
        while len(self._sessions) >= _MOST:
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
