"""The faults, planned from the seed.

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
| weather | HelloWork is slow, refuses, breaks, loses answers (`torture.weather`) |

Two of three blows that hit one daemon hit the one that leads then.
"""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torture.ats import ROLE
from torture.daemon import Daemon
from torture.pausing import pause

from torture_cluster.machine import ATS, DAEMONS, HELLOWORK, STORE, link, name_of, silence
from torture_cluster.options import ClusterOptions
from torture_cluster.servers import Replicated

_FIRST = (0.5, 6.0)
"""Seconds before each fault's first blow."""

_BETWEEN = (3.0, 15.0)
_BETWEEN_FAILOVERS = (10.0, 30.0)
"""Seconds between a fault's blows."""

_DIRECTIONS = (("requests", "answers"), ("requests", "answers"), ("requests",), ("answers",))
_SERVERS: Mapping[str, Sequence[str]] = {"sink-silence": (HELLOWORK,), "database-silence": ATS, "store-silence": STORE}
_SECONDS: Mapping[str, Sequence[float]] = {
    "sink-silence": (3, 4, 6, 9),
    "database-silence": (2, 6, 15),
    "store-silence": (2, 8, 20),
    "partition": (2, 8, 20, 40),
    "stop": (0.5, 4, 19, 40),
    "kill": (0, 0.5, 3),
    "clock": (0,),
    "lag": (2, 6, 12),
    "failover": (0, 1, 3),
    "lossy-failover": (0, 1, 3),
}
"""Seconds of each: of kill without the daemon, of a failover without a standby."""

_FIRST_ON: Mapping[str, int] = {
    "stop": 0,
    "database-silence": 0,
    "sink-silence": 0,
    "kill": 1,
    "clock": 1,
    "store-silence": 2,
    "partition": 2,
}
"""The daemon that each fault hits, and the first one to be hit. Number 0 leads at first."""

_ON_LEADER = 2 / 3
"""The share of the later blows of a kind that hit the daemon that leads."""

_MOVES_EVERY = 1.0
"""Seconds after which all sessions on servers that do not lag are ended again."""

_SESSIONS = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'"  # noqa: S608 - ours
_END_SESSIONS = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{ROLE}'"  # noqa: S608 - ours

_OFFSETS = (0, 0, 3, -3, 60, -60, 600, -600, 3_700, -3_700, 86_400, -86_400)
"""Seconds by which a clock is wrong."""

_AHEAD = 600
"""Seconds by which the first leader's clock is wrong: its work seems to lie in the future."""


@dataclass(frozen=True, slots=True)
class Blow:
    """A planned fault.

    Attributes:
        at: seconds after the run's beginning.
        number: of the daemon that it hits, if no other one leads that it is to hit.
        on_leader: whether it hits the daemon that leads then.
        chance: draws its details.
    """

    fault: str
    at: float
    seconds: float
    number: int
    on_leader: bool
    chance: random.Random = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Span:
    """A fault's time, in seconds since the epoch; `number`: of the daemon, None for all."""

    fault: str
    begin: float
    end: float
    number: int | None = None


def plan(options: ClusterOptions) -> list[Blow]:
    """In order; a fault's times do not depend on other faults."""
    return sorted(
        (blow for fault in _SECONDS if fault in options.faults for blow in _plan_of(fault, options)),
        key=lambda blow: blow.at,
    )


def _plan_of(fault: str, options: ClusterOptions) -> list[Blow]:
    if fault == "lag" and not options.replicas:
        return []
    chance, blows = options.common.chance(fault), list[Blow]()
    between = _BETWEEN_FAILOVERS if "failover" in fault else _BETWEEN
    at = chance.uniform(*_FIRST)
    while at < options.common.seconds:
        # The first one is long, as far as a short run has time for its effects.
        left = options.common.seconds - at
        number = chance.randrange(len(DAEMONS)) if blows else _FIRST_ON.get(fault, 0)
        seconds = chance.choice(_SECONDS[fault]) if blows else max(s for s in (0, *_SECONDS[fault]) if s <= left * 0.6)
        on_leader = bool(blows) and chance.random() < _ON_LEADER
        details = random.Random(chance.random())  # noqa: S311 - repeatable, not secret
        blows.append(Blow(fault, at, min(seconds, left), number, on_leader, details))
        at += seconds + chance.uniform(*between)
    return blows


