"""Resident memory: what a process has of it, and the most that it had for a while."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.figures import Figure, at_most, beside
from bench.options import Options
from bench.site import PATIENCE, Site, bare, go

_EVERY = 0.02
_MEGABYTE = 2**20


class Peak:
    """The most resident memory of a process, in megabytes, during the `with` of `peak`."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.megabytes = 0.0

    def look(self) -> None:
        self.megabytes = max(self.megabytes, self._process.memory_info().rss / _MEGABYTE)


@contextmanager
def peak(pid: int) -> Iterator[Peak]:
    found, over = Peak(pid), threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY):
            found.look()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        over.set()
        watching.join()


def idle(site: Site) -> Figure:
    """The idle daemon, beside a bare loop that listens."""
    site.rest()
    with bare("listen", site.dsn, site.sink.url) as loop:
        theirs, ours = Peak(loop.pid), Peak(site.running.pid)
        theirs.look()
        ours.look()
    return beside("resident memory, idle", "MB", [(ours.megabytes, theirs.megabytes)], at_most(78, 68))


def draining(site: Site, options: Options) -> Figure:
    """The peak while many changes are sent, beside the bare client with as many."""
    site.rest()
    site.sink.reset()
    with peak(site.running.pid) as ours:
        site.update_first("applications", options.bulk)
        site.sink.wait(options.bulk, PATIENCE)
    site.sink.reset()
    with bare("post", site.sink.url, str(options.bulk)) as client, peak(client.pid) as theirs:
        go(client)
        site.sink.wait(options.bulk, PATIENCE)
        theirs.look()
    measure = f"resident memory, draining {options.bulk:,}"
    return beside(measure, "MB", [(ours.megabytes, theirs.megabytes)], at_most(95, 85))


def with_many(site: Site, options: Options) -> Figure:
    """The daemon's peak: it adopts and sweeps a large table, and sends changes of it."""
    site.rest()
    site.sink.reset()
    site.update_first("applications", options.bulk)
    site.sink.wait(options.bulk, PATIENCE)
    (most,) = (
        int(line.split()[1]) / 1024
        for line in Path(f"/proc/{site.running.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    )
    measure = f"resident memory, {site.rows:,} applications known, swept and changed"
    return Figure(measure, "MB", most, budget=at_most(88, 80))
