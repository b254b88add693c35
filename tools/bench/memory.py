"""Resident memory: what a process has of it, and the most that it had for a while."""

from pathlib import Path

from bench.figures import Figure, beside
from bench.site import PATIENCE, Options, Site, bare, go


def idle(site: Site, _: Options) -> list[Figure]:
    """The idle daemon, beside a bare loop that listens."""
    site.rest()
    with bare("listen", site.dsn, site.sink.url) as loop:
        found = _megabytes(site.running.pid, "VmRSS"), _megabytes(loop.pid, "VmRSS")
    return [beside("resident memory, idle", "MB", [found], "value ≤ 78")]


def draining(site: Site, options: Options) -> list[Figure]:
    """The peak while many changes are sent, beside the bare client with as many."""
    site.rest()
    site.sink.reset()
    _forget_peak(site.running.pid)
    site.update_first("applications", options.bulk)
    site.sink.wait(options.bulk, PATIENCE)
    ours = _megabytes(site.running.pid, "VmHWM")
    site.sink.reset()
    with bare("post", site.sink.url, str(options.bulk)) as client:
        go(client)
        site.sink.wait(options.bulk, PATIENCE)
        theirs = _megabytes(client.pid, "VmHWM")
    return [beside(f"resident memory, draining {options.bulk:,}", "MB", [(ours, theirs)], "value ≤ 95")]


def with_many(site: Site, options: Options) -> list[Figure]:
    """The daemon's peak: it adopts and sweeps a large table, and sends changes of it."""
    site.rest()
    site.sink.reset()
    site.update_first("applications", options.bulk)
    site.sink.wait(options.bulk, PATIENCE)
    measure = f"resident memory, {site.rows:,} applications known, swept and changed"
    return [Figure(measure, "MB", _megabytes(site.running.pid, "VmHWM"), budget="value ≤ 88")]


def _megabytes(pid: int, name: str) -> float:
    """A line of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")
