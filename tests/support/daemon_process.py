"""`cdc-sync run` as a process: started, looked at from outside, and ended in every way."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import urlencode

import psutil

from support.forked import start
from support.waiting import wait_until

PATIENCE = 60.0
"""Seconds within which whatever is waited for must happen; it takes two or three on a machine that has time."""

_SHORTEST_PAUSE, _LONGEST_PAUSE, _SHARE = 0.02, 0.2, 0.15
"""Seconds between two looks, and their share of the time that was waited before.

The daemon works for each look at its admin server, and shares the machine with us.
"""

RELOADED = "the configuration was read again and is in use"

INSTALLED = "CDC_SYNC_TEST_COMMAND"
"""The variable that names the command to test, the one that a wheel installed; else it is the code in this folder."""

COMMAND = (os.environ[INSTALLED],) if INSTALLED in os.environ else (sys.executable, "-m", "cdc_sync")


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The present environment without what would lead a connection or a log elsewhere, and some variables more."""
    foreign = ("PG", "CDC_SYNC_", "JOURNAL_")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(foreign)}, **extra}


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def run_to_end(
    line: Sequence[str], variables: Mapping[str, str], *, stdin: int | None = None, cwd: Path | None = None
) -> Finished:
    """Run a whole command line; a fork of a process that has imported it, if it is `COMMAND`: see `support.forked`."""
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        process = start(line, COMMAND, environment(variables), stdout=stdout, stderr=stderr, stdin=stdin, cwd=cwd)
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait(PATIENCE)
        for file in (stdout, stderr):
            file.seek(0)
        return Finished(code, stdout.read(), stderr.read())


_RESERVED_AT_ONCE = 200

