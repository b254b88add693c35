"""The faults, planned from the seed.

A single daemon is killed, at named points too, and restarted (`alone`). Beside that:

| fault | what happens |
|---|---|
| sessions | the daemon's sessions on the server end, one or all |
| restart | the server restarts, in order or after a crash |
| network | connections to the server are cut, refused, stalled or deaf (`support.proxy`) |
| operator | somebody gives a command (`operator`) |
| weather | HelloWork is slow, refuses, breaks, loses answers (`weather`) |

Daemons on several hosts, where two of three blows that hit one daemon hit the one that leads then:

| fault | what happens |
|---|---|
| sink-silence | packets between a daemon and HelloWork are dropped, in one direction or both |
| database-silence | the same between a daemon and the ATS's servers |
| store-silence | the same between a daemon and the store's servers, at times for longer than a lease |
| partition | a daemon's host is cut off from everything |
| stop | a daemon is stopped (SIGSTOP) and goes on, at times after longer than a lease |
| kill | a daemon is killed (kill -9) and started again |
| clock | a daemon's wall clock is wrong from the start, and is set while it runs |
| lag | the ATS's standbys do not replay, and sessions elsewhere end: daemons move to them (poll mode) |
| failover | the store's primary crashes, its standby is promoted; every commit waited for it |
| lossy-failover | the same, but the standby lacks the last seconds |
| weather | as above |
"""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from torture.daemon import Fleet
from torture.options import Options
from torture.pausing import pause

_FIRST = (0.5, 6.0)
"""Seconds before each fault's first blow."""

_ON_LEADER = 2 / 3
"""The share of the later blows of a kind that hit the daemon that leads."""


_OF_A_SERVER = ("restart", "failover", "lossy-failover")
"""Faults that come one after the other."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of faults.

    Attributes:
        seconds: of a blow: of kill without the daemon, of a failover without a standby.
        between: so many between two blows.
        first: the daemon that is hit first, of those that hit one. Number 0 leads at first.
    """

    seconds: Sequence[float]
    between: tuple[float, float] = (3, 15)
    first: int | None = None


ALONE: Mapping[str, Fault] = {
    "sessions": Fault((0,), (1, 8)),
    "restart": Fault((0, 0.2, 1.5), (3, 16)),
    "network": Fault((0.05, 0.3, 1, 2), (0.5, 6)),
    "operator": Fault((0,), (2, 8)),
    "weather": Fault(()),
}
ON_HOSTS: Mapping[str, Fault] = {
    "sink-silence": Fault((3, 4, 6, 9), first=0),
    "database-silence": Fault((2, 6, 15), first=0),
    "store-silence": Fault((2, 8, 20), first=2),
    "partition": Fault((2, 8, 20, 40), first=2),
    "stop": Fault((0.5, 4, 19, 40), first=0),
    "kill": Fault((0, 0.5, 3), first=1),
    "clock": Fault((0,), first=1),
    "lag": Fault((2, 6, 12)),
    "failover": Fault((0, 1, 3), (10, 30)),
    "lossy-failover": Fault((0, 1, 3), (10, 30)),
    "weather": Fault(()),
}


@dataclass(frozen=True, slots=True)
class Blow:
    """A planned fault.

    Attributes:
        at: seconds after the run's beginning.
        number: of the daemon that it hits; None: none of them.
        on_leader: whether it hits the daemon that leads then.
        chance: draws its details.
    """

    fault: str
    at: float
    seconds: float
    number: int | None
    on_leader: bool
    chance: random.Random = field(repr=False, compare=False)

    def __str__(self) -> str:
        whom = "" if self.number is None else f", daemon {self.number + 1}"
        return f"{self.at:6.1f} s  {self.fault}{whom}, {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Span:
    """A fault's time, in seconds since the epoch; `number`: of the daemon, None for all."""

    fault: str
    begin: float
    end: float
    number: int | None = None


def plan(kinds: Mapping[str, Fault], options: Options) -> list[Blow]:
    """In order; a fault's times do not depend on other faults."""
    blows = [blow for name, fault in kinds.items() if fault.seconds for blow in _plan_of(name, fault, options)]
    return sorted(blows, key=lambda blow: blow.at)


def _plan_of(name: str, fault: Fault, options: Options) -> list[Blow]:
    chance, blows = options.chance(name), list[Blow]()
    at = chance.uniform(*_FIRST)
    while at < options.seconds:
        left = options.seconds - at
        number = None if fault.first is None else chance.randrange(3) if blows else fault.first
        # The first one is long, as far as a short run has time for its effects.
        seconds = chance.choice(fault.seconds) if blows else max(s for s in (0, *fault.seconds) if s <= left * 0.6)
        on_leader = bool(blows) and number is not None and chance.random() < _ON_LEADER
        details = random.Random(chance.random())  # noqa: S311 - repeatable, not secret
        blows.append(Blow(name, at, min(seconds, left), number, on_leader, details))
        at += seconds + chance.uniform(*fault.between)
    return blows


class Nemesis(ABC):
    """Causes the faults; `spans` are the past ones."""

    def __init__(self, fleet: Fleet, say: Callable[[str], None]) -> None:
        self.spans: list[Span] = []
        self.fleet = fleet
        self._say = say
        self._one_server = asyncio.Lock()

    async def strike(self, blows: Sequence[Blow], over: asyncio.Event) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for blow in blows:
                await pause(over, began + blow.at - time.monotonic())
                tasks.create_task(self._deal(blow, over))

    async def _deal(self, blow: Blow, over: asyncio.Event) -> None:
        if blow.on_leader:
            leading = await self.fleet.leading()
            blow = replace(blow, number=blow.number if leading is None else leading)
        async with self._one_server if blow.fault in _OF_A_SERVER else nullcontext():
            if over.is_set():
                return
            self._say(str(blow))
            begin = time.time()
            await self.deal(blow, over)
            self.spans.append(Span(blow.fault, begin, time.time(), blow.number))

    @abstractmethod
    async def deal(self, blow: Blow, over: asyncio.Event) -> None:
        """Deal a blow, not longer than until `over`."""
