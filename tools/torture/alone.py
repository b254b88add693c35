"""A single daemon beside the ATS's server, which a proxy hides; on this host, for any user."""

import asyncio
import random
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from support.binaries import server_binaries
from support.daemon_process import free_port
from support.emulated import Emulator
from support.postgres import on_loopback
from support.proxy import BOTH, Direction, Proxy, proxy_to

from cdc_sync.demo.postgres import Server
from cdc_sync.demo.postgres import server as postgres_server
from cdc_sync.store import Store
from cdc_sync.store.postgres.driver import PostgresDriver
from cdc_sync.store.sqlite.driver import SqliteDriver
from torture import ats
from torture.ats import ROLE
from torture.configuration import document
from torture.daemon import Daemon, Fleet
from torture.faults import ALONE, Blow, Nemesis, Span
from torture.launcher import Life
from torture.operator import RETRY, Operator
from torture.options import Options
from torture.pausing import pause
from torture.place import Place
from torture.settling import adopt, become_idle

_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s ORDER BY random()"

_DIRECTIONS: tuple[tuple[Direction, ...], ...] = (BOTH, BOTH, ("answers",), ("requests",))

_LIVES = (0.3, 0.6, 1, 1.5, 2, 3, 5, 8, 8, 12)
"""Seconds of the daemon's lives: it often dies while it starts, catches up or sweeps."""


class _Faults(Nemesis):
    def __init__(self, fleet: Fleet, server: Server, between: Proxy, operator: Operator) -> None:
        super().__init__(fleet, lambda _: None)
        self._server = server
        self._proxy = between
        self._operator = operator

    async def deal(self, blow: Blow, over: asyncio.Event) -> None:
        match blow.fault:
            case "sessions":
                await self._end_sessions(blow.chance.choice((" LIMIT 1", " LIMIT 1", "")))
            case "restart":
                await asyncio.to_thread(
                    self._server.stop, blow.chance.choice((signal.SIGINT, signal.SIGQUIT, signal.SIGQUIT))
                )
                await pause(over, blow.seconds)
                await asyncio.to_thread(self._server.start)
            case "network":
                await self._disturb(blow, over)
            case _:
                await self._operator.give_any(blow.chance)

    async def _disturb(self, blow: Blow, over: asyncio.Event) -> None:
        """Cut, refuse, stall or deafen connections."""
        chance, between = blow.chance, self._proxy
        (what,) = chance.choices(("cut", "refuse", "stall", "stall and cut", "deafen"), (3, 1, 4, 4, 1))
        directions, share = chance.choice(_DIRECTIONS), chance.choice((0.5, 1))
        # A slow one may bring what the others have overtaken.
        links = [link for link in between.links if chance.random() < share]
        if what == "deafen":
            between.deafen(directions)
            return
        if what != "cut":
            between.refuses = what == "refuse"
            for link in () if between.refuses else links:
                link.hold(directions)
            await pause(over, blow.seconds)
            between.refuses = False
        for link in links:
            if what == "stall":
                link.resume()
            else:
                link.cut()

    async def _end_sessions(self, limit: str) -> None:
        try:
            async with await AsyncConnection.connect(self._server.dsn, autocommit=True) as dba:
                await dba.execute(f"{_TERMINATE}{limit}".encode(), (ROLE,))
        except psycopg.OperationalError:
            return  # the server is away


class Alone(Place):
    """See the module's text."""

    kinds = ALONE

    def __init__(self, options: Options, folder: Path, server: Server) -> None:
        super().__init__(options, folder)
        self._server = server
        self._store = folder / "state.db"
        # Commands and starts fail, with a reason, without their server.
        self.excused = "cdc-sync: The store in " if options.store == "postgres" else None

    @property
    def dsn(self) -> str:
        return self._server.dsn

    async def open(self, stack: AsyncExitStack, http: aiohttp.ClientSession) -> None:
        """See `Place`."""
        self.emulator = await stack.enter_async_context(Emulator())
        between = await stack.enter_async_context(proxy_to(self._server.dsn))
        daemon = Daemon(
            self.folder,
            http,
            document(
                self.options,
                dsn=make_conninfo(between.dsn, user=ROLE),
                hellowork=self.emulator.url,
                state={"path": str(self._store)},
                admin=f"127.0.0.1:{free_port()}",
            ),
        )
        self.fleet = Fleet([daemon])
        self._daemon, self._operator = daemon, Operator(daemon.config)
        self.nemesis = _Faults(self.fleet, self._server, between, self._operator)
        ats.install(self.dsn, daemon.config)
        if self.options.store == "postgres":
            ats.install_store(self.dsn)

    async def begin(self) -> None:
        """See `Place`."""
        chance, daemon = self.options.chance("beginning"), self._daemon
        # A change of a row that is not adopted yet is none: half of the runs begin with the adoption alone.
        if chance.random() < 0.5:
            await daemon.start(Life(small=True, point="recorded, not consumed", passage=chance.randrange(2, 6)))
            await daemon.wait_for_end(asyncio.Event(), 10)
            await daemon.kill()
            await daemon.start()
            await adopt(self.fleet)
            await daemon.terminate()

    def misfortunes(self, over: asyncio.Event) -> Iterator[Coroutine[Any, Any, None]]:
        """See `Place`."""
        yield self._live(self.options.chance("daemon"), over)

    async def _live(self, chance: random.Random, over: asyncio.Event) -> None:
        """Start the daemon, and end it: by kill -9, at a named point, or in order."""
        while not over.is_set():
            life = Life.drawn(chance)
            await self._daemon.start(life)
            await self._daemon.wait_for_end(over, chance.choice(_LIVES))
            if over.is_set() and life.point is None:
                return  # this one may live on
            if chance.random() < 0.3:
                await self._daemon.terminate()
            else:
                await self._daemon.kill()
            await pause(over, chance.choice((0, 0, 0.1, 0.5, 2)))

    async def finish(self) -> None:
        """See `Place`."""
        await self._operator.give(RETRY)
        await become_idle(self.fleet)

    async def open_store(self) -> Store:
        """See `Place`."""
        if self.options.store == "postgres":
            return Store(await PostgresDriver.open(self.dsn, "read"))
        return Store(SqliteDriver(self._store, "read"))

    def complaints(self) -> list[str]:
        """See `Place`."""
        return self._operator.surprises

    def spans(self) -> list[Span]:
        """See `Place`: what may have lost the result of a call."""
        lost = [("kill", at) for at in self._daemon.kills] + [("lost lead", at) for at in self._daemon.losses()]
        return [Span(fault, at, at, 0) for fault, at in lost]


@contextmanager
def alone(options: Options, folder: Path, _: Callable[[str], None]) -> Iterator[Alone]:
    """The ATS's server, prepared.

    Raises:
        PostgresError: there is no server on this machine, or it could not be started.
    """
    with postgres_server(server_binaries(), on_loopback()) as server:
        ats.prepare(server.dsn)
        yield Alone(options, folder, server)
