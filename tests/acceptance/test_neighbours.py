"""Neighbours of the daemon's host who use up what it has."""

import resource
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import psycopg
import pytest
from support.connections import WORDS, neighbour
from support.daemon_process import DaemonProcess
from support.installation import Installation

NUMBER = 5_000
NOW = "2026-01-01T09:00:00.000Z"
AS_SYSTEMD = 1_024
"""The soft limit of open files that systemd gives by default."""


@contextmanager
def files(daemon: DaemonProcess, number: int) -> Iterator[None]:
    """Let the daemon have so many files open and no more, meanwhile."""
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)


def test_the_daemon_may_open_as_many_files_as_its_hard_limit_has(notify: Installation) -> None:
    with notify.daemon() as daemon:
        soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)

        assert soft == hard


@pytest.mark.parametrize("kind", WORDS)
def test_thousands_of_idle_connections_keep_nobody_out(notify: Installation, kind: str) -> None:
    started = time.monotonic()
    with notify.daemon() as daemon:
        with files(daemon, AS_SYSTEMD), neighbour(daemon.admin_port, NUMBER, kind):
            for number in range(5):
                notify.add(f"hw-{number}")
                daemon.wait_until(lambda id_=f"hw-{number}": notify.hellowork.told(id_), "the call", within=20)  # type: ignore[misc]
                daemon.wait_until(lambda: is_healthy(daemon), "health", within=40)
                assert psutil.Process(daemon.pid).num_fds() < AS_SYSTEMD / 2
        notify.settle(daemon)

        _, metrics = daemon.get("/metrics")
        displaced = [line for line in metrics.splitlines() if line.startswith("cdc_sync_admin_displaced_connections_t")]
        assert float(displaced[0].split()[1]) >= NUMBER - 1_000
        lines = len(daemon.events_named("the admin server's connections are used up"))
        assert 1 <= lines <= 2 + (time.monotonic() - started) / 60
        assert not [event for event in daemon.events if event["level"] == "error" or "library" in event]
        assert daemon.stop() == 0


def is_healthy(daemon: DaemonProcess) -> bool:
    """Whether `/healthz` says so in time: on a busy machine, each of the others costs milliseconds."""
    url = f"http://127.0.0.1:{daemon.admin_port}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=8) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_daemon_that_can_open_no_file_goes_on_with_those_that_it_has(notify: Installation) -> None:
    with notify.daemon(forked=False) as daemon:
        notify.settle(daemon)
        with files(daemon, psutil.Process(daemon.pid).num_fds()):
            # Long enough to look for the triggers several times (`drain_interval`).
            enough = time.monotonic() + 4
            daemon.wait_until(lambda: time.monotonic() > enough, "four seconds", within=20)
        notify.settle(daemon)

        assert daemon.events_named("The operating system refuses") == []
        assert daemon.events_named("connected")[1:] == []


def test_a_watch_that_can_open_no_file_fails_alone_and_goes_on_when_it_can(notify: Installation) -> None:
    with notify.daemon(forked=False) as daemon:
        process = psutil.Process(daemon.pid)
        notify.settle(daemon)
        with files(daemon, process.num_fds()):
            with psycopg.connect(notify.dsn, autocommit=True) as dba:
                dba.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (notify.role,))
            refused = time.monotonic() + 5
            notify.add("hw-meanwhile")
            daemon.wait_until(lambda: time.monotonic() > refused, "five seconds without a file to open", within=20)
        notify.settle(daemon)

        assert notify.hellowork.told("hw-meanwhile")
        assert daemon.stop() == 0
