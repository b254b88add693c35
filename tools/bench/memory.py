"""Resident memory: what a process has of it, and the most that it had for a while."""

from pathlib import Path

from bench.figures import Figure, beside
from bench.site import PATIENCE, Options, Site, bare


def idle(site: Site, _: Options) -> list[Figure]:
    """The idle daemon, beside a bare loop that listens."""
    site.rest()
    with bare("listen", site.dsn, site.sink.url, str(site.folder / "kept")) as loop:
        found = _megabytes(site.running.pid, "VmRSS"), _megabytes(loop.pid, "VmRSS")
    return [beside("resident memory, idle", "MB", [found], "value ≤ 78")]


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
