"""What systemd is told, over a real datagram socket."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc_sync.core import events
from cdc_sync.daemon.systemd import SystemdNotifier

STARTED = events.LeadTaken("2026-01-01T00:00:00Z", ("applications", "candidates"))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


@pytest.fixture
def emit(manager: socket.socket) -> events.Emit:
    return events.Dispatch(SystemdNotifier({"NOTIFY_SOCKET": str(manager.getsockname())}).handlers).emit


def test_systemd_hears_of_the_start_and_of_the_end(manager: socket.socket, emit: events.Emit) -> None:
    emit(STARTED)
    emit(events.DaemonStopped())
    emit(events.DaemonStopping("SIGTERM", under_way=0))

    assert manager.recv(200) == b"READY=1\nSTATUS=Leading"
    assert manager.recv(200) == b"STOPPING=1\nSTATUS=Stopping on SIGTERM"


def test_a_daemon_that_stands_by_is_ready_and_says_who_leads(manager: socket.socket, emit: events.Emit) -> None:
    emit(events.StandsBy("process 7 on ats-1 leads"))
    emit(STARTED)
    emit(events.LeadLost("the store cannot be reached"))

    assert manager.recv(200) == b"READY=1\nSTATUS=Standing by: process 7 on ats-1 leads"
    assert manager.recv(200) == b"READY=1\nSTATUS=Leading"
    assert manager.recv(200) == b"STATUS=Leads no longer, and stands by"


@pytest.mark.timeout(30)
def test_a_manager_that_reads_nothing_stops_nothing(manager: socket.socket, emit: events.Emit) -> None:
    for _ in range(int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 3):
        emit(events.HeartBeat())

    assert manager.recv(200) == b"WATCHDOG=1"


def test_systemd_hears_of_a_reload_and_when_it_began(manager: socket.socket, emit: events.Emit) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    emit(STARTED)
    manager.recv(200)
    emit(events.ReloadStarted())
    emit(events.Reloaded(("others",)))
    emit(events.ReloadStarted())
    emit(events.ReloadRefused(("wrong",)))

    reloading, microseconds = manager.recv(200).decode().split("\n")
    assert reloading == "RELOADING=1"
    assert before <= int(microseconds.removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(1) // 1000
    assert manager.recv(200) == b"READY=1"
    assert manager.recv(200).startswith(b"RELOADING=1")
    assert manager.recv(200) == b"READY=1"


def test_a_beat_feeds_the_watchdog(manager: socket.socket, emit: events.Emit) -> None:
    emit(events.HeartBeat())

    assert manager.recv(900) == b"WATCHDOG=1"


def test_a_status_is_no_other_assignment_and_steers_no_terminal(manager: socket.socket, emit: events.Emit) -> None:
    emit(events.StandsBy("a\nMAINPID=1\x1b[2J\x9b\u202e\ud800"))

    ready, status = manager.recv(10_000).decode().split("\n")
    assert ready == "READY=1"
    assert status.endswith(r"a\nMAINPID=1\x1b[2J\x9b\u202e\ud800")


def test_an_address_in_the_abstract_namespace() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0cdc-sync-test-notify")
        listening.settimeout(5)

        events.Dispatch(SystemdNotifier({"NOTIFY_SOCKET": "@cdc-sync-test-notify"}).handlers).emit(STARTED)

        assert listening.recv(200).startswith(b"READY=1")
