"""The whole show: real parts put together, the scenario played, the verdict, and everything put away again."""

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, assert_never

from rich.console import Console
from rich.status import Status
from rich.text import Text

from cdc_sync import event_loop
from cdc_sync.core.visible import visible_lines
from cdc_sync.demo.binaries import Binaries, find_binaries
from cdc_sync.demo.parts import Ats, Daemon, DemoError, ats, daemon, install, until
from cdc_sync.demo.postgres import Server, free_port, server
from cdc_sync.demo.scenario import (
    DATABASE,
    ROLE,
    ROWS,
    STEPS,
    Kill,
    Mode,
    Sql,
    Start,
    Step,
    UntilWaiting,
    configuration,
)
from cdc_sync.demo.verdict import Played, Received, differences
from cdc_sync.demo.view import WAITING, account, after_sweeps, invitation, side_by_side, verdict
from cdc_sync.emulator import Call, Emulator

_PAUSE = 0.35
"""Seconds before each step on a terminal: somebody is reading along."""

_TERMINATED = 128 + signal.SIGTERM
_REST = "the daemon to have nothing left to send"


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
            return event_loop.run(_show(mode, console, binaries, postgres, keep=keep))
        except asyncio.CancelledError:
            return _TERMINATED


async def _show(mode: Mode, console: Console, binaries: Binaries, postgres: Server, *, keep: bool) -> int:
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a coroutine that runs has a task")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    show = _Show(mode, console, binaries, postgres)
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator(on_call=show.hear))
        watcher = await stack.enter_async_context(daemon(free_port()))
        try:
            database = await stack.enter_async_context(ats(postgres))
            await show.set_up(database, watcher, emulator.url)
            passed = await show.perform(database, watcher)
            if keep:
                await show.stay(watcher, emulator.url)
            code = await watcher.end(signal.SIGTERM)  # as systemd would
        except DemoError as error:
            return show.fail(str(error), watcher)
        if code != 0:
            return show.fail(f"on SIGTERM the daemon ended with exit code {code}, not 0.", watcher)
        return 0 if passed else 1


