"""Shares the watches among several daemons, as `core.shares` decides: one look at the store for all watches.

A look is a transaction of two statements, for any number of watches. It comes when a watch asks, when another daemon
notifies, and every few seconds. A lone daemon without waiting watches never looks.

**Rebalancing.** A daemon with more than its share ends the capture of some watches, and gives their leases back;
daemons with fewer take them. The former daemon takes an untaken watch again, keeps it, and gives the other daemon
nothing for a while: one with failing captures must not take watches from a working one.

**A scout.** A lease outlasts its daemon's capture session, and only the ATS's server shows whether that has ended. So
every few seconds one of the watches that wait for a session looks there; an ended session frees all of them.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from cdc_sync.core.failures import StoreError
from cdc_sync.core.shares import Plan, plan
from cdc_sync.store.driver import Run, Transaction
from cdc_sync.store.postgres.claims import BEAT
from cdc_sync.store.protocol import Lease

LOOK_EVERY = 5.0
"""Most seconds between looks, where other daemons' notifications arrive."""

_GATHERED_FOR = 0.02
"""Seconds in which a look gathers further requests."""

_SETTLED_AFTER = 0.3
"""Seconds for which a free watch waits for other takers, its former daemon above all."""

_TAKEN_WITHIN = 10.0
"""Seconds after which any daemon may take a free watch: starting on a busy host may take five."""

_REBALANCED_EVERY = 5.0
"""Least seconds between two rebalancings."""

_AT_ONCE = 50
"""Most watches given back in one rebalancing: each begins with a sweep at its new daemon."""

_COMES_BACK_WITHIN = 60.0
"""Seconds within which an untaken watch returns, and for which the daemon that left it is given nothing."""

_KEPT_FOR = 600.0
"""Seconds for which such a watch then stays."""


class _Daemon(NamedTuple):
    number: int
    host: str
    process: int
    lives: bool
    waits_for: list[str]

    def lease(self, session: str | None = None) -> Lease:
        """Its lease of a watch."""
        return Lease(mine=False, session=session, number=self.number, host=self.host, process=self.process)


@dataclass(slots=True, eq=False)
class _Waiter:
    """A watch that this daemon would capture.

    Attributes:
        able: whether its database seems to be in reach.
        known: the holder that its worker knows; None at first.
        after: the last look that is too early to answer: it may show a lease that was given back since.
        try_at: when the worker should try in any case, if it is the scout.
        answer: its worker awaits this; None while that tries.
    """

    able: Callable[[], bool] = lambda: True
    known: Lease | None = None
    after: int = 0
    try_at: float = math.inf
    answer: asyncio.Future[Lease | None] | None = None


@dataclass(slots=True)
class _View:
    """The store's table at the last look."""

    look: int = 0
    daemon: int = 0
    others: dict[int, _Daemon] = field(default_factory=dict)
    holders: dict[str, Lease] = field(default_factory=dict)
    plan: Plan = field(default_factory=lambda: Plan({}, {}))


