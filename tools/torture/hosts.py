"""Three daemons on hosts of their own, on a store with a standby; within `support.machine.enter`."""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

import aiohttp
from support import machine
from support.emulated import Emulator, EmulatorOptions
from support.machine import ATS, DAEMONS, HELLOWORK, HELLOWORK_PORT, STORE
from support.replicated import Replicated, replicated

from cdc_sync.store import Store
from cdc_sync.store.postgres.driver import PostgresDriver
from torture import ats
from torture.ats import ROLE
from torture.configuration import document
from torture.daemon import Daemon, Fleet
from torture.faults import ON_HOSTS, Blow, Nemesis, Span
from torture.options import Options
from torture.pausing import pause
from torture.place import Place
from torture.settling import adopt

_LATENCY = 0.1
"""Seconds that HelloWork takes: calls are under way when something happens."""

_ADMIN_PORT = 8765
_COMMON = f"user={ROLE} dbname=postgres connect_timeout=3"
_BALANCED = "load_balance_hosts=random"

_PRIMARY = f"host={ATS[0]}"
_STANDBYS = f"host={','.join(ATS)} target_session_attrs=standby {_BALANCED}"
_ANY = f"host={','.join(ATS)} {_BALANCED}"

_READS: tuple[str, ...] = (_STANDBYS, _ANY, _STANDBYS)
"""Where the daemons read in poll mode: a new session often leads to another server.

All name the primary: daemons of one store know their database by common hosts.
"""

_DIRECTIONS = (("requests", "answers"), ("requests", "answers"), ("requests",), ("answers",))
_SERVERS: Mapping[str, Sequence[str]] = {"sink-silence": (HELLOWORK,), "database-silence": ATS, "store-silence": STORE}

_MOVES_EVERY = 1.0
"""Seconds after which all sessions on servers that do not lag are ended again."""

_SESSIONS = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'"  # noqa: S608 - ours
_END_SESSIONS = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{ROLE}'"  # noqa: S608 - ours

_OFFSETS = (0, 0, 3, -3, 60, -60, 600, -600, 3_700, -3_700, 86_400, -86_400)
"""Seconds by which a clock is wrong."""

_AHEAD = 600
"""Seconds by which the first leader's clock is wrong: its work seems to lie in the future."""


def _set_clock(folder: Path, number: int, offset: float) -> Path:
    """Set a daemon's wall clock, by libfaketime; its monotonic clock is true. Returns the file that sets it."""
    file = folder / f"clock-{number}"
    new = file.with_suffix(".new")
    new.write_text(f"{offset:+}\n")
    return new.replace(file)


def _wrong_clock(folder: Path, number: int, chance: random.Random) -> dict[str, str]:
    """A daemon's environment with a wrong clock."""
    offset = chance.choice(_OFFSETS) if number else _AHEAD
    return {
        "LD_PRELOAD": str(machine.faketime()),
        "FAKETIME_TIMESTAMP_FILE": str(_set_clock(folder, number, offset)),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
        "NO_FAKE_STAT": "1",
    }


class _Faults(Nemesis):
    def __init__(
        self, fleet: Fleet, folder: Path, source: Replicated, store: Replicated, say: Callable[[str], None]
    ) -> None:
        super().__init__(fleet, say)
        self._folder = folder
        self._source = source
        self._store = store

    async def deal(self, blow: Blow, over: asyncio.Event) -> None:
        number = blow.number or 0
        daemon = self.fleet.daemons[number]
        match blow.fault:
            case "sink-silence" | "database-silence" | "store-silence":
                silent = blow.chance.choice(_DIRECTIONS), DAEMONS[number], _SERVERS[blow.fault]
                await machine.silence(*silent, begins=True)
                await pause(over, blow.seconds)
                await machine.silence(*silent, begins=False)
            case "partition":
                await machine.link(number, up=False)
                await pause(over, blow.seconds)
                await machine.link(number, up=True)
            case "stop":
                daemon.send_signal(signal.SIGSTOP)
                await pause(over, blow.seconds)
                daemon.send_signal(signal.SIGCONT)
            case "kill":
                await daemon.kill()
                await pause(over, blow.seconds)
                await daemon.start()
            case "clock":
                _set_clock(self._folder, number, blow.chance.choice(_OFFSETS))
            case "lag":
                await self._lag(blow, over)
            case _:
                lost = blow.chance.choice((0.3, 1, 2)) if blow.fault == "lossy-failover" else 0
                await self._store.fail_over(lost, blow.seconds)

    async def _lag(self, blow: Blow, over: asyncio.Event) -> None:
        standbys = self._source.standbys
        servers = (self._source.primary, *standbys)
        # Not the server with most sessions: daemons then move to an older state.
        is_read = max(servers, key=lambda server: int(str(server.ask(_SESSIONS))))
        behind = [standby for standby in standbys if standby is not is_read]
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


