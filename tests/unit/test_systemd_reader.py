"""What systemd is told, over a real datagram socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc_sync.core.observations import DaemonStarted, DaemonStopped, DaemonStopping
from cdc_sync.daemon.systemd import SystemdReader

STARTED = DaemonStarted("1.0", ("applications", "candidates"), dry_run=False)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_systemd_hears_of_the_start_and_of_the_end(manager: socket.socket) -> None:
    reader = SystemdReader({"NOTIFY_SOCKET": str(manager.getsockname())})

    reader.read(STARTED)
    reader.read(DaemonStopped())
    reader.read(DaemonStopping("SIGTERM", under_way=0))

    assert manager.recv(200) == b"READY=1\nSTATUS=Watching applications, candidates"
    assert manager.recv(200) == b"STOPPING=1\nSTATUS=Stopping on SIGTERM"


def test_an_address_in_the_abstract_namespace() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0cdc-sync-test-notify")
        listening.settimeout(5)

        SystemdReader({"NOTIFY_SOCKET": "@cdc-sync-test-notify"}).read(STARTED)

        assert listening.recv(200).startswith(b"READY=1")


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nobody/listens/here"}])
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    SystemdReader(environ).read(STARTED)
