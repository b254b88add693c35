"""The whole show: real parts put together, the scenario played, the verdict, and everything put away again."""

import asyncio
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cdc_sync.core.visible import visible_lines
from cdc_sync.demo.ats import Ats, ats, install
from cdc_sync.demo.binaries import Binaries, find_binaries
from cdc_sync.demo.daemon import Daemon, daemon
from cdc_sync.demo.errors import DemoError
from cdc_sync.demo.inbox import Inbox
from cdc_sync.demo.invitation import invitation
from cdc_sync.demo.player import Player
from cdc_sync.demo.postgres import Server, server
from cdc_sync.demo.scenario import ROWS, STEPS
from cdc_sync.demo.settings import DATABASE, ROLE, Mode, configuration
from cdc_sync.demo.verdict import differences
from cdc_sync.demo.view import View, account, after_sweeps, verdict
from cdc_sync.emulator import Emulator

_TERMINATED = 128 + signal.SIGTERM


def run_demo(mode: Mode, console: Console, *, keep: bool) -> int:
    """Run the demo; returns its exit code: 0 only if HelloWork received exactly the expected calls.

    Args:
        mode: how changes are captured.
        console: where the show is seen.
        keep: leave everything running afterwards, until Ctrl-C.

    Raises:
        DemoError: no folder could be made for the daemon.
        PostgresMissingError: there is no PostgreSQL server on this machine.
        PostgresFailedError: it does not start.
        ListenError: the emulator does not start.
        KeyboardInterrupt: Ctrl-C, before the verdict.
    """
    binaries, started = find_binaries(), time.monotonic()
    with server(binaries) as postgres:
        console.print(f"PostgreSQL runs, {time.monotonic() - started:.1f} s after it was asked to.")
        try:
            return asyncio.run(_show(mode, console, binaries, postgres, keep=keep))
        except asyncio.CancelledError:
            return _TERMINATED


async def _show(mode: Mode, console: Console, binaries: Binaries, postgres: Server, *, keep: bool) -> int:
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a coroutine that runs has a task")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    inbox = Inbox()
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator(on_call=inbox.add))
        watcher = await stack.enter_async_context(daemon(_free_port()))
        stage = _Stage(mode, console, binaries, postgres, emulator, watcher, inbox)
        try:
            database = await stack.enter_async_context(ats(postgres))
            await stage.set_up(database)
            passed = await stage.perform(database)
            if keep:
                await stage.stay()
            return 0 if await stage.close() and passed else 1
        except DemoError as error:
            console.print(Text(visible_lines(f"FAILED: {error}"), "bold red"))
            stage.tell_log()
            return 1


@dataclass(frozen=True, slots=True)
class _Stage:
    """The parts that the show runs on."""

    mode: Mode
    console: Console
    binaries: Binaries
    postgres: Server
    emulator: Emulator
    daemon: Daemon
    inbox: Inbox

    async def set_up(self, database: Ats) -> None:
        """Configure, install as a DBA would, start the daemon, and wait for its baseline."""
        text = configuration(
            self.mode,
            dsn=self.postgres.dsn_for(DATABASE, ROLE),
            base_url=self.emulator.url,
            state=self.daemon.folder / "state.db",
            admin_port=self.daemon.admin_port,
        )
        self.daemon.config.write_text(text)
        self._say(f"The ATS has {ROWS} applications. HelloWork's API is emulated, at {self.emulator.url}.")
        commands = await install(database, self.daemon.config, self.mode)
        self._say(f"The DBA has run what {' and '.join(f'`{command}`' for command in commands)} printed.")
        process = await self.daemon.start()
        report = await self.daemon.until(lambda watch: bool(watch["baseline"]["state"] == "done"), "the baseline")
        known, calls = report["known"], len(self.inbox.received)
        self._say(
            f"The daemon runs (process {process}, capture.mode {self.mode}): {known} applications known, {calls} calls."
        )
        self._say("")

    async def perform(self, database: Ats) -> bool:
        """Play the scenario, wait until nothing more can come, and give the verdict."""
        failure: str | None = None
        with View(self.console) as view:
            player = Player(database, self.daemon, self.inbox, view)
            try:
                await player.play(STEPS)
                said = after_sweeps(await player.quiet())
            except DemoError as error:
                failure, said = str(error), ""
        expected = [told for played in view.played for told in played.step.expected]
        found = differences(expected, self.inbox.received)
        self.console.print(account(view.played))
        self._say(said)
        self.console.print(verdict(found, failure, calls=len(self.inbox.received)))
        if found or failure:
            self.tell_log()
        return not found and failure is None

    async def stay(self) -> None:
        """Leave everything running, and show what HelloWork receives, until a signal comes."""
        self.console.print(
            invitation(
                psql=self.binaries.folder / "psql",
                dsn=self.postgres.dsn_for(DATABASE),
                config=self.daemon.config,
                admin_url=self.daemon.admin_url,
                emulator_url=self.emulator.url,
                cdc_sync=_this_command(),
            ),
            soft_wrap=True,
        )
        self.inbox.told = lambda received: self._say(f"  {received}")
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()

    async def close(self) -> bool:
        """End the daemon as systemd would; returns whether it ended well."""
        code = await self.daemon.end(signal.SIGTERM)
        if code != 0:
            self.console.print(Text(f"FAILED: on SIGTERM the daemon ended with exit code {code}, not 0.", "bold red"))
            self.tell_log()
        return code == 0

    def tell_log(self) -> None:
        """Show the end of the daemon's log."""
        self._say("The end of the daemon's log:")
        self._say(self.daemon.tail() or "  (empty)")

    def _say(self, text: str) -> None:
        self.console.print(Text(visible_lines(text)), soft_wrap=True)


def _this_command() -> str:
    """How the user called us, to be called again."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "cdc-sync" else f"{sys.executable} -m cdc_sync"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
