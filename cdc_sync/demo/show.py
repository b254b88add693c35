"""The demo's run: starts the real parts, plays the scenario beside this file, gives the verdict, and cleans up."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Literal, TypeAlias

import aiohttp
import psycopg
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cdc_sync import event_loop
from cdc_sync.core.conditions import wrong
from cdc_sync.core.failures import OperationError
from cdc_sync.core.visible import visible, visible_lines
from cdc_sync.demo.postgres import Server, free_port, server
from cdc_sync.emulator import Call, Emulator
from cdc_sync.packaged import data

PATIENCE = 20.0
"""Seconds to wait for anything."""

_POLL = 0.02

Mode: TypeAlias = Literal["notify", "poll"]
Ats: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

_PAUSE = 0.35
"""Seconds before a step on a terminal, for the reader."""

_TERMINATED = 128 + signal.SIGTERM
_TAIL = 25
_PLAIN_WIDTH = 118

_ROLE = "cdc_sync"
_DATABASE = "ats"


class DemoError(OperationError):
    """The demo failed."""


def text(name: str, **values: object) -> str:
    """A file's text with values."""
    return Template(Path(__file__).with_name(name).read_text()).substitute(values)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens in the ATS.

    Attributes:
        done: for people.
        acts: SQL, or actions on the daemon.
        expected: the calls that must follow (`application status job`), in each application's order.
        silent: why something is not sent, if so.
    """

    done: str
    acts: Sequence[str]
    expected: Sequence[str] = ()
    silent: str = ""


def steps() -> list[Step]:
    """The scenario."""
    return [Step(**each) for each in data("demo/scenario.yaml")]


def summary(call: Call) -> str:
    """A call: `application status job`, and its error."""
    body = call.body if isinstance(call.body, dict) else {}
    text = f"{call.application_id or call.path} {body.get('status')} {body.get('jobId')}"
    if call.status != 200 or call.violations:  # noqa: PLR2004 - OK
        text += f" ({'; '.join((f'answered {call.status}', *call.violations))})"
    return visible(text)


def application_of(call: str) -> str:
    """The application of a call."""
    return call.partition(" ")[0]


def differences(expected: Iterable[str], received: Iterable[str]) -> list[str]:
    """The applications with other calls than expected, or in another order."""
    wanted, came = list(expected), list(received)
    found = []
    for application in sorted(set(map(application_of, (*wanted, *came)))):
        should, did = (
            " → ".join(call.partition(" ")[2] for call in calls if application_of(call) == application) or "nothing"
            for calls in (wanted, came)
        )
        if should != did:
            found.append(f"{application}: expected {should}; received {did}")
    return found


class Daemon:
    """The demo's daemon, in the server's folder; `process` is set by `start`."""

    process: subprocess.Popen[bytes]

    def __init__(self, postgres: Server, http: aiohttp.ClientSession, mode: Mode, base_url: str) -> None:
        folder = postgres.folder / "demo"
        folder.mkdir()
        port = free_port()
        self.config = folder / "config.yaml"
        self.admin_url = f"http://127.0.0.1:{port}"
        self._kept = postgres.kept
        self._http = http
        self._log = folder / "daemon.log"
        capture = f"mode: {mode}" + (", watermark: updated_at, poll_interval: 200ms" if mode == "poll" else "")
        dsn, state = postgres.dsn_for(_DATABASE, _ROLE), folder / "state.db"
        settings = {"dsn": dsn, "base_url": base_url, "state": state, "capture": capture, "admin_port": port}
        self.config.write_text(text("config.yaml", **settings))

    def command(self, *arguments: str) -> list[str]:
        """A command of `cdc-sync`, with the daemon's configuration."""
        return [sys.executable, "-m", "cdc_sync", "--config", str(self.config), *arguments]

    def start(self) -> int:
        """Start it; returns its process id."""
        self.process = self._kept.start(self.command("run"), log=self._log, env=_environment())
        return self.process.pid

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()

    async def end(self, number: signal.Signals) -> int:
        """End it by a signal; returns its exit code, or raises `DemoError`."""
        self.process.send_signal(number)
        try:
            return await asyncio.to_thread(self.process.wait, PATIENCE)
        except subprocess.TimeoutExpired:
            raise DemoError(f"waited in vain for the daemon to end after {number.name}") from None

    async def until(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The watch's report (`GET /api/status`) once it meets a condition.

        Raises:
            DemoError: it does not, or the daemon has ended.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                while (report := await self._report()) is None or not condition(report):  # noqa: ASYNC110 - polled
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise DemoError(f"waited in vain for {what}, for {PATIENCE:.0f} seconds") from None
        return report

    async def _report(self) -> dict[str, Any] | None:
        """The watch's report; None while anything is wrong."""
        if (code := self.process.poll()) is not None:
            raise DemoError(f"the daemon has ended, with exit code {code}; its log has the reason")
        try:
            async with self._http.get(f"{self.admin_url}/api/status", raise_for_status=True) as answer:
                everything = await answer.json()
        except aiohttp.ClientError:
            return None
        report: dict[str, Any] = everything["watches"][0]
        return None if wrong({each["name"]: each["message"] for each in everything["conditions"]}) else report

    async def until_at_rest(self) -> dict[str, Any]:
        """Wait until nothing is left to send; returns the report."""
        return await self.until(
            lambda report: not report["pending"] and not report["suspected_deletions"],
            "the daemon to have nothing left to send",
        )

    def log(self) -> list[str]:
        """The lines of its log."""
        return self._log.read_text(errors="replace").splitlines() if self._log.exists() else []

    def sweeps(self) -> int:
        """The finished sweeps of its log."""
        return sum('"event": "swept"' in line for line in self.log())


def _environment() -> dict[str, str]:
    """Ours, without variables for connections or logs."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "CDC_SYNC_", "JOURNAL_"))}


def run_demo(mode: Mode, console: Console, *, keep: bool) -> int:
    """Run the demo; returns 0 only if HelloWork received exactly the expected calls.

    `keep` leaves everything running afterwards, until Ctrl-C.

    Raises:
        OperationError: PostgreSQL or the emulator does not start.
        KeyboardInterrupt: Ctrl-C, before the verdict.
    """
    started = time.monotonic()
    with server() as postgres:
        console.print(f"PostgreSQL runs, {time.monotonic() - started:.1f} s after it was asked to.")
        try:
            return event_loop.run(_show(mode, console, postgres, keep=keep))
        except asyncio.CancelledError:
            return _TERMINATED


async def _show(mode: Mode, console: Console, postgres: Server, *, keep: bool) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    loop.add_signal_handler(signal.SIGTERM, lambda: task and task.cancel())
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator())
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        daemon = Daemon(postgres, http, mode, emulator.url)
        show = _Show(console, emulator, daemon)
        try:
            async with await Ats.connect(postgres.dsn, autocommit=True) as connection:
                await connection.execute(f"CREATE DATABASE {_DATABASE}".encode())
            ats = await stack.enter_async_context(await Ats.connect(postgres.dsn_for(_DATABASE), autocommit=True))
            await ats.execute(text("ats.sql").encode())
            show.say(f"The ATS has 40 applications. HelloWork's API is emulated, at {emulator.url}.")
            await show.set_up(mode, ats)
            stack.callback(daemon.kill)
            result = await show.perform(ats)
            if keep:
                await show.stay(postgres)
            code = await daemon.end(signal.SIGTERM) if result == 0 else 0  # as systemd would
        except (DemoError, psycopg.Error) as error:
            return show.fail(str(error))
        return result if code == 0 else show.fail(f"on SIGTERM the daemon ended with exit code {code}, not 0")


class _Show:
    """Shows what HelloWork receives."""

    def __init__(self, console: Console, emulator: Emulator, daemon: Daemon) -> None:
        self._console = console
        self._emulator = emulator
        self._daemon = daemon
        self._expected: list[str] = []

    async def set_up(self, mode: Mode, ats: Ats) -> None:
        """Install as a DBA, start the daemon, wait for its baseline."""
        scripts = ("install", "grants") if mode == "notify" else ("grants",)
        for script in scripts:
            command, environment = self._daemon.command("sql", script), _environment()
            ended = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, encoding="utf-8", env=environment, check=False
            )
            if ended.returncode != 0:
                raise DemoError(f"`cdc-sync sql {script}` ended with exit code {ended.returncode}: {ended.stderr}")
            await ats.execute(ended.stdout.encode())
        commands = " and ".join(f"`cdc-sync sql {script}`" for script in scripts)
        self.say(f"The DBA has run what {commands} printed.")
        process = self._daemon.start()
        report = await self._daemon.until(lambda watch: bool(watch["baseline"]["state"] == "done"), "the baseline")
        self.say(
            f"The daemon runs (process {process}, capture.mode {mode}): {report['known']} applications known, "
            f"{len(self._emulator.calls)} calls.\n"
        )

    async def perform(self, ats: Ats) -> int:
        """Play the scenario until no more calls can come; returns the exit code."""
        self._row("", *(Text(head, "bold") for head in ("Done", "Sent to HelloWork", "Correctly not sent")))
        played, reasons = steps(), list[str]()
        with self._console.status("") as status:
            try:
                for step in played:
                    status.update(Text(step.done))
                    await self._play(step, ats)
                status.update("Waiting to see whether anything more comes")
                # The first of two more sweeps may have begun before.
                await self._daemon.until_at_rest()
                sweeps = self._daemon.sweeps()
                await self._daemon.until(lambda _: self._daemon.sweeps() >= sweeps + 2, "a sweep")
                repairs = (await self._daemon.until_at_rest())["sweep_repairs"]
            except DemoError as error:
                reasons.append(str(error))
            else:
                silent = sum(bool(step.silent) for step in played)
                sent = len(self._emulator.calls)
                self._row("", f"{len(played)} done", f"{sent} sent", f"{silent} correctly not sent")
                self.say(after_sweeps(repairs))
        received = list(map(summary, self._emulator.calls))
        reasons += differences(self._expected, received)
        if reasons:
            return self.fail("\n  ".join(["", *reasons]))
        self.say(f"PASSED: HelloWork received {len(received)} calls, exactly the expected ones.", "bold green")
        return 0

    async def _play(self, step: Step, ats: Ats) -> None:
        """Play a step until the expected number of calls."""
        if self._console.is_interactive:
            await asyncio.sleep(_PAUSE)
        before = len(self._emulator.calls)
        self._expected += step.expected
        expected = Counter(map(application_of, self._expected))
        since, completed = 0.0, False
        try:
            for act in step.acts:
                since = time.time()
                await _do(act, ats, self._daemon)
            await self._daemon.until(
                lambda _: not expected - Counter(application_of(summary(call)) for call in self._emulator.calls),
                f"the calls after {step.done!r}",
            )
            completed = True
        finally:
            received = self._emulator.calls[before:]
            completed = completed and not differences(step.expected, map(summary, received))
            mark = Text("✓", "green") if completed else Text("✗", "bold red")
            # The clock may be set; a call may precede the statement's end.
            calls = [f"{summary(call)}  {max(call.received - since, 0) * 1000:.0f} ms" for call in received]
            self._row(mark, step.done, Text("\n".join(calls)), Text(step.silent, "dim"))

    async def stay(self, postgres: Server) -> None:
        """Show what to try, and what HelloWork receives, until a signal."""
        psql = postgres.binaries.folder / "psql"
        places = {
            "dsn": postgres.dsn_for(_DATABASE),
            "admin_url": self._daemon.admin_url,
            "emulator_url": self._emulator.url,
            "client": str(psql) if psql.exists() else "psql",
            "command": " ".join(self._daemon.command()),
        }
        invitation = text("invitation.txt", **{name: escape(place) for name, place in places.items()})
        self._console.print(Text.from_markup(invitation.removesuffix("\n"), emoji=False), soft_wrap=True)
        self._emulator.on_call = lambda call: self.say(f"  {summary(call)}")
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()

    def fail(self, message: str) -> int:
        """Show the error and the end of the daemon's log; returns the exit code."""
        self.say(f"FAILED: {message}", "bold red")
        self.say("\n".join(["The end of the daemon's log:", *(self._daemon.log()[-_TAIL:] or ["  (empty)"])]))
        return 1

    def say(self, text: str, style: str = "") -> None:
        """Show a text."""
        self._console.print(Text(visible_lines(text), style), soft_wrap=True)

    def _row(self, *cells: RenderableType) -> None:
        """Print a line of the table."""
        row = Table.grid(padding=(0, 2, 0, 0), expand=True)
        row.add_column(width=1)
        for share in (4, 5, 3):
            row.add_column(ratio=share)
        row.add_row(*cells)
        self._console.print(row)


async def _do(act: str, ats: Ats, daemon: Daemon) -> None:
    match act:
        case "kill":
            # The demo counts calls: none may be repeated for a lost answer.
            await daemon.until_at_rest()
            await daemon.end(signal.SIGKILL)
        case "start":
            daemon.start()
        case "until 1 pending" | "until 0 pending":
            pending = int(act.split()[1])
            await daemon.until(lambda report: bool(report["pending"] == pending), f"{pending} pending call(s)")
        case _:
            await ats.execute(act.encode())


def console() -> Console:
    """A console as wide as the terminal, or as the table."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, force_interactive=False, width=_PLAIN_WIDTH)


def after_sweeps(repairs: Mapping[str, int]) -> str:
    """What capture had missed, by cause."""
    if not repairs:
        return "Sweeps compared the whole table again and again, and found nothing that capture had missed."
    found = ", ".join(f"{cause} ({number})" for cause, number in sorted(repairs.items()))
    return f"Found by nothing but sweeps, which compare the whole table: {found}."
