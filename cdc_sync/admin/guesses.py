"""How often somebody may try tokens: freely at first, then in turns, a second apart.

After ten wrong tokens of one address each further try from there, right or wrong, waits for its turn. After ten of all
addresses together so does each try from an address that has not brought the right token lately. Who would have to wait
for longer than ten seconds is sent away without a look at his token, and told when to come again.

The right token ends it for its address. So nobody is locked out for longer than others keep every turn taken from the
same address, as can happen behind a proxy; a browser that has logged in needs no turn, as its cookie is no guess.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

FREE = 10
"""Wrong tokens before there are turns."""

_APART = 1.0
_APART_OVERALL = 0.25
"""Seconds between two turns of one address, and of all together."""

_FORGOTTEN_AFTER = 600.0
"""Seconds without a wrong token."""

_REMEMBERED = 1_000
"""Addresses, at most: beyond them the oldest is forgotten."""

_PREFIX = 64
"""Bits of an IPv6 address that belong to one neighbour: of the rest he has as many as he likes."""


@dataclass(slots=True)
class _Record:
    wrong: int = 0
    last: float = 0.0
    next_turn: float = 0.0


class TooManyGuessesError(Exception):
    """No turn is near.

    Attributes:
        again_in: seconds until one may be.
    """

    def __init__(self, again_in: float) -> None:
        super().__init__(f"Too many wrong tokens were given. Try again in {again_in:.0f} s.")
        self.again_in = again_in


class Guesses:
    """Gives turns.

    Args:
        clock: seconds that do not go back.
        longest_wait: seconds that a try waits for its turn, at most.
    """

    def __init__(self, clock: Callable[[], float], longest_wait: float = 10.0) -> None:
        self._clock = clock
        self._longest_wait = longest_wait
        self._peers: dict[str, _Record] = {}
        self._all = _Record()
        self._right: dict[str, float] = {}

    def wait(self, address: str | None) -> float:
        """Take a turn; returns in how many seconds it is.

        Raises:
            TooManyGuessesError: it is too far away, and was not taken.
        """
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
        if wait > self._longest_wait:
            raise TooManyGuessesError(self._longest_wait)
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
    return str(int(found) >> (128 - _PREFIX))
