"""The whole show: real parts put together, the scenario played, the verdict, and everything put away again."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from string import Template
from typing import Any, TypeAlias, TypeVar

import aiohttp
import psycopg
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cdc_sync import event_loop
from cdc_sync.core.conditions import wrong
from cdc_sync.core.failures import OperationError
from cdc_sync.core.visible import visible_lines
from cdc_sync.demo import keeper
from cdc_sync.demo.binaries import Binaries, find_binaries
from cdc_sync.demo.postgres import Server, free_port, server
from cdc_sync.demo.scenario import (
    DATABASE,
    ROLE,
    Mode,
    Played,
    Received,
    Step,
    configuration,
    differences,
    schema,
    steps,
)
from cdc_sync.emulator import Call, Emulator

PATIENCE = 20.0
"""Seconds within which whatever is waited for must happen. It takes two or three, on a machine that has time."""

_POLL = 0.02

_Found = TypeVar("_Found")
Ats: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

_PAUSE = 0.35
"""Seconds before each step on a terminal: somebody is reading along."""

_TERMINATED = 128 + signal.SIGTERM
_TAIL = 25
_REST = "the daemon to have nothing left to send"

_PLAIN_WIDTH = 118


class DemoError(OperationError):
    """Something that the demo needs did not happen; the message says what, and where to look."""


class Daemon:
    """The demo's daemon and its folder; made by `daemon()`.

    Attributes:
        folder: a private temporary folder, gone with the daemon.
        config: its configuration in there.
        admin_port: where on 127.0.0.1 the daemon's admin server answers.
        admin_url: the page of its admin server.
    """

    def __init__(self, keeper: Process, folder: Path, http: aiohttp.ClientSession, admin_port: int) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.admin_port = admin_port
        self.admin_url = f"http://127.0.0.1:{admin_port}"
        self._keeper = keeper
        self._http = http

    async def start(self) -> int:
        """Start it and return its process id; it is not ready yet."""
        return int(await _ask(self._keeper, "start", _command(self.config, "run")))

    async def end(self, number: signal.Signals) -> int:
        """Send a signal that ends it; returns its exit code, negative for the signal that it died of.

        Raises:
            DemoError: it does not end.
        """
        await _ask(self._keeper, "signal", int(number))
        return int(await until(lambda: _ask(self._keeper, "ended"), f"the daemon to end after {number.name}"))

    async def check(self) -> None:
        """See that it runs.

        Raises:
            DemoError: it has ended.
        """
        code = await _ask(self._keeper, "ended")
        if code is not None:
            raise DemoError(f"the daemon has ended, with exit code {code}; its log says why")

    async def until(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Wait until the report of its watch (see `GET /api/status`) satisfies a condition; returns the report.

        Raises:
            DemoError: it does not, or the daemon has ended.
        """

        async def satisfying() -> dict[str, Any] | None:
            await self.check()
            try:
                async with self._http.get(f"{self.admin_url}/api/status", raise_for_status=True) as answer:
                    everything = await answer.json()
            except aiohttp.ClientError:
                return None
            report: dict[str, Any] = everything["watches"][0]
            conditions = {each["name"]: each["message"] for each in everything["conditions"]}
            return report if not wrong(conditions) and condition(report) else None

        return await until(satisfying, what)

    def log(self) -> list[str]:
        """The lines of its log."""
        path = self.folder / keeper.LOG
        return path.read_text(errors="replace").splitlines() if path.exists() else []

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


async def _ask(of_keeper: Process, *request: object) -> Any:
    if of_keeper.stdin is not None:
        of_keeper.stdin.write(json.dumps(request).encode() + b"\n")
    return await _answer(of_keeper)


async def _answer(of_keeper: Process) -> Any:
    line = await of_keeper.stdout.readline() if of_keeper.stdout is not None else b""
    if not line:
        raise DemoError(f"the daemon's keeper has ended. Can a folder be made in {tempfile.gettempdir()}?")
    return json.loads(line)