class Sharing:
    """See the module's text.

    `daemon` is `Driver.daemon`; `notify` makes other daemons look; `is_heard` is whether their notifications arrive
    here, `others` whether any is known to live.
    """

    def __init__(
        self,
        run: Run,
        daemon: Callable[[], Awaitable[int]],
        notify: Callable[[], Awaitable[None]],
        is_heard: Callable[[], bool],
        others: Callable[[], bool],
    ) -> None:
        self._run = run
        self._daemon = daemon
        self._notify = notify
        self._is_heard = is_heard
        self._others = others
        self._waiters: dict[str, _Waiter] = {}
        self._captures: dict[str, Callable[[], None]] = {}
        self._ending: set[str] = set()
        """Captures that were asked to end."""
        self._looks = 0
        self._view = _View()
        self._published: tuple[int, frozenset[str]] | None = None
        self._over: set[str] = set()
        """Ended sessions that leases still name."""
        self._free_since: dict[str, float] = {}
        self._rebalance_from = -math.inf
        self._given_up: dict[str, tuple[float, int]] = {}
        """When each watch was given up, and for which daemon."""
        self._kept_until: dict[str, float] = {}
        self._shunned_until: dict[int, float] = {}
        self._wanted = asyncio.Event()
        self._announce = False

    # Requests of watches.

    async def ask(self, watch: str) -> Lease | None:
        """None if this daemon should take the watch; else the lease of the daemon that has it.

        Raises:
            StoreError: the store does not answer.
        """
        waiter = self._waiters.setdefault(watch, _Waiter())
        waiter.known, waiter.after = None, self._looks
        waiter.answer = asyncio.get_running_loop().create_future()
        self._wanted.set()
        return await _answered(waiter, waiter.answer)

    async def stand_by(self, watch: str, known: Lease, within: float, able: Callable[[], bool]) -> Lease | None:
        """See `Driver.stand_by`."""
        waiter = self._waiters.setdefault(watch, _Waiter())
        waiter.known, waiter.able, waiter.try_at = known, able, time.monotonic() + within
        waiter.answer = asyncio.get_running_loop().create_future()
        self._judge(watch, waiter, time.monotonic(), scouts=False)  # the holder may have changed since
        return await _answered(waiter, waiter.answer)

    def withdraw(self, watch: str) -> None:
        """See `Driver.withdraw`."""
        self._waiters.pop(watch, None)

    def taken(self, watch: str, instead_of: Lease | None) -> None:
        """This daemon has taken the watch's lease."""
        self.withdraw(watch)
        now = time.monotonic()
        given_up_at, daemon = self._given_up.pop(watch, (-math.inf, 0))
        if now - given_up_at < _COMES_BACK_WITHIN:
            self._kept_until[watch] = now + _KEPT_FOR
            self._shunned_until[daemon] = now + _COMES_BACK_WITHIN
        if instead_of is not None and instead_of.session:
            self._over.add(instead_of.session)
            self.look()

    @contextmanager
    def capturing(self, watch: str, end: Callable[[], None]) -> Iterator[None]:
        """See `Driver.capturing`."""
        self._captures[watch] = end
        try:
            yield
        finally:
            del self._captures[watch]
            self._ending.discard(watch)

    def look(self, *, announce: bool = False) -> None:
        """Look soon; with `announce`, let others look too."""
        self._announce = self._announce or announce
        self._wanted.set()

    # The looks.

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            try:
                async with asyncio.timeout(self._rest()):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(_GATHERED_FOR)
            self._wanted.clear()
            try:
                await self._look()
            except StoreError as error:
                self._failed(error)
            self._judge_all()

    def _rest(self) -> float | None:
        """Seconds until the next look without a request; None: never."""
        if not self._waiters and not self._others():
            return None
        now = time.monotonic()
        every = LOOK_EVERY if self._is_heard() else BEAT
        dues = [self._waiters[watch].try_at for watch in self._scouts()]
        for watch, waiter in self._waiters.items():
            if watch in self._free_since and waiter.answer is not None:
                since = self._free_since[watch]
                dues.append(since + (_SETTLED_AFTER if now < since + _SETTLED_AFTER else _TAKEN_WITHIN))
        return min(every, max(min(dues, default=math.inf) - now, _GATHERED_FOR))

    async def _look(self) -> None:
        self._looks += 1
        look = self._looks
        daemon = await self._daemon()
        wanted = frozenset(watch for watch, waiter in self._waiters.items() if waiter.able())
        is_news = self._others() and self._published != (daemon, wanted)
        leases, daemons = await self._run(
            partial(_looked, daemon=daemon, waits_for=sorted(wanted) if is_news else None)
        )
        if is_news:
            self._published = daemon, wanted
        if any(each.number == daemon and {*each.waits_for} != wanted for each in daemons):
            self._published = None  # another daemon took this one for dead: publish again at the next look
        if is_news or self._announce:
            self._announce = False
            await self._notify()
        self._view = self._seen(look, daemon, wanted, leases, daemons)
        self._rebalance()

    def _seen(
        self,
        look: int,
        daemon: int,
        wanted: frozenset[str],
        leases: Collection[tuple[Any, ...]],
        daemons: Collection[_Daemon],
    ) -> _View:
        now = time.monotonic()
        self._given_up = {w: given for w, given in self._given_up.items() if now - given[0] < _COMES_BACK_WITHIN}
        self._kept_until = {watch: until for watch, until in self._kept_until.items() if until > now}
        self._shunned_until = {number: until for number, until in self._shunned_until.items() if until > now}
        known = {each.number: each for each in daemons}
        held: dict[int, set[str]] = {each.number: set() for each in daemons if each.lives}
        held.setdefault(daemon, set())
        waiting: dict[int, frozenset[str]] = {
            each.number: frozenset(each.waits_for)
            for each in daemons
            if each.lives and each.number != daemon and each.number not in self._shunned_until
        }
        waiting[daemon] = wanted
        self._over &= {session for _, _, session in leases if session is not None}
        holders, free = dict[str, Lease](), set[str]().union(*waiting.values())
        for watch, number, session in leases:
            holder = None if number is None else known.get(number)
            if number is None or holder is None or (session in self._over and number != daemon):
                free.add(watch)
                continue
            free.discard(watch)
            held.get(number, set()).add(watch)
            if number != daemon:
                holders[watch] = holder.lease(session)
        # A watch at its baseline stays until that is over.
        fixed = (held[daemon] - self._captures.keys()) | self._kept_until.keys()
        self._free_since = {watch: self._free_since.get(watch, now) for watch in free}
        return _View(look, daemon, known, holders, plan(held, waiting, free, fixed))

    def _rebalance(self) -> None:
        now = time.monotonic()
        moves = [(watch, to) for watch, to in self._view.plan.moves.items() if watch in self._captures]
        if not moves or now < self._rebalance_from:
            return
        self._rebalance_from = now + _REBALANCED_EVERY
        for watch, to in moves[:_AT_ONCE]:
            if watch not in self._ending:
                self._ending.add(watch)
                self._given_up[watch] = now, to
                self._captures[watch]()

    # The answers.

    def _failed(self, error: StoreError) -> None:
        """Raise the error where a watch asks for the first time; others go on waiting."""
        self._published = None
        for waiter in self._waiters.values():
            if waiter.known is None and waiter.answer is not None and not waiter.answer.done():
                waiter.answer.set_exception(error)

    def _scouts(self) -> set[str]:
        """Of the watches that wait for a session the first by name."""
        waiting: dict[str | None, str] = {}
        for watch, waiter in self._waiters.items():
            holder = self._view.holders.get(watch)
            if holder is not None and waiter.known is not None and waiter.answer is not None and waiter.able():
                waiting[holder.session] = min(watch, waiting.get(holder.session, watch))
        return set(waiting.values())

    def _judge_all(self) -> None:
        now, scouts = time.monotonic(), self._scouts()
        for watch, waiter in self._waiters.items():
            self._judge(watch, waiter, now, scouts=watch in scouts)

    def _judge(self, watch: str, waiter: _Waiter, now: float, *, scouts: bool) -> None:
        """Answer a watch's worker, if there is an answer."""
        view = self._view
        if waiter.answer is None or waiter.answer.done() or view.look <= waiter.after:
            return
        found = view.holders.get(watch)
        if found is None:
            taker = view.plan.takers.get(watch, view.daemon)
            free_for = now - self._free_since.get(watch, -math.inf)
            if free_for < _SETTLED_AFTER and self._others():
                return
            is_late = free_for >= _TAKEN_WITHIN
            if taker == view.daemon or is_late or taker not in view.others:
                waiter.answer.set_result(None)
                return
            found = view.others[taker].lease()
        if waiter.known is None or waiter.known.number != found.number:
            waiter.answer.set_result(found)
        elif scouts and now >= waiter.try_at:
            waiter.answer.set_result(None)


async def _answered(waiter: _Waiter, answer: asyncio.Future[Lease | None]) -> Lease | None:
    try:
        return await answer
    finally:
        waiter.answer = None


async def _looked(
    transaction: Transaction, *, daemon: int, waits_for: list[str] | None
) -> tuple[list[tuple[Any, ...]], list[_Daemon]]:
    """The watches' leases, and the daemons that have not ended; first publishes `waits_for`, unless None."""
    if waits_for is not None:
        await transaction.run("wait_for", daemon=daemon, watches=waits_for)
    return await transaction.rows("leases"), [_Daemon(*row) for row in await transaction.rows("sharers")]
