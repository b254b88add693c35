"""The ATS's database with what a DBA does there, and the daemon as a process, asked and killed from outside."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from cdc_sync.core.failures import OperationError
from cdc_sync.demo import keeper
from cdc_sync.demo.postgres import Server
from cdc_sync.demo.scenario import DATABASE, ROLE, SCHEMA, SEED, Mode

PATIENCE = 20.0
"""Seconds within which whatever is waited for must happen. It takes two or three, on a machine that has time."""

_POLL = 0.02
_TAIL = 25


class DemoError(OperationError):
    """Something that the demo needs did not happen; the message says what, and where to look."""


class Daemon:
    """The demo's daemon and its folder; made by `daemon()`.

    Attributes:
        folder: a private temporary folder, gone with the daemon.
        admin_port: where on 127.0.0.1 the daemon's admin server answers.
    """

    def __init__(self, keeper: Process, folder: Path, http: aiohttp.ClientSession, admin_port: int) -> None:
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
        process_id = await self._ask("start", _command(self.config, "run"))
        return int(process_id)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal that ends it; returns its exit code, negative for the signal that it died of.

        Raises:
            DemoError: it does not end.
        """
        await self._ask("signal", int(number))
        codes: list[int] = []

        async def ended() -> bool:
            code = await self._ask("ended")
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
        code = await self._ask("ended")
        if code is not None:
            raise DemoError(f"the daemon has ended, with exit code {code}; its log tells why")

    async def _ask(self, *request: object) -> Any:
        if self._keeper.stdin is not None:
            self._keeper.stdin.write(json.dumps(request).encode() + b"\n")
        return await _answer(self._keeper)

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


@asynccontextmanager
async def daemon(admin_port: int) -> AsyncIterator[Daemon]:
    """A folder for a daemon, which is not started yet; both are gone when the `async with` is left.

    Raises:
        DemoError: the folder cannot be made.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", keeper.__file__, tempfile.gettempdir()),
        stdin=PIPE,
        stdout=PIPE,
        env=_environment(),
        start_new_session=True,
    )
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http:
            yield Daemon(process, Path(await _answer(process)), http, admin_port)
    finally:
        await process.communicate(b"")  # the end of its input: it is to end


async def _answer(of_keeper: Process) -> Any:
    line = await of_keeper.stdout.readline() if of_keeper.stdout is not None else b""
    if not line:
        raise DemoError(f"the daemon's keeper has ended. Can a folder be made in {tempfile.gettempdir()}?")
    return json.loads(line)


class Ats:
    """The ATS's own connection to its database, with all the rights that an application of old has."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        self._connection = connection

    async def run(self, script: str) -> None:
        """Run one or more statements; without BEGIN they commit together.

        Raises:
            DemoError: the server refuses one of them.
        """
        try:
            await self._connection.execute(script.encode())
        except psycopg.Error as error:
            raise DemoError(f"the ATS's database refused what it was told ({error}):\n{script}") from error


@asynccontextmanager
async def ats(server: Server) -> AsyncIterator[Ats]:
    """A new database with its tables and rows, and a role for the daemon that has no right to anything yet."""
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {DATABASE}".encode())
        await connection.execute(f"CREATE ROLE {ROLE} LOGIN".encode())
    async with await psycopg.AsyncConnection.connect(server.dsn_for(DATABASE), autocommit=True) as connection:
        made = Ats(connection)
        await made.run(SCHEMA + SEED)
        yield made


async def install(to: Ats, config: Path, mode: Mode) -> list[str]:
    """Do what a DBA does: have the scripts printed, read them, run them. Returns the commands that printed them.

    Raises:
        DemoError: a script cannot be had.
    """
    scripts = [["sql", "install"], ["sql", "grants"]] if mode == "notify" else [["sql", "grants"]]
    for script in await asyncio.gather(*(_printed(config, arguments) for arguments in scripts)):
        await to.run(script)
    return ["cdc-sync " + " ".join(arguments) for arguments in scripts]


async def _printed(config: Path, arguments: list[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *_command(config, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=_environment(),
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise DemoError(
            f"`cdc-sync {' '.join(arguments)}` ended with exit code {process.returncode}: {err.decode().strip()}"
        )
    return out.decode()


def _command(config: Path, *arguments: str) -> list[str]:
    """The command line of this very `cdc-sync`."""
    return [sys.executable, "-m", "cdc_sync", "--config", str(config), *arguments]


def _environment() -> dict[str, str]:
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
