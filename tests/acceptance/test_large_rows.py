"""Rows with a large text in them: whatever is read of them at once is bounded in bytes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest
from support.daemon_process import DaemonProcess
from support.installation import JOB, Installation

NUMBER = 1_000
"""At 60 kB each, which HelloWork takes still."""

GROWTH = 120 * 2**20
IDLE = 100 * 2**20
"""Bytes that a daemon takes at most while it does nothing."""


class Watched:
    """What a process takes of memory, looked at all the time.

    Attributes:
        most: the most that it took.
    """

    def __init__(self, daemon: DaemonProcess) -> None:
        self._process = psutil.Process(daemon.pid)
        self.most = 0

    def look(self) -> None:
        self.most = max(self.most, self._process.memory_info().rss)


@contextmanager
def watched(daemon: DaemonProcess) -> Iterator[Watched]:
    """Look until the block ends."""
    memory, over = Watched(daemon), threading.Event()

    def look() -> None:
        # The process may end before the block does.
        with suppress(psutil.NoSuchProcess):
            while not over.wait(0.005):
                memory.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(300)
def test_memory_is_bounded_whatever_rows_bring(installation: Installation) -> None:
    installation.configure_watch(fuse={"max_changes": 100_000}, capture={"sweep": "5s"})
    insert = (
        "INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at, source)"
        " SELECT 'hw-' || i, 'NEW', %s, now(), clock_timestamp(), repeat('x', 60000) FROM generate_series(1, %s) AS i"
    )
    installation.ats.execute(insert, (JOB, NUMBER))
    with installation.daemon(ready=False, forked=False) as daemon, watched(daemon) as memory:
        daemon.wait_until_ready(100)
        installation.sweeps(daemon)
        installation.ats.execute("UPDATE public.applications SET status = 'SEEN', updated_at = clock_timestamp()")
        daemon.wait_until(lambda: len(installation.hellowork.calls) >= NUMBER, "all calls", within=150)
        installation.quiet(daemon)
        assert daemon.stop() == 0
    assert memory.most < IDLE + GROWTH, f"{memory.most / 2**20:.0f} MB"
