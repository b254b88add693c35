"""The daemons under torture: real processes, started and ended again and again."""

import asyncio
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
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

FROZEN = f"exit code {-signal.SIGALRM}"
"""How a daemon ends that goes on after its lease: it was stopped meanwhile."""


class Daemon:
    """One daemon, through its lives.

    Args:
        folder: for its configuration and log.
        http: for its status.
        document: its configuration.
        host: the name of its host, if it has one of its own.
        within: its command's beginning.
        variables: of its environment.

    Attributes:
        kills: when it was killed, or killed itself, in seconds since the epoch.
        ends: their numbers, by cause.
        surprises: forbidden ends.
    """

    def __init__(  # noqa: PLR0917 - the parts, each of a type of its own
        self,
        folder: Path,
        http: aiohttp.ClientSession,
        document: Mapping[str, Any],
        host: str = "",
        within: Sequence[str] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.kills: list[float] = []
        self.ends: Counter[str] = Counter()
        self.surprises: list[str] = []
        self.config = folder / "config.yaml"
        self._log = folder / "daemon.log"
        self._http = http
        self._admin = f"http://{document['admin']['listen']}"
        self._host = host
        self._within = within
        self._variables = variables
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self._life = Life()
        folder.mkdir(parents=True, exist_ok=True)
        self._log.touch()
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))

    async def start(self, life: Life = _ORDINARY) -> None:
        """Start it, unless another fault has; it is not ready yet."""
        async with self._starting:
            if self._process is None:
                await self._start(life)

    async def _start(self, life: Life) -> None:
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
        elif self.has_ended:
            await self.kill()
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
        if (process := self._process) is None:
            return
        expected = None if self.has_ended else -signal.SIGKILL
        self.send_signal(signal.SIGKILL)
        self._account_for(process, await process.wait(), expected)

    async def terminate(self) -> None:
        if (process := self._process) is None:
            return
        self.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                code = await process.wait()
        except TimeoutError:
            self.surprises.append(f"it did not end within {_ENDS_WITHIN:.0f} s after SIGTERM")
            await self.kill()
        else:
            # It may end by the signal before it can handle any.
            self._account_for(process, 0 if code == -signal.SIGTERM else code, 0)

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

    def is_leading(self, report: Mapping[str, Any]) -> bool:
        """Whether its report says that it leads; a single daemon does if it answers."""
        if not self._host:
            return bool(report)
        leader = report.get("leader")
        return leader is not None and leader["host"] == self._host

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def tail(self) -> str:
        return "\n".join(self.log().splitlines()[-_TAIL:])

    def led(self) -> int:
        """How often it took the lead, over all lives."""
        return self.log().count('"event": "this daemon leads"')

    def losses(self) -> list[float]:
        """When it lost the lead, in seconds since the epoch: the results of some calls were not in the store."""
        times = re.findall(r'"event": "lost the lead.*"timestamp": "([^"]+)"', self.log())
        return [datetime.fromisoformat(each).timestamp() for each in times]

    @property
    def frozen(self) -> int:
        """How often it was ended by its alarm."""
        return sum(FROZEN in end for end in self.surprises)

    def _account_for(self, process: asyncio.subprocess.Process, code: int, expected: int | None) -> None:
        """Note an end, once: another fault may have waited for it too."""
        if self._process is not process:
            return
        point = self._life.point
        self._process, self._life = None, _ORDINARY
        if code == -signal.SIGKILL and (code == expected or point is not None):
            self.kills.append(time.time())
            self.ends["kill -9" if code == expected else f"killed itself: {point}"] += 1
        elif code == expected:
            self.ends["SIGTERM"] += 1
        else:
            last = (self.tail().splitlines() or [""])[-1]
            self.surprises.append(f"it ended by itself with exit code {code}: {last}")


class Fleet:
    """All daemons, by the one that leads."""

    def __init__(self, daemons: Sequence[Daemon]) -> None:
        self.daemons = daemons

    async def leading(self) -> int | None:
        """The number of the daemon that leads; None if nobody says that he does."""
        number, _ = await self._leader()
        return number

    async def report(self) -> dict[str, Any]:
        """Of the one that leads; empty if it does not answer."""
        _, report = await self._leader()
        return report

    async def _leader(self) -> tuple[int | None, dict[str, Any]]:
        reports = await asyncio.gather(*(daemon.report() for daemon in self.daemons))
        for number, (daemon, report) in enumerate(zip(self.daemons, reports, strict=True)):
            if daemon.is_leading(report):
                return number, report
        return None, {}

    def sweeps(self) -> Counter[str]:
        """Each watch's finished sweeps, over all lives."""
        logs = "".join(daemon.log() for daemon in self.daemons)
        return Counter(re.findall(r'"watch": "([^"]+)".*"event": "swept"', logs))