_reserved = deque[socket.socket]()
"""Abstract sockets, one for each port that was given out last: a name that only one process of the machine can hold."""


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, below those that Linux gives to connections, ours among them.

    No other test gets it, of another process either, before its server has begun to listen.
    """
    while True:
        port, reserved = 16_000 + secrets.randbelow(16_000), socket.socket(socket.AF_UNIX)
        with socket.socket() as probe, suppress(OSError):
            reserved.bind(f"\0cdc-sync-tests-{port}")
            probe.bind(("127.0.0.1", port))
            _reserved.append(reserved)
            if len(_reserved) > _RESERVED_AT_ONCE:
                _reserved.popleft().close()
            return port
        reserved.close()


def is_listened_on(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class DaemonProcess:
    """A running `cdc-sync`.

    Args:
        arguments: those after the program's name.
        variables: put into its environment.
        output: the beginning of the names of the two files that take its output.
        admin_port: where its admin server listens.
        admin_token: what the admin server asks for.
        command: the program.
        admin_host: where its admin server listens.
        forked: start it as a fork of a process that has imported it, if it is `COMMAND`: see `support.forked`.
    """

    def __init__(
        self,
        arguments: list[str],
        variables: Mapping[str, str],
        output: Path,
        admin_port: int,
        admin_token: str,
        *,
        command: Sequence[str] = COMMAND,
        admin_host: str = "127.0.0.1",
        forked: bool = False,
    ) -> None:
        self.admin_port = admin_port
        self._admin = f"{admin_host}:{admin_port}"
        self._token = admin_token
        self._said = output.with_suffix(".stdout")
        self._logged = output.with_suffix(".stderr")
        self._events: list[dict[str, Any]] = []
        self._read = 0
        with self._said.open("wb") as said, self._logged.open("wb") as logged:
            line = [*command, *arguments]
            self._process = start(line, COMMAND if forked else (), environment(variables), stdout=said, stderr=logged)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """Its standard output so far."""
        return self._said.read_text()

    @property
    def logged(self) -> str:
        """Its standard error so far: the log."""
        return self._logged.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log's lines, which must all be JSON objects.

        A line that is being written is left out, and so is the last word of a command that fails.
        """
        with self._logged.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                if not line.startswith(b"cdc-sync: "):
                    self._events.append(json.loads(line))
        return list(self._events)

    def events_named(self, text: str) -> list[dict[str, Any]]:
        """The log's lines whose event contains a text."""
        return [event for event in self.events if text in event["event"]]

    def wait_until(self, condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
        """Wait for a condition as long as it runs; fail with the end of its log."""
        began = time.monotonic()
        while not condition():
            waited = time.monotonic() - began
            assert self.is_running, f"it has ended with exit code {self._process.returncode}; its log:\n{self.tail}"
            assert waited < within, f"still waiting after {within:.0f} s: {what}; its log:\n{self.tail}"
            time.sleep(min(max(_SHORTEST_PAUSE, _SHARE * waited), _LONGEST_PAUSE))

    def wait_for_event(self, text: str, number: int = 1, within: float = PATIENCE) -> dict[str, Any]:
        """Wait until so many lines of the log contain a text in their event; returns the last of them."""
        self.wait_until(lambda: len(self.events_named(text)) >= number, f"a line {text!r} in the log", within)
        return self.events_named(text)[number - 1]

    def wait_until_ready(self, within: float = PATIENCE) -> None:
        """Wait until `/readyz` says so, and that it leads."""
        self.wait_until(self.leads, "readiness", within)

    def wait_until_standby(self) -> str:
        """Wait until it is ready, and waits for the lead, or for a watch; returns what `/readyz` says."""
        return self._wait_for_readiness(HTTPStatus.OK, "standby")

    def wait_until_ended_or_standby(self) -> None:
        """Wait until it has ended, or waits for its turn."""
        wait_until(lambda: not self.is_running or self.is_standby(), "its end, or that it stands by")

    def is_standby(self) -> bool:
        """Whether it is ready, and another one leads."""
        status, said = self.readiness()
        return status == HTTPStatus.OK and said.partition("\n")[0] == "standby"

    def leads(self) -> bool:
        """Whether it is ready, and leads."""
        return self.readiness() == (HTTPStatus.OK, "ready\n")

    def wait_until_not_ready(self, reason: str) -> str:
        """Wait until `/readyz` gives a reason that contains a text; returns all reasons."""
        return self._wait_for_readiness(HTTPStatus.SERVICE_UNAVAILABLE, reason)

    def _wait_for_readiness(self, status: HTTPStatus, text: str) -> str:
        found = (0, "")

        def holds() -> bool:
            nonlocal found
            found = self.readiness()
            return found[0] == status and text in found[1]

        self.wait_until(holds, f"{status.value} with {text!r} in what /readyz says")
        return found[1]

    def wait_for_report(self, condition: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
        """Wait until `GET /api/status` satisfies a condition; returns that report."""
        report: dict[str, Any] = {}

        def holds() -> object:
            nonlocal report
            report = self.report()
            return condition(report)

        self.wait_until(holds, what)
        return report

    def readiness(self) -> tuple[int, str]:
        """Status and text of `GET /readyz`; status 0 if nobody answers."""
        return self.get("/readyz")

    def report(self) -> dict[str, Any]:
        status, text = self.get("/api/status")
        assert status == 200, text
        report: dict[str, Any] = json.loads(text)
        return report

    def get(self, path: str, token: str | None = None, form: bytes | None = None) -> tuple[int, str]:
        """Status and text of a request to the admin server, by default with its token; of a form if one is given."""
        headers = {"Authorization": f"Bearer {token or self._token}"}
        return _answer(urllib.request.Request(f"http://{self._admin}{path}", form, headers))

    @property
    def date(self) -> datetime:
        """What its clock says, by a reply's date."""
        with urllib.request.urlopen(f"http://{self._admin}/healthz", timeout=PATIENCE) as reply:
            return parsedate_to_datetime(reply.headers["Date"])

    def post(self, path: str, **form: str) -> tuple[int, str]:
        """Status and text of a form's request to the admin server, with its token."""
        return self.get(path, form=urlencode(form).encode())

    def reload(self) -> dict[str, Any]:
        """Have it read its configuration, and return what it says once that is in use."""
        before = len(self.events_named(RELOADED))
        self.send_signal(signal.SIGHUP)
        return self.wait_for_event(RELOADED, before + 1)

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def suspend(self) -> None:
        """Stop it where it is (SIGSTOP), until SIGCONT."""
        self.send_signal(signal.SIGSTOP)
        self.wait_until(lambda: psutil.Process(self.pid).status() == psutil.STATUS_STOPPED, "it to stop")

    def kill(self) -> None:
        """End it by kill -9; it is gone when this returns."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def wait(self, within: float = PATIENCE) -> int:
        """Wait for its end; returns the exit code."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended within {within:.0f} s; the end of its log:\n{self.tail}") from None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it as an operator does; returns the exit code."""
        self.send_signal(number)
        return self.wait()

    @property
    def tail(self) -> str:
        return "\n".join(self.logged.splitlines()[-30:])


def _answer(request: urllib.request.Request) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - ours, on loopback
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()
    except OSError as error:
        return 0, str(error)
