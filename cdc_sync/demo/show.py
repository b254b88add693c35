"""The demo's run: starts the real parts, plays the scenario beside this file, and gives the verdict."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from difflib import ndiff
from string import Template
from typing import Any, Literal, TypeAlias

import aiohttp
import psycopg

from cdc_sync import event_loop, packaged
from cdc_sync.core.conditions import wrong
from cdc_sync.core.failures import OperationError
from cdc_sync.core.visible import visible
from cdc_sync.emulator.server import CALLS, Call, Emulator

from .postgres import Server, server

PATIENCE = 20.0
"""Seconds to wait for anything."""

_POLL = 0.02

Mode: TypeAlias = Literal["notify", "poll"]
Ats: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

Say: TypeAlias = Callable[[str], None]
"""Shows lines."""

_TAIL = 25

_CAPTURES = {"notify": "mode: notify", "poll": "mode: poll, watermark: updated_at, poll_interval: 200ms"}


class DemoError(OperationError):
    """The demo failed."""


def text(name: str, **values: object) -> str:
    """A file's text with values."""
    return Template(packaged.text(f"demo/{name}")).substitute(values)


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
    return [Step(**each) for each in packaged.data("demo/scenario.yaml")]


def summary(call: Call) -> str:
    """A call: `application status job`, and its error."""
    body = call.body if isinstance(call.body, dict) else {}
    error = "" if call.status == 200 else f" (answered {call.status})"  # noqa: PLR2004 - OK
    return visible(f"{call.application_id or call.path} {body.get('status')} {body.get('jobId')}{error}")


def differences(expected: Iterable[str], received: Iterable[str]) -> list[str]:
    """Calls that were expected only (`-`) or received only (`+`), where each application's order matters."""
    wanted, came = (sorted(calls, key=lambda call: call.partition(" ")[0]) for calls in (expected, received))
    return [line for line in ndiff(wanted, came) if line[0] in "-+"]


class Daemon:
    """The demo's daemon, in the server's folder; `process` is set by `start`."""

    process: subprocess.Popen[bytes]

    def __init__(self, postgres: Server, http: aiohttp.ClientSession, mode: Mode, base_url: str) -> None:
        folder = postgres.folder / "demo"
        folder.mkdir()
        port = _free_port()
        self.config = folder / "config.yaml"
        self.log = folder / "daemon.log"
        self.admin_url = f"http://127.0.0.1:{port}"
        self.mode = mode
        self._http = http
        self.config.write_text(
            text(
                "config.yaml",
                dsn=postgres.dsn_for("postgres", "cdc_sync"),
                base_url=base_url,
                state=folder / "state.db",
                capture=_CAPTURES[mode],
                admin_port=port,
            )
        )

    def command(self, *arguments: str) -> list[str]:
        """A command of `cdc-sync`, with the daemon's configuration."""
        return [sys.executable, "-m", "cdc_sync", "--config", str(self.config), *arguments]

    def start(self) -> None:
        """Start it, out of reach of the terminal's Ctrl-C."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command("run"), stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - ours

    async def end(self, number: signal.Signals) -> None:
        """End it by a signal."""
        self.process.send_signal(number)
        await asyncio.to_thread(self.process.wait, PATIENCE)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it, and end it as systemd would; in trouble, kill it."""
        self.start()
        try:
            yield
            await self.end(signal.SIGTERM)
        finally:
            self.process.kill()
            self.process.wait()
        if self.process.returncode != 0:
            raise DemoError(f"on SIGTERM the daemon ended with exit code {self.process.returncode}, not 0")

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

    async def until_at_rest(self) -> None:
        """Wait until nothing is left to send."""
        await self.until(
            lambda report: not report["pending"] and not report["suspected_deletions"],
            "the daemon to have nothing left to send",
        )

    def sweeps(self) -> int:
        """The finished sweeps."""
        return self.log.read_text(errors="replace").count('"event": "swept"')


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def run_demo(mode: Mode, say: Say, *, keep: bool) -> int:
    """Run the demo; returns 0 only if HelloWork received exactly the expected calls.

    `keep` leaves everything running afterwards, until Ctrl-C.

    Raises:
        OperationError: PostgreSQL or the emulator does not start.
        KeyboardInterrupt: Ctrl-C, before the verdict.
    """
    with server() as postgres:
        say("PostgreSQL runs.")
        return event_loop.run(_show(mode, say, postgres, keep=keep))


async def _show(mode: Mode, say: Say, postgres: Server, *, keep: bool) -> int:
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with (
        Emulator() as emulator,
        aiohttp.ClientSession(timeout=timeout) as http,
        await Ats.connect(postgres.dsn, autocommit=True) as ats,
    ):
        daemon = Daemon(postgres, http, mode, emulator.url)
        show = _Show(say, emulator, daemon, ats)
        try:
            await show.set_up()
            async with daemon.running():
                await show.perform()
                if keep:
                    await show.stay(postgres)
        except (DemoError, psycopg.Error, subprocess.TimeoutExpired) as error:
            show.fail(str(error))
            return 1
    return 0


