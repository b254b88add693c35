"""A daemon of an earlier release and one of this version on one store: never both at work."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from old_stores.programs import check_out, run_old
from support.daemon_process import DaemonProcess, free_port
from support.hellowork_server import HelloWork
from support.installation import TOKEN, Installation, an_installation
from support.numbered_work import NumberedWork, older_after_newer, overlaps, sender_of
from support.postgres import Cluster, fresh_database
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(240)

RELEASE = "465c8d8d"
"""0.2.1, which has the schema of 0.2.0."""

TAKEN_OVER = 30.0
"""Seconds: a lease of either version with `hellowork.timeout` of one, and a start on a busy machine."""

APPLICATIONS = 8


class Mixed:
    """An installation made by an earlier release; made by the fixture `mixed`."""

    def __init__(self, installation: Installation, code: Mapping[str, str]) -> None:
        self.work = NumberedWork(installation, APPLICATIONS)
        self.new = installation
        self.old = installation.another("old")
        self.old.configure(state={"path": str(installation.store)})
        self.old.variables = {**installation.variables, **code, "X_FROM": "old"}
        self.code = code
        self.hellowork = installation.hellowork

    @contextmanager
    def old_daemon(self) -> Iterator[DaemonProcess]:
        command = ["--config", str(self.old.config), "run"]
        output = self.old.folder / f"run-{free_port()}"
        program = (sys.executable, "-m", "cdc_sync")
        process = DaemonProcess(command, self.old.variables, output, self.old.admin_port, TOKEN, command=program)
        try:
            yield process
        finally:
            process.kill()

    def run_old(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_old(self.old.variables, self.old.config, *arguments)

    def calls_by(self, daemon: str) -> int:
        return len([call for call in self.hellowork.calls if sender_of(call) == daemon])

    def wait_for_calls_by(self, name: str, more: int = 5, within: float = TAKEN_OVER) -> None:
        before = self.calls_by(name)
        wait_until(lambda: self.calls_by(name) >= before + more, f"calls by the {name} daemon", within)

    def wait_until_known(self) -> None:
        wait_until(lambda: self.work.is_known_to(self.hellowork), "every change at HelloWork")

    @contextmanager
    def new_daemon(self) -> Iterator[DaemonProcess]:
        """This version's daemon, capturing: it is not ready until the triggers are this version's, too."""
        with self.new.daemon(ready=False) as new:
            new.wait_for_event("watching")
            yield new

    @contextmanager
    def new_daemon_that_calls(self) -> Iterator[DaemonProcess]:
        """Start this version's daemon, and again when it has ended, as a service manager does."""
        before, began = self.calls_by("new"), time.monotonic()
        while time.monotonic() < began + TAKEN_OVER:
            with self.new.daemon(ready=False) as new:
                wait_until(lambda: not new.is_running or self.calls_by("new") > before, "its end, or calls")
                if new.is_running:
                    yield new
                    return
        raise AssertionError(f"it has not worked within {TAKEN_OVER:.0f} s")

    def check(self) -> None:
        """None of them called while the other one was at work."""
        calls = self.hellowork.calls
        turns = [sender_of(call) for call in calls]
        assert turns == sorted(turns, key=["old", "new"].index)
        assert older_after_newer(calls) == []
        assert len(overlaps(calls)) <= 1, overlaps(calls)


@pytest.fixture
def code(tmp_path: Path) -> Mapping[str, str]:
    """The environment for the program of the release."""
    try:
        return check_out(RELEASE, tmp_path / "code")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no repository here that has this version")


@pytest.fixture
def fresh(tmp_path: Path, database: str, hellowork: HelloWork) -> Iterator[Installation]:
    """Nothing is installed in the ATS's database."""
    folder = tmp_path / "installation"
    folder.mkdir()
    with an_installation(folder, database, "notify", hellowork) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def mixed(
    request: pytest.FixtureRequest, code: Mapping[str, str], fresh: Installation, cluster: Cluster
) -> Iterator[Mixed]:
    with fresh_database(cluster) as state:
        fresh.variables |= {"X_FROM": "new", "STATE_DSN": state}
        fresh.configure(hellowork={"headers": {"X-From": "${X_FROM}"}, "timeout": "1s"})
        if request.param == "postgres":
            fresh.configure(state={"backend": "postgres", "dsn": "${STATE_DSN}"})
        both = Mixed(fresh, code)
        # The triggers of that release go on working.
        fresh.ats.execute(both.run_old("sql", "install").stdout.encode())
        fresh.ats.execute(both.run_old("sql", "grants", "--role", fresh.role).stdout.encode())
        yield both


def test_this_version_calls_only_when_the_older_daemon_has_ended(mixed: Mixed) -> None:
    with mixed.old_daemon() as old, mixed.work.going_on():
        old.wait_until_ready()
        with mixed.new.daemon(ready=False) as new:
            wait_until(lambda: f"process {old.pid}" in new.logged, "this version to name the older daemon")
            mixed.wait_for_calls_by("old", 20)
            assert mixed.calls_by("new") == 0
        old.kill()
        with mixed.new_daemon_that_calls():
            mixed.wait_for_calls_by("new", 20)
    with mixed.new_daemon():
        mixed.wait_until_known()
    mixed.check()
