"""The daemon as a process: started, killed and asked how it is, from outside, as an operator would."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from cdc_sync.demo import keeper
from cdc_sync.demo.errors import DemoError

PATIENCE = 20.0
"""Seconds within which whatever is waited for must happen. It takes two or three, on a machine that has time."""

_POLL = 0.02
_TAIL = 25


class Daemon:
    """The demo's daemon and its folder; made by `daemon()`.

    Attributes:
        folder: a private temporary folder, gone with the daemon.
        admin_port: where on 127.0.0.1 the daemon's admin server answers.
    """

    def __init__(self, folder: Path, keeper: "_Keeper", http: aiohttp.ClientSession, admin_port: int) -> None:
        self.folder = folder
        self.admin_port = admin_port
        self._keeper = keeper
        self._http = http

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.folder / "config.yaml"

    @property
    def admin_url(self) -> str:
        """The page of its admin server."""
        return f"http://127.0.0.1:{self.admin_port}"

    async def start(self) -> int:
        """Start it and return its process id; it is not ready yet."""
        process_id = await self._keeper.ask("start", command(self.config, "run"))
        return int(process_id)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal that ends it; returns its exit code, negative for the signal that it died of.

        Raises:
            DemoError: it does not end.
        """
        await self._keeper.ask("signal", int(number))
        codes: list[int] = []

        async def ended() -> bool:
            code = await self._keeper.ask("ended")
            codes.extend([] if code is None else [code])
            return bool(codes)

        await until(ended, f"the daemon to end after {number.name}")
        return codes[-1]

    async def until(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Wait until the report of its watch (see `GET /api/status`) satisfies a condition; returns the report.

        Raises:
            DemoError: it does not, or the daemon has ended.
        """
        report: dict[str, Any] = {}

        async def satisfied() -> bool:
            nonlocal report
            await self.check()
            try:
                async with self._http.get(f"{self.admin_url}/api/status") as answer:
                    answer.raise_for_status()
                    everything = await answer.json()
            except aiohttp.ClientError:
                return False
            (report,) = everything["watches"]
            return not everything["conditions"] and condition(report)

        await until(satisfied, what)
        return report

    async def check(self) -> None:
        """See that it runs.

        Raises:
            DemoError: it has ended.
        """
        code = await self._keeper.ask("ended")
        if code is not None:
            raise DemoError(f"the daemon has ended, with exit code {code}; its log tells why")

    def log(self) -> list[str]:
        """The lines of its log."""
        try:
            return (self.folder / keeper.LOG).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log()[-_TAIL:])

    def sweeps(self) -> int:
        """How many sweeps it has ended, by its log."""
        return sum('"event": "swept"' in line for line in self.log())


class _Keeper:
    """The other end of `cdc_sync.demo.keeper`."""

    def __init__(self, requests: asyncio.StreamWriter, answers: asyncio.StreamReader) -> None:
        self._requests = requests
        self._answers = answers

    async def ask(self, *request: object) -> Any:
        self._requests.write(json.dumps(request).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> Any:
        line = await self._answers.readline()
        if not line:
            raise DemoError(f"the daemon's keeper has ended. Can a folder be made in {tempfile.gettempdir()}?")
        return json.loads(line)


@asynccontextmanager
async def daemon(admin_port: int) -> AsyncIterator[Daemon]:
    """A folder for a daemon, which is not started yet; both are gone when the `async with` is left.

    Raises:
        DemoError: the folder cannot be made.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", keeper.__file__, tempfile.gettempdir()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )
    if process.stdin is None or process.stdout is None:
        raise AssertionError("both are pipes")
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http:
            its_keeper = _Keeper(process.stdin, process.stdout)
            yield Daemon(Path(await its_keeper.answer()), its_keeper, http, admin_port)
    finally:
        process.stdin.close()
        await process.wait()


def command(config: Path, *arguments: str) -> list[str]:
    """The command line of this very `cdc-sync`."""
    return [sys.executable, "-m", "cdc_sync", "--config", str(config), *arguments]


def environment() -> dict[str, str]:
    """The present environment, without what would lead a connection or a log elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "CDC_SYNC_", "JOURNAL_"))}


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for something that nobody announces.

    Raises:
        DemoError: it did not happen in time.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            while not await condition():  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(_POLL)
    except TimeoutError:
        raise DemoError(f"waited in vain for {what}, for {PATIENCE:.0f} seconds") from None
