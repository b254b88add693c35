"""Signals while the program is still being imported, which takes most of a second."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.daemon_process import PATIENCE, DaemonProcess
from support.installation import TOKEN, Installation

TAKEN_OVER = "the configuration was read again and is in use"
IMPORTED = 300
"""Imports since the first one of a library of ours: in the midst of them."""


@pytest.fixture
def ats(notify: Installation) -> Installation:
    """An installation whose programs write a line for each import."""
    notify.variables = {**notify.variables, "PYTHONPROFILEIMPORTTIME": "1"}
    return notify


def imports(log: str) -> int:
    """How many imports a log has since the first one of a library of ours."""
    _, found, rest = log.partition(" typer.colors\n")
    return rest.count("import time:") if found else -1


@contextmanager
def starting(ats: Installation) -> Iterator[DaemonProcess]:
    """A daemon that has come so far."""
    line = ["--config", str(ats.config), "run"]
    daemon = DaemonProcess(line, ats.variables, ats.folder / "early", ats.admin_port, TOKEN)
    try:
        deadline = time.monotonic() + PATIENCE
        while imports(daemon.logged) < IMPORTED:
            assert daemon.is_running
            assert time.monotonic() < deadline
            time.sleep(0.001)
        yield daemon
    finally:
        daemon.kill()


def test_a_reload_during_the_start_happens_after_it(ats: Installation) -> None:
    with starting(ats) as daemon:
        daemon.send_signal(signal.SIGHUP)

        daemon.wait_until_ready()
        daemon.wait_until(lambda: TAKEN_OVER in daemon.logged, "the reload")
        assert daemon.logged.count(TAKEN_OVER) == 1
        assert daemon.stop() == 0


def test_an_end_during_the_start_is_an_orderly_one(ats: Installation) -> None:
    with starting(ats) as daemon:
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.logged
