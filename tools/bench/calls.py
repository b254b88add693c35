"""From a commit to the calls: one at a time, many at once, to a quick endpoint and to a slow one."""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

import psutil

from bench.agreed import CONCURRENCY, id_of
from bench.figures import Figure, beside
from bench.site import PATIENCE, Options, Rig, Site, bare, cpu_of, go, new_store, site, store_server, used_below


def p99(values: list[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]


def latency(site: Site, options: Options) -> list[Figure]:
    """Commit to call, while the ATS changes a row now and then."""
    ours: list[list[float]] = []
    bares: list[list[float]] = []
    for _ in range(options.rounds):
        site.rest()
        ours.append(_one_by_one(site, options, "applications"))
        with bare("listen", site.dsn, site.sink.url, str(site.folder / "kept")):
            bares.append(_one_by_one(site, options, "notifying"))
    measure = f"commit to call, {1 / options.pause:.0f} changes/s, {site.rows:,} applications"

    def line(name: str, of: Callable[[list[float]], float], least: float) -> Figure:
        rounds = [(of(mine), of(theirs)) for mine, theirs in zip(ours, bares, strict=True)]
        return beside(f"{measure}, {name}", "ms", rounds, f"ratio ≤ {least}")

    return [line("p50", median, 2), line("p99", p99, 2.5)]


def _one_by_one(site: Site, options: Options, table: str) -> list[float]:
    """The milliseconds from each commit to its call."""
    site.sink.reset()
    # Warm up.
    for row in range(1, 6):
        site.update_one(table, row)
        time.sleep(options.pause)
    committed: dict[str, int] = {}
    begun = time.monotonic()
    for number in range(options.single):
        time.sleep(max(begun + number * options.pause - time.monotonic(), 0))
        committed[id_of(table, number + 6)] = site.update_one(table, number + 6)
    site.sink.wait(options.single + 5, PATIENCE)
    arrived = dict(site.sink.calls())
    assert arrived.keys() == {id_of(table, row) for row in range(1, options.single + 6)}
    return [(arrived[application_id] - at) / 1e6 for application_id, at in committed.items()]


def drain(site: Site, options: Options) -> list[Figure]:
    """One UPDATE of many rows, until all have been sent; and its costs for the daemon."""
    rates: list[tuple[float, float]] = []
    cpu: list[tuple[float, float]] = []
    for _ in range(options.rounds):
        site.rest()
        used = cpu_of(site.running.pid)
        ours = _drained(site, options.bulk)
        used = cpu_of(site.running.pid) - used
        theirs, used_by_bare = _posted(site, options.bulk)
        rates.append((ours, theirs))
        cpu.append((used * 1e6 / options.bulk, used_by_bare * 1e6 / options.bulk))
    name = f"{site.rows:,} applications"
    return [
        beside(f"{options.bulk:,} rows by one UPDATE, {name}", "calls/s", rates, "ratio ≥ 0.7"),
        beside(f"CPU time of the daemon for each of them, {name}", "µs", cpu, "ratio ≤ 1.6"),
    ]


def slow_endpoint(site: Site, options: Options) -> list[Figure]:
    """As `drain`, to a slow endpoint, compared with the ceiling that its time sets."""
    rounds: list[tuple[float, float]] = []
    for _ in range(options.rounds):
        site.rest()
        rounds.append((_drained(site, options.bulk, options.slow), CONCURRENCY / options.slow))
    return [beside(f"the same, {options.slow * 1000:.0f} ms endpoint: its ceiling", "calls/s", rounds, "ratio ≥ 0.85")]


def _drained(site: Site, rows: int, delay: float = 0.0) -> float:
    """Calls per second, from the commit to the last one's arrival."""
    site.sink.reset(delay)
    committed = site.update_first("applications", rows)
    last = site.sink.wait(rows, PATIENCE)
    site.wait_until(lambda: not site.pending(), "the last answers to be written down")
    assert len(site.sink.calls()) == rows
    return rows * 1e9 / (last - committed)


def _posted(site: Site, calls: int) -> tuple[float, float]:
    """The bare client's calls per second and CPU seconds."""
    site.sink.reset()
    with bare("post", site.sink.url, str(calls)) as client:
        used = cpu_of(client.pid)
        begun = go(client)
        last = site.sink.wait(calls, PATIENCE)
        used = cpu_of(client.pid) - used
    return calls * 1e9 / (last - begun), used


def stores(rig: Rig, options: Options) -> list[Figure]:
    """A drain with a PostgreSQL store on a server of its own, beside one with SQLite; and its costs for PostgreSQL."""
    rounds: list[tuple[float, float]] = []
    cpu: list[float] = []
    with store_server(rig.binaries) as of_store, ExitStack() as stack:
        places = []
        for state in (new_store(of_store), None):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdc-sync-bench-")))
            places.append(stack.enter_context(site(rig, max(options.bulk, 10_000), folder, state=state)))
            places[-1].start()
            places[-1].wait_until_swept()
        for _ in range(options.rounds):
            rates = []
            for place in places:
                for each in places:
                    each.rest()
                used = used_below(psutil.Process(of_store.pid))
                rates.append((_drained(place, options.bulk), used_below(psutil.Process(of_store.pid)) - used))
            (ours, used), (theirs, _) = rates
            rounds.append((ours, theirs))
            cpu.append(used * 1e6 / options.bulk)
    measure = f"{options.bulk:,} rows by one UPDATE, PostgreSQL store"
    of_server = f"{measure}: CPU time of its server for each call"
    return [
        beside(f"{measure}: beside SQLite", "calls/s", rounds, "ratio ≥ 0.8"),
        Figure(of_server, "µs", median(cpu), budget="value ≤ 350"),
    ]