@asynccontextmanager
async def ats(server: Server) -> AsyncIterator[Ats]:
    """The ATS's own connection, with all rights, to a new database with its tables and rows.

    There is a role for the daemon, too, which has no right to anything yet.
    """
    async with await Ats.connect(server.dsn, autocommit=True) as connection:
        await run_sql(connection, f"CREATE DATABASE {DATABASE}")
        await run_sql(connection, f"CREATE ROLE {ROLE} LOGIN")
    async with await Ats.connect(server.dsn_for(DATABASE), autocommit=True) as connection:
        await run_sql(connection, schema())
        yield connection


async def run_sql(ats: Ats, script: str) -> None:
    """Run one or more statements; without BEGIN they commit together.

    Raises:
        DemoError: the server refuses one of them.
    """
    try:
        await ats.execute(script.encode())
    except psycopg.Error as error:
        raise DemoError(f"the ATS's database refused ({error}):\n{script}") from error


async def install(ats: Ats, config: Path, mode: Mode) -> list[str]:
    """Do what a DBA does: have the scripts printed, read them, run them. Returns the commands that printed them.

    Raises:
        DemoError: a script cannot be had.
    """
    scripts = [["sql", "install"], ["sql", "grants"]] if mode == "notify" else [["sql", "grants"]]
    for script in await asyncio.gather(*(_printed(config, arguments) for arguments in scripts)):
        await run_sql(ats, script)
    return ["cdc-sync " + " ".join(arguments) for arguments in scripts]