@dataclass
class _Show:
    """Shows what HelloWork receives."""

    say: Say
    emulator: Emulator
    daemon: Daemon
    ats: Ats
    expected: list[str] = field(default_factory=list)

    async def set_up(self) -> None:
        """Make the ATS, and install as a DBA."""
        await self.ats.execute(text("ats.sql").encode())
        self.say(f"The ATS has 40 applications. HelloWork's API is emulated, at {self.emulator.url}.")
        scripts = ("install", "grants") if self.daemon.mode == "notify" else ("grants",)
        for script in scripts:
            command = self.daemon.command("sql", script)
            ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, encoding="utf-8", check=False)
            if ended.returncode != 0:
                raise DemoError(f"`cdc-sync sql {script}` ended with exit code {ended.returncode}: {ended.stderr}")
            await self.ats.execute(ended.stdout.encode())
        commands = " and ".join(f"`cdc-sync sql {script}`" for script in scripts)
        self.say(f"The DBA has run what {commands} printed.")

    async def perform(self) -> None:
        """Play the scenario until no more calls can come; raises `DemoError` with what went wrong."""
        report = await self.daemon.until(lambda watch: bool(watch["baseline"]["state"] == "done"), "the baseline")
        process, calls = self.daemon.process.pid, len(self.emulator.calls)
        known = f"{report['known']} applications known, {calls} calls"
        self.say(f"The daemon runs (process {process}, capture.mode {self.daemon.mode}): {known}.\n")
        played, reasons = steps(), list[str]()
        try:
            for step in played:
                await self._play(step)
            # Whether anything more comes: the first of two more sweeps may have begun before.
            await self.daemon.until_at_rest()
            sweeps = self.daemon.sweeps()
            await self.daemon.until(lambda _: self.daemon.sweeps() >= sweeps + 2, "a sweep")
            await self.daemon.until_at_rest()
        except DemoError as error:
            reasons.append(str(error))
        received = list(map(summary, self.emulator.calls))
        reasons += differences(self.expected, received)
        if reasons:
            raise DemoError("\n  ".join(["expected (-) and received (+) differ", *reasons]))
        silent = sum(bool(step.silent) for step in played)
        self.say(f"\n{len(played)} done, {len(received)} sent, {silent} correctly not sent")
        self.say(f"PASSED: HelloWork received {len(received)} calls, exactly the expected ones.")

    async def _play(self, step: Step) -> None:
        """Play a step until the expected number of calls."""
        before = len(self.emulator.calls)
        self.expected += step.expected
        began = time.time()
        try:
            for act in step.acts:
                began = time.time()
                await self._do(act)
            await self.daemon.until(
                lambda _: len(self.emulator.calls) >= len(self.expected), f"the calls after {step.done!r}"
            )
        finally:
            received = self.emulator.calls[before:]
            mark = "✗" if differences(step.expected, map(summary, received)) else "✓"
            self.say(f"{mark} {step.done}")
            for call in received:
                # The clock may be set; a call may precede the statement's end.
                self.say(f"    sent: {summary(call)}  {max(call.received - began, 0) * 1000:.0f} ms")
            if step.silent:
                self.say(f"    not sent: {step.silent}")

    async def _do(self, act: str) -> None:
        match act:
            case "kill":
                # The demo counts calls: none may be repeated for a lost answer.
                await self.daemon.until_at_rest()
                await self.daemon.end(signal.SIGKILL)
            case "start":
                self.daemon.start()
            case "until 1 pending" | "until 0 pending":
                pending = int(act.split()[1])
                await self.daemon.until(lambda report: bool(report["pending"] == pending), "a changed outbox")
            case _:
                await self.ats.execute(act.encode())

    async def stay(self, postgres: Server) -> None:
        """Show what to try, and what HelloWork receives, until a signal."""
        places = {
            "dsn": postgres.dsn,
            "admin_url": self.daemon.admin_url,
            "calls_url": f"{self.emulator.url}{CALLS}",
            "client": str(postgres.binaries.folder / "psql"),
            "command": " ".join(self.daemon.command()),
        }
        self.say(text("invitation.txt", **places).removesuffix("\n"))
        self.emulator.on_call = lambda call: self.say(f"  {summary(call)}")
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    def fail(self, message: str) -> None:
        """Show the error and the end of the daemon's log."""
        self.say(f"FAILED: {message}")
        if self.daemon.log.exists():
            self.say("\n".join(["The end of the daemon's log:", *self.daemon.log.read_text().splitlines()[-_TAIL:]]))