class _Show:
    """What is shown, and what HelloWork has received so far."""

    def __init__(self, mode: Mode, console: Console, binaries: Binaries, postgres: Server) -> None:
        self._mode = mode
        self._console = console
        self._binaries = binaries
        self._postgres = postgres
        self._played: list[Played] = []
        self._received: list[Received] = []
        self._stays = False

    def hear(self, call: Call) -> None:
        """A call is over."""
        self._received.append(Received.from_call(call))
        if self._stays:
            self._say(f"  {self._received[-1]}")

    async def set_up(self, database: Ats, watcher: Daemon, emulator_url: str) -> None:
        """Configure, install as a DBA would, start the daemon, and wait for its baseline."""
        text = configuration(
            self._mode,
            dsn=self._postgres.dsn_for(DATABASE, ROLE),
            base_url=emulator_url,
            state=watcher.folder / "state.db",
            admin_port=watcher.admin_port,
        )
        watcher.config.write_text(text)
        self._say(f"The ATS has {ROWS} applications. HelloWork's API is emulated, at {emulator_url}.")
        commands = await install(database, watcher.config, self._mode)
        self._say(f"The DBA has run what {' and '.join(f'`{command}`' for command in commands)} printed.")
        process = await watcher.start()
        report = await watcher.until(lambda watch: bool(watch["baseline"]["state"] == "done"), "the baseline")
        self._say(
            f"The daemon runs (process {process}, capture.mode {self._mode}): {report['known']} applications known, "
            f"{len(self._received)} calls."
        )
        self._say("")

    async def perform(self, database: Ats, watcher: Daemon) -> bool:
        """Play the scenario, wait until nothing more can come, and give the verdict."""
        failure: str | None = None
        with self._console.status("") as status:
            try:
                await self._play(STEPS, database, watcher, status)
                status.update(WAITING)
                said = await _found_by_sweeps(watcher)
            except DemoError as error:
                failure, said = str(error), ""
        expected = [told for played in self._played for told in played.step.expected]
        found = differences(expected, self._received)
        self._console.print(account(self._played))
        self._say(said)
        self._console.print(verdict(found, failure, calls=len(self._received)))
        if found or failure:
            self._say_log(watcher)
        return not found and failure is None

    async def _play(self, steps: Iterable[Step], database: Ats, watcher: Daemon, status: Status) -> None:
        """Play steps in order; each ends when its calls have arrived: for every application as many as are expected."""
        expected: Counter[str] = Counter()

        async def all_arrived() -> bool:
            await watcher.check()
            return not expected - Counter(received.told.application_id for received in self._received)

        for step in steps:
            status.update(Text(step.done))
            if self._console.is_interactive:
                await asyncio.sleep(_PAUSE)
            before, since = len(self._received), 0.0
            try:
                for act in step.acts:
                    since = time.time()
                    await _do(act, database, watcher)
                expected.update(told.application_id for told in step.expected)
                await until(all_arrived, f"the calls after {step.done!r}")
            except DemoError:
                self._ended(Played(step, tuple(self._received[before:]), since, completed=False))
                raise
            self._ended(Played(step, tuple(self._received[before:]), since, completed=True))

    def _ended(self, played: Played) -> None:
        self._console.print(side_by_side(played, header=not self._played))
        self._played.append(played)

    async def stay(self, watcher: Daemon, emulator_url: str) -> None:
        """Leave everything running, and show what HelloWork receives, until a signal comes."""
        self._console.print(
            invitation(
                psql=self._binaries.folder / "psql",
                dsn=self._postgres.dsn_for(DATABASE),
                config=watcher.config,
                admin_url=watcher.admin_url,
                emulator_url=emulator_url,
                cdc_sync=_this_command(),
            ),
            soft_wrap=True,
        )
        self._stays = True
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()

    def fail(self, message: str, watcher: Daemon) -> int:
        """Say what went wrong, with the end of the daemon's log; returns the exit code."""
        self._console.print(Text(visible_lines(f"FAILED: {message}"), "bold red"))
        self._say_log(watcher)
        return 1

    def _say_log(self, watcher: Daemon) -> None:
        self._say("The end of the daemon's log:")
        self._say(watcher.tail() or "  (empty)")

    def _say(self, text: str) -> None:
        self._console.print(Text(visible_lines(text)), soft_wrap=True)


async def _do(act: Sql | UntilWaiting | Kill | Start, database: Ats, watcher: Daemon) -> None:
    match act:
        case Sql(text):
            await database.run(text)
        case UntilWaiting(calls):
            waiting = f"the daemon to let {calls} call(s) wait"
            await watcher.until(lambda report: bool(report["pending"] == calls), waiting)
        case Kill():
            # A call whose answer is not yet written down would rightly be made again, and this demo counts calls.
            await watcher.until(_is_at_rest, _REST)
            await watcher.end(signal.SIGKILL)
        case Start():
            await watcher.start()
        case _:
            assert_never(act)


async def _found_by_sweeps(watcher: Daemon) -> str:
    """Wait until nothing more can come: nothing waits, and the whole table has been compared once more."""
    await watcher.until(_is_at_rest, _REST)
    swept = watcher.sweeps()

    async def swept_twice() -> bool:
        await watcher.check()
        # The first to end may have begun before.
        return watcher.sweeps() >= swept + 2

    await until(swept_twice, "a sweep")
    report = await watcher.until(_is_at_rest, _REST)
    return after_sweeps(report["sweep_repairs"])


def _is_at_rest(report: dict[str, Any]) -> bool:
    return not report["pending"] and not report["suspected_deletions"]


def _this_command() -> str:
    """How the user called us, to be called again."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "cdc-sync" else f"{sys.executable} -m cdc_sync"