async def _printed(config: Path, arguments: list[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *_command(config, *arguments),
        stdin=DEVNULL,
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
        command = f"cdc-sync {' '.join(arguments)}"
        raise DemoError(f"`{command}` ended with exit code {process.returncode}: {err.decode().strip()}")
    return out.decode()


def _command(config: Path, *arguments: str) -> list[str]:
    """The command line of this very `cdc-sync`."""
    return [sys.executable, "-m", "cdc_sync", "--config", str(config), *arguments]


def _environment() -> dict[str, str]:
    """The present environment, without what would lead a connection or a log elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "CDC_SYNC_", "JOURNAL_"))}


async def until(probe: Callable[[], Awaitable[_Found | None]], what: str) -> _Found:
    """Wait for something that nobody announces; returns the first that the probe gives, other than None.

    Raises:
        DemoError: it did not happen in time.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            while (found := await probe()) is None:  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(_POLL)
    except TimeoutError:
        raise DemoError(f"waited in vain for {what}, for {PATIENCE:.0f} seconds") from None
    return found


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
    show = _Show(console)
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator(on_call=show.hear))
        watcher = await stack.enter_async_context(daemon(free_port()))
        try:
            database = await stack.enter_async_context(ats(postgres))
            watcher.config.write_text(
                configuration(
                    mode,
                    dsn=postgres.dsn_for(DATABASE, ROLE),
                    base_url=emulator.url,
                    state=watcher.folder / "state.db",
                    admin_port=watcher.admin_port,
                )
            )
            show.say(f"The ATS has 40 applications. HelloWork's API is emulated, at {emulator.url}.")
            await show.set_up(mode, database, watcher)
            passed = await show.perform(database, watcher)
            if keep:
                text = invitation(
                    binaries.folder / "psql",
                    dsn=postgres.dsn_for(DATABASE),
                    config=str(watcher.config),
                    admin_url=watcher.admin_url,
                    emulator_url=emulator.url,
                )
                await show.stay(text)
            code = await watcher.end(signal.SIGTERM)  # as systemd would
        except DemoError as error:
            return show.fail(str(error), watcher)
        if code != 0:
            return show.fail(f"on SIGTERM the daemon ended with exit code {code}, not 0.", watcher)
        return 0 if passed else 1


class _Show:
    """What is shown, and what HelloWork has received so far."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._played: list[Played] = []
        self._received: list[Received] = []
        self._stays = False

    def hear(self, call: Call) -> None:
        """A call is over."""
        self._received.append(Received.from_call(call))
        if self._stays:
            self.say(f"  {self._received[-1]}")

    async def set_up(self, mode: Mode, database: Ats, watcher: Daemon) -> None:
        """Install as a DBA would, start the daemon, and wait for its baseline."""
        commands = await install(database, watcher.config, mode)
        self.say(f"The DBA has run what {' and '.join(f'`{command}`' for command in commands)} printed.")
        process = await watcher.start()
        report = await watcher.until(lambda watch: bool(watch["baseline"]["state"] == "done"), "the baseline")
        self.say(
            f"The daemon runs (process {process}, capture.mode {mode}): {report['known']} applications known, "
            f"{len(self._received)} calls.\n"
        )

    async def perform(self, database: Ats, watcher: Daemon) -> bool:
        """Play the scenario, wait until nothing more can come, and give the verdict."""
        failure, repairs = None, None
        with self._console.status("") as status:
            try:
                for step in steps():
                    status.update(Text(step.done))
                    await self._play(step, database, watcher)
                status.update("Waiting to see whether anything more comes")
                repairs = await _repairs_of_sweeps(watcher)
            except DemoError as error:
                failure = str(error)
        expected = [told for played in self._played for told in played.step.expected]
        found = differences(expected, self._received)
        self._console.print(account(self._played))
        self.say(after_sweeps(repairs))
        self._console.print(verdict(found, failure, calls=len(self._received)))
        if found or failure:
            self.say_log(watcher)
        return not found and failure is None

    async def _play(self, step: Step, database: Ats, watcher: Daemon) -> None:
        """Play a step; it ends when its calls have arrived: for every application as many as are expected."""
        if self._console.is_interactive:
            await asyncio.sleep(_PAUSE)
        before = len(self._received)
        steps = [*(played.step for played in self._played), step]
        expected = Counter(told.application_id for each in steps for told in each.expected)

        async def all_arrived() -> bool | None:
            await watcher.check()
            return None if expected - Counter(received.told.application_id for received in self._received) else True

        failure: DemoError | None = None
        since = 0.0
        try:
            for act in step.acts:
                since = time.time()
                await _do(act, database, watcher)
            await until(all_arrived, f"the calls after {step.done!r}")
        except DemoError as error:
            failure = error
        self._played.append(Played(step, tuple(self._received[before:]), since, completed=failure is None))
        self._console.print(side_by_side(self._played[-1], header=len(self._played) == 1))
        if failure is not None:
            raise failure

    async def stay(self, invitation: Text) -> None:
        """Leave everything running, and show what HelloWork receives, until a signal comes."""
        self._console.print(invitation, soft_wrap=True)
        self._stays = True
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()

    def fail(self, message: str, watcher: Daemon) -> int:
        """Say what went wrong, with the end of the daemon's log; returns the exit code."""
        self._console.print(Text(visible_lines(f"FAILED: {message}"), "bold red"))
        self.say_log(watcher)
        return 1

    def say_log(self, watcher: Daemon) -> None:
        """Show the end of the daemon's log."""
        self.say("\n".join(["The end of the daemon's log:", *(watcher.log()[-_TAIL:] or ["  (empty)"])]))

    def say(self, text: str) -> None:
        """Show a text."""
        self._console.print(Text(visible_lines(text)), soft_wrap=True)


async def _do(act: str, database: Ats, watcher: Daemon) -> None:
    match act:
        case "kill":
            # A call whose answer is not yet stored would rightly be made again, and this demo counts calls.
            await watcher.until(_is_at_rest, _REST)
            await watcher.end(signal.SIGKILL)
        case "start":
            await watcher.start()
        case "until 1 pending" | "until 0 pending":
            calls = int(act.split()[1])
            await watcher.until(lambda report: bool(report["pending"] == calls), f"{calls} pending call(s)")
        case _:
            await run_sql(database, act)


async def _repairs_of_sweeps(watcher: Daemon) -> dict[str, int]:
    """Wait until nothing more can come: nothing is pending, and the whole table has been compared once more."""
    await watcher.until(_is_at_rest, _REST)
    swept = watcher.sweeps()

    async def swept_twice() -> bool | None:
        await watcher.check()
        # The first to end may have begun before.
        return True if watcher.sweeps() >= swept + 2 else None

    await until(swept_twice, "a sweep")
    repairs: dict[str, int] = (await watcher.until(_is_at_rest, _REST))["sweep_repairs"]
    return repairs


def _is_at_rest(report: dict[str, Any]) -> bool:
    return not report["pending"] and not report["suspected_deletions"]


def console() -> Console:
    """A console for the demo: as wide as the terminal, or as the final table needs where there is none."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, force_interactive=False, width=_PLAIN_WIDTH)


def side_by_side(played: Played, *, header: bool) -> Table:
    """What the ATS did in a step, and what HelloWork received; the first has the header."""
    table = Table(box=None, pad_edge=False, show_header=header, expand=True, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, width=1)
    table.add_column("The ATS", ratio=1)
    table.add_column("HelloWork received", ratio=1)
    heard = Text(f"nothing: {played.step.silent}" if played.step.silent else "nothing", "dim")
    if played.received:
        # The two clocks are one, but it may be set; and a call can arrive before the statement's end is known here.
        late = [f"  {max(call.at - played.since, 0) * 1000:.0f} ms" for call in played.received]
        lines = zip(map(str, played.received), late, strict=True)
        heard = Text("\n").join(Text.assemble(call, (after, "dim")) for call, after in lines)
    table.add_row(_mark(played), Text(played.step.done), heard)
    return table


def account(played: Iterable[Played]) -> Table:
    """The final table: done, sent, correctly not sent."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    steps = list(played)
    sent = sum(len(each.received) for each in steps)
    silent = sum(bool(each.step.silent) for each in steps)
    table.add_column("", no_wrap=True)
    table.add_column("Done in the ATS", f"{len(steps)} done")
    table.add_column("Sent to HelloWork", f"{sent} sent", no_wrap=True)
    table.add_column("Correctly not sent", f"{silent} correctly not sent")
    for each in steps:
        sent_lines = Text("\n".join(str(call) for call in each.received), "" if each.is_good else "red")
        table.add_row(_mark(each), Text(each.step.done), sent_lines, Text(each.step.silent, "dim"))
    return table


def after_sweeps(repairs: Mapping[str, int] | None) -> str:
    """What capture had missed, by cause; nothing if nobody waited for the sweeps."""
    if repairs is None:
        return ""
    if not repairs:
        return "Sweeps compared the whole table again and again, and found nothing that capture had missed."
    found = ", ".join(f"{cause} ({number})" for cause, number in sorted(repairs.items()))
    return f"Found by nothing but sweeps, which compare the whole table: {found}."


def verdict(differences: Sequence[str], failure: str | None, *, calls: int) -> Text:
    """The last word.

    Args:
        differences: where HelloWork received something else than it should have.
        failure: why the scenario could not be played to its end, if it could not.
        calls: how many calls were received.
    """
    if not differences and failure is None:
        return Text(f"PASSED: HelloWork received {calls} calls, exactly the expected ones.", "bold green")
    reasons = [*filter(None, [failure]), *differences]
    return Text("FAILED:\n" + "\n".join(f"  {reason}" for reason in reasons), "bold red")


def invitation(psql: Path, **addresses: str) -> Text:
    """Where everything is in a demo that was left running, and ready-made things to try.

    Args:
        psql: the client of the server's installation.
        addresses: what `invitation.txt` names.
    """
    # How the user called us, to be called again.
    called = Path(sys.argv[0])
    command = str(called) if called.name == "cdc-sync" else f"{sys.executable} -m cdc_sync"
    client = str(psql) if psql.exists() else "psql"
    told = {
        name: escape(text)
        for name, text in {
            **addresses,
            "client": client,
            "command": f"{command} --config {addresses['config']}",
        }.items()
    }
    text = Template(Path(__file__).with_name("invitation.txt").read_text()).substitute(told)
    return Text.from_markup(text.removesuffix("\n"), emoji=False)


def _mark(played: Played) -> Text:
    return Text("✓", "green") if played.is_good else Text("✗", "bold red")