class Hosts(Place):
    """See the module's text."""

    aftermath: ClassVar[float] = 6.0
    longest_pause: ClassVar[float] = 0.16
    excused = "cdc-sync: "  # it knows the reason

    def __init__(  # noqa: PLR0917 - the parts, each of a type of its own
        self,
        options: Options,
        folder: Path,
        made: Sequence[machine.Host],
        source: Replicated,
        store: Replicated,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(options, folder)
        wanted = {name: fault for name, fault in ON_HOSTS.items() if name in options.faults}
        self.kinds = {name: fault for name, fault in wanted.items() if name != "lag" or options.replicas}
        self._made, self._source, self._store, self._say = made, source, store, say

    @property
    def dsn(self) -> str:
        return self._source.primary.dsn

    async def open(self, stack: AsyncExitStack, http: aiohttp.ClientSession) -> None:
        """See `Place`."""
        where = EmulatorOptions(host=HELLOWORK, port=HELLOWORK_PORT, latency=_LATENCY)
        self.emulator = await stack.enter_async_context(Emulator(where))
        self.fleet = Fleet([self._daemon(number, http) for number in range(len(DAEMONS))])
        self.nemesis = _Faults(self.fleet, self.folder, self._source, self._store, self._say)
        await asyncio.to_thread(ats.install, self.dsn, self.fleet.daemons[0].config)
        ats.create_role(self._store.primary.dsn)
        ats.install_store(self._store.primary.dsn)

    def _daemon(self, number: int, http: aiohttp.ClientSession) -> Daemon:
        made = document(
            self.options,
            dsn=f"{_READS[number] if self.options.replicas else _PRIMARY} {_COMMON}",
            hellowork=f"http://127.0.0.1:{HELLOWORK_PORT}",
            state={"dsn": f"host={','.join(STORE)} {_COMMON} target_session_attrs=read-write"},
            admin=f"{DAEMONS[number]}:{_ADMIN_PORT}",
        )
        variables: dict[str, str] = {}
        if "clock" in self.options.faults:
            variables = _wrong_clock(self.folder, number, self.options.chance(f"clock {number}"))
        folder, within = self.folder / f"daemon-{number + 1}", self._made[number].within
        return Daemon(folder, http, made, machine.name_of(number), within, variables)

    async def begin(self) -> None:
        """See `Place`."""
        first, *others = self.fleet.daemons
        await first.start()
        await adopt(self.fleet)
        for daemon in others:
            await daemon.start()

    async def open_store(self) -> Store:
        """See `Place`."""
        return Store(await PostgresDriver.open(self._store.primary.dsn, "read"))

    def spans(self) -> Sequence[Span]:
        """See `Place`."""
        return self.nemesis.spans


@contextmanager
def hosts(options: Options, folder: Path, say: Callable[[str], None]) -> Iterator[Hosts]:
    """Hosts and servers, prepared."""
    made = machine.build(folder)
    with (
        replicated(ATS if options.replicas else ATS[:1], commits_wait=False) as source,
        replicated(STORE, commits_wait=True) as store,
    ):
        ats.prepare(source.primary.dsn, options.tenants)
        yield Hosts(options, folder, made, source, store, say)
