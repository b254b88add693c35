"""What befalls the daemon, its database and the network between them, each by itself, until it is over."""

import asyncio
import random
from collections import Counter
from typing import Literal

import psycopg
from psycopg import AsyncConnection

from cdc_sync.demo.postgres import Server

from torture.daemon import Daemon, Doom
from torture.pausing import pause
from torture.proxy import BOTH, Direction, Proxy

_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
_TERMINATE_SOME = f"{_TERMINATE} ORDER BY random() LIMIT 1"

_LASTS: tuple[tuple[tuple[Direction, ...], int], ...] = ((BOTH, 3), (("answers",), 2), (("requests",), 1))


class Fates:
    """See the module's text.

    Attributes:
        blows: what happened to the database and the network, and how often.
    """

    def __init__(self, daemon: Daemon, server: Server, proxy: Proxy, role: str) -> None:
        self.blows: Counter[str] = Counter()
        self._daemon = daemon
        self._server = server
        self._proxy = proxy
        self._role = role

    async def of_the_daemon(self, chance: random.Random, over: asyncio.Event) -> None:
        """Start it, let it live for a while, end it: by kill -9, at a named point, or in order."""
        while not over.is_set():
            doom = Doom.drawn(chance) if chance.random() < 0.4 else None  # noqa: PLR2004 - a good part of them
            await self._daemon.start(doom)
            # Often killed while it starts, catches up or sweeps; and sometimes it gets to live.
            await self._daemon.wait_for_end(over, chance.choice((0.3, 0.6, 1, 1.5, 2, 3, 5, 8)))
            if over.is_set():
                return
            if chance.random() < 0.3:  # noqa: PLR2004 - a good part of them
                await self._daemon.terminate()
            else:
                await self._daemon.kill()
            await pause(over, chance.choice((0, 0, 0.1, 0.5, 2)))

    async def of_the_database(self, chance: random.Random, over: asyncio.Event) -> None:
        """Restart the server, in order or not; end the daemon's sessions."""
        while True:
            await pause(over, chance.uniform(0.5, 6))
            if over.is_set():
                return
            match chance.choices(("terminate one", "terminate all", "fast", "immediate"), (4, 2, 2, 2))[0]:
                case "fast":
                    await self._restart("fast", chance, over)
                case "immediate":
                    await self._restart("immediate", chance, over)
                case blow:
                    await self._end_sessions(_TERMINATE if blow == "terminate all" else _TERMINATE_SOME)
                    self.blows[blow] += 1

    async def of_the_network(self, chance: random.Random, over: asyncio.Event) -> None:
        """Cut, stall and deafen what is between the daemon and its database."""
        proxy = self._proxy
        while True:
            await pause(over, chance.uniform(0.5, 6))
            if over.is_set():
                return
            blow = chance.choices(("cut", "refuse", "stall", "stall and cut", "deafen"), (3, 1, 4, 4, 1))[0]
            self.blows[blow] += 1
            directions = chance.choices(*zip(*_LASTS, strict=True))[0]
            seconds = chance.choice((0.05, 0.3, 1, 2))
            match blow:
                case "cut":
                    proxy.cut()
                case "refuse":
                    proxy.refuse()
                    proxy.cut()
                    await pause(over, seconds)
                    proxy.resume()
                case "stall":
                    proxy.hold(directions)
                    await pause(over, seconds)
                    proxy.resume()
                case "stall and cut":
                    proxy.hold(directions)
                    await pause(over, seconds)
                    proxy.cut()
                case _:
                    # For as long as nobody cuts or resumes: new connections work.
                    proxy.hold(directions)

    async def _restart(self, mode: Literal["fast", "immediate"], chance: random.Random, over: asyncio.Event) -> None:
        self.blows[f"restart, {mode}"] += 1
        await asyncio.to_thread(self._server.stop, mode)
        await pause(over, chance.choice((0, 0.2, 1.5)))
        await asyncio.to_thread(self._server.start)

    async def _end_sessions(self, statement: str) -> None:
        try:
            async with await AsyncConnection.connect(self._server.dsn, autocommit=True) as dba:
                await dba.execute(statement.encode(), (self._role,))
        except psycopg.OperationalError:
            return  # it was ended itself