class Clocks:
    """Each daemon's wall clock, by libfaketime; its monotonic clock is true."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._files = [folder / f"clock-{number}" for number in range(len(DAEMONS))]
        self.set(0, _AHEAD)
        for number in range(1, len(DAEMONS)):
            self.set(number, chance.choice(_OFFSETS))

    def set(self, number: int, offset: float) -> None:
        new = self._files[number].with_suffix(".new")
        new.write_text(f"{offset:+}\n")
        new.replace(self._files[number])

    def variables(self, number: int, library: Path) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._files[number]),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "NO_FAKE_STAT": "1",
        }


class Nemesis:
    """Causes the faults; `spans` are the past ones."""

    def __init__(
        self,
        daemons: Sequence[Daemon],
        source: Replicated,
        store: Replicated,
        clocks: Clocks | None,
        say: Callable[[str], None],
    ) -> None:
        self.spans: list[Span] = []
        self._daemons = daemons
        self._source = source
        self._store = store
        self._clocks = clocks
        self._say = say
        self._one_failover = asyncio.Lock()

    async def strike(self, blows: Sequence[Blow], over: asyncio.Event) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for blow in blows:
                await pause(over, began + blow.at - time.monotonic())
                tasks.create_task(self._deal(blow, over))

    async def supervise(self, over: asyncio.Event) -> None:
        """Start daemons that ended by themselves, as systemd does."""
        while not over.is_set():
            await pause(over, 0.5)
            for daemon in self._daemons:
                if daemon.has_ended:
                    await daemon.start_if_dead()

    async def _deal(self, blow: Blow, over: asyncio.Event) -> None:
        if blow.on_leader and blow.fault in _FIRST_ON:
            leading = await leader_among(self._daemons)
            blow = replace(blow, number=blow.number if leading is None else leading)
        what = f"{blow.fault}, daemon {blow.number + 1}, {blow.seconds:.1f} s"
        begin = time.time()
        match blow.fault:
            case "sink-silence" | "database-silence" | "store-silence":
                sets = blow.chance.choice(_DIRECTIONS)
                self._say(f"{blow.at:6.1f} s  {what}, {' and '.join(sets)}")
                async with _silent(sets, blow.number, _SERVERS[blow.fault]):
                    await pause(over, blow.seconds)
            case "partition":
                self._say(f"{blow.at:6.1f} s  {what}")
                await link(blow.number, up=False)
                await pause(over, blow.seconds)
                await link(blow.number, up=True)
            case "stop":
                self._say(f"{blow.at:6.1f} s  {what}")
                self._daemons[blow.number].send_signal(signal.SIGSTOP)
                await pause(over, blow.seconds)
                self._daemons[blow.number].send_signal(signal.SIGCONT)
            case "kill":
                self._say(f"{blow.at:6.1f} s  {what}")
                await self._daemons[blow.number].kill()
                await pause(over, blow.seconds)
                await self._daemons[blow.number].start()
            case "clock":
                offset = blow.chance.choice(_OFFSETS)
                self._say(f"{blow.at:6.1f} s  clock, daemon {blow.number + 1}, {offset:+} s")
                if self._clocks is not None:
                    self._clocks.set(blow.number, offset)
            case "lag":
                await self._lag(blow, over)
            case _:
                async with self._one_failover:
                    if over.is_set():
                        return
                    lost = blow.chance.choice((0.3, 1, 2)) if blow.fault == "lossy-failover" else 0
                    self._say(f"{blow.at:6.1f} s  {blow.fault}, {lost} s lost, {blow.seconds:.1f} s alone")
                    begin = time.time()
                    await self._store.fail_over(lost, blow.seconds)
        number = blow.number if blow.fault in _FIRST_ON else None
        self.spans.append(Span(blow.fault, begin, time.time(), number))

    async def _lag(self, blow: Blow, over: asyncio.Event) -> None:
        standbys = self._source.standbys
        servers = (self._source.primary, *standbys)
        # Not the server with most sessions: daemons then move to an older state.
        is_read = max(servers, key=lambda server: int(str(server.ask(_SESSIONS))))
        behind = [standby for standby in standbys if standby is not is_read]
        self._say(f"{blow.at:6.1f} s  lag, {len(behind)} standbys, {blow.seconds:.1f} s")
        for standby in behind:
            standby.ask("SELECT pg_wal_replay_pause()::text")
        ends = time.monotonic() + blow.seconds
        while not over.is_set() and time.monotonic() < ends:
            await pause(over, min(_MOVES_EVERY, ends - time.monotonic()))
            for server in servers:
                if server not in behind:
                    server.ask(_END_SESSIONS)
        for standby in behind:
            standby.ask("SELECT pg_wal_replay_resume()::text")


async def leader_among(daemons: Sequence[Daemon]) -> int | None:
    """The number of the daemon that leads; None if nobody says that he does."""
    reports = await asyncio.gather(*(daemon.report() for daemon in daemons))
    return next((number for number, report in enumerate(reports) if leads(report, number)), None)


def leads(report: Mapping[str, Any], number: int) -> bool:
    """Whether a daemon's report says that it leads."""
    leader = report.get("leader")
    return leader is not None and leader["host"] == name_of(number)


@asynccontextmanager
async def _silent(sets: Sequence[str], number: int, servers: Sequence[str]) -> AsyncIterator[None]:
    await silence(sets, DAEMONS[number], servers, begins=True)
    try:
        yield
    finally:
        await silence(sets, DAEMONS[number], servers, begins=False)
