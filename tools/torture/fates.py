"""What befalls the daemon, its database and the network between them."""

import asyncio
import random
import signal
from collections import Counter

import psycopg
from psycopg import AsyncConnection

from cdc_sync.demo.postgres import Server
from torture.daemon import Daemon
from torture.launcher import Life
from torture.pausing import pause
from torture.proxy import BOTH, Direction, Proxy

_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
_TERMINATE_ONE = f"{_TERMINATE} ORDER BY random() LIMIT 1"

_DIRECTIONS: tuple[tuple[Direction, ...], ...] = (BOTH, BOTH, ("answers",), ("requests",))

_LIVES = (0.3, 0.6, 1, 1.5, 2, 3, 5, 8, 8, 12)
"""Seconds of the daemon's lives: it often dies while it starts, catches up or sweeps."""


class Fates:
    """`blows` counts what happened to the database and the network."""

    def __init__(self, daemon: Daemon, server: Server, proxy: Proxy, role: str) -> None:
        self.blows: Counter[str] = Counter()
        self._daemon = daemon
        self._server = server
        self._proxy = proxy
        self._role = role

    async def of_the_daemon(self, chance: random.Random, over: asyncio.Event) -> None:
        """Start it, and end it: by kill -9, at a named point, or in order."""
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

    async def of_the_database(self, chance: random.Random, over: asyncio.Event) -> None:
        """Restart the server, in order or not; end the daemon's sessions."""
        while True:
            await pause(over, chance.uniform(0.5, 6))
            if over.is_set():
                return
            match chance.choices(("end one session", "end all sessions", "fast", "immediate"), (4, 2, 1, 2))[0]:
                case "fast":
                    await self._restart(signal.SIGINT, chance, over)
                case "immediate":
                    await self._restart(signal.SIGQUIT, chance, over)
                case blow:
                    self.blows[blow] += 1
                    await self._end_sessions(_TERMINATE_ONE if blow == "end one session" else _TERMINATE)

    async def of_the_network(self, chance: random.Random, over: asyncio.Event) -> None:
        proxy = self._proxy
        while True:
            await pause(over, chance.uniform(0.5, 6))
            if over.is_set():
                return
            (blow,) = chance.choices(("cut", "refuse", "stall", "stall and cut", "deafen"), (3, 1, 4, 4, 1))
            self.blows[blow] += 1
            directions, seconds = chance.choice(_DIRECTIONS), chance.choice((0.05, 0.3, 1, 2))
            share = chance.choice((0.5, 1))
            # A slow one may bring what the others have overtaken.
            links = [link for link in proxy.links if chance.random() < share]
            match blow:
                case "deafen":
                    proxy.deafen(directions)
                case "refuse":
                    proxy.refuses = True
                    await pause(over, seconds)
                    proxy.refuses = False
                case "stall" | "stall and cut":
                    for link in links:
                        link.hold(directions)
                    await pause(over, seconds)
                case _:
                    pass
            for link in links:
                if blow == "stall":
                    link.resume()
                elif blow != "deafen":
                    link.cut()

    async def _restart(self, number: signal.Signals, chance: random.Random, over: asyncio.Event) -> None:
        self.blows[f"restart, {number.name}"] += 1
        await asyncio.to_thread(self._server.stop, number)
        await pause(over, chance.choice((0, 0.2, 1.5)))
        await asyncio.to_thread(self._server.start)

    async def _end_sessions(self, statement: str) -> None:
        try:
            async with await AsyncConnection.connect(self._server.dsn, autocommit=True) as dba:
                await dba.execute(statement.encode(), (self._role,))
        except psycopg.OperationalError:
            return  # the server is away
