"""The daemon under torture: a real process, started and ended again and again."""

import asyncio
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import yaml
from support.daemon_process import environment

from torture.launcher import Life

_ENDS_WITHIN = 40.0
"""Seconds: the daemon's own grace for calls is 20."""

_TAIL = 40

_ORDINARY = Life()


class Daemon:
    """Made by `daemon()`.

    Args:
        folder: for its configuration and log.
        http: for its status.
        admin: its admin server's URL.
        within: its command's beginning.
        variables: of its environment.

    Attributes:
        kills: when it was killed, or killed itself, in seconds since the epoch.
        ends: their numbers, by cause.
        surprises: forbidden ends.
    """

    def __init__(
        self,
        folder: Path,
        http: aiohttp.ClientSession,
        admin: str,
        within: Sequence[str] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.kills: list[float] = []
        self.ends: Counter[str] = Counter()
        self.surprises: list[str] = []
        self.config = folder / "config.yaml"
        self._log = folder / "daemon.log"
        self._log.touch()
        self._http = http
        self._admin = admin
        self._within = within
        self._variables = variables
        self._process: asyncio.subprocess.Process | None = None
        self._life = Life()

    def configure(self, document: Mapping[str, Any]) -> None:
        self.config.write_text(yaml.safe_dump(dict(document), sort_keys=False))

    async def start(self, life: Life = _ORDINARY) -> None:
        """Start it; it is not ready yet."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*self._within, sys.executable, "-m", *life.command, "--config", str(self.config), "run"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment({"PYTHONPATH": os.pathsep.join(sys.path), **self._variables}),
            )
        self._life = life

    async def start_if_dead(self) -> None:
        """Start it if it has ended; an end without doom is a surprise."""
        if self._process is None:
            await self.start()
        elif self._process.returncode is not None:
            self._account_for(self._process.returncode, expected=None)
            await self.start()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself, unaccounted for."""
        return self._process is not None and self._process.returncode is not None

    def send_signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill -9, and wait for its end."""
        if self._process is None:
            return
        if self._process.returncode is not None:
            self._account_for(self._process.returncode, expected=None)
            return
        self._process.kill()
        self._account_for(await self._process.wait(), expected=-signal.SIGKILL)

    async def terminate(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                code = await self._process.wait()
        except TimeoutError:
            self.surprises.append(f"it did not end within {_ENDS_WITHIN:.0f} s after {number.name}")
            await self.kill()
        else:
            self._account_for(code, expected=0, early=-number)

    async def wait_for_end(self, over: asyncio.Event, seconds: float) -> None:
        """Wait until it has ended, for so many seconds, or until `over`."""
        if self._process is None:
            return
        ends = [asyncio.ensure_future(end) for end in (self._process.wait(), over.wait())]
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    async def report(self) -> dict[str, Any]:
        """`GET /api/status`; empty without an answer."""
        try:
            async with self._http.get(f"{self._admin}/api/status") as answer:
                answer.raise_for_status()
                report: dict[str, Any] = await answer.json()
                return report
        except (aiohttp.ClientError, TimeoutError):
            return {}

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def tail(self) -> str:
        return "\n".join(self.log().splitlines()[-_TAIL:])

    def sweeps(self) -> Counter[str]:
        """Each watch's finished sweeps, over all lives."""
        return Counter(re.findall(r'"watch": "([^"]+)".*"event": "swept"', self.log()))

    def led(self) -> int:
        """How often it took the lead, over all lives."""
        return self.log().count('"event": "this daemon leads"')

    def losses(self) -> list[float]:
        """When it lost the lead, in seconds since the epoch: the results of some calls were not in the store."""
        times = re.findall(r'"event": "lost the lead.*"timestamp": "([^"]+)"', self.log())
        return [datetime.fromisoformat(each).timestamp() for each in times]

    def _account_for(self, code: int, *, expected: int | None, early: int | None = None) -> None:
        """Note an end; `early`: by a signal before it could handle any."""
        point = self._life.point
        self._process, self._life = None, _ORDINARY
        if code == expected == -signal.SIGKILL:
            self.kills.append(time.time())
            self.ends["kill -9"] += 1
        elif code == -signal.SIGKILL and point is not None:
            self.kills.append(time.time())
            self.ends[f"killed itself: {point}"] += 1
        elif code in {expected, early}:
            self.ends["SIGTERM"] += 1
        else:
            last = (self.tail().splitlines() or [""])[-1]
            self.surprises.append(f"it ended by itself with exit code {code}: {last}")


@asynccontextmanager
async def daemon(folder: Path, admin_port: int) -> AsyncIterator[Daemon]:
    """A daemon with its files in `folder`, not started; killed at the end."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
        made = Daemon(folder, http, f"http://127.0.0.1:{admin_port}")
        try:
            yield made
        finally:
            await made.kill()
