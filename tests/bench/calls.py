"""From a commit to the calls: one at a time, many at once, to a quick endpoint and to a slow one."""

import time
from statistics import quantiles

from bench.agreed import CONCURRENCY, id_of
from bench.figures import Figure, Target, at_least, beside, most
from bench.options import Options
from bench.site import PATIENCE, Site, bare, go

SLOW = 0.02
"""Seconds after which the slow endpoint answers."""


def latency(site: Site, options: Options, *, targets: bool) -> list[Figure]:
    """Commit to call, while the ATS changes a row now and then."""
    rounds: list[tuple[list[float], list[float]]] = []
    with bare("listen", site.dsn, site.sink.url):
        for _ in range(options.rounds):
            site.rest()
            rounds.append((_one_by_one(site, options, "applications"), _one_by_one(site, options, "notifying")))
    rate = f"{1 / options.pause:.0f} changes/s"
    return [
        beside(
            f"commit to call, {rate}, {site.rows:,} applications, {name}",
            "ms",
            [(percentile(ours), percentile(theirs)) for ours, theirs in rounds],
            most(bound) if targets else None,
        )
        for name, bound, percentile in (("p50", 2, _p50), ("p99", 3, _p99))
    ]


def _one_by_one(site: Site, options: Options, table: str) -> list[float]:
    """The milliseconds from each commit to its call."""
    site.sink.reset()
    # What is cold at first is nobody's latency.
    warm_up = range(1, 6)
    rows = range(6, 6 + options.single)
    for row in warm_up:
        site.update_one(table, row)
        time.sleep(options.pause)
    committed: dict[str, int] = {}
    begun = time.monotonic()
    for number, row in enumerate(rows):
        time.sleep(max(begun + number * options.pause - time.monotonic(), 0))
        committed[id_of(table, row)] = site.update_one(table, row)
    site.sink.wait(len(warm_up) + len(rows), PATIENCE)
    arrived = {call.application_id: call.at for call in site.sink.calls()}
    assert arrived.keys() == {id_of(table, row) for row in (*warm_up, *rows)}
    return [(arrived[application_id] - at) / 1e6 for application_id, at in committed.items()]


def _p50(values: list[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[49]


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]


def drain(site: Site, options: Options, *, target: Target | None) -> list[Figure]:
    """One UPDATE of many rows, until all of them have been told; and what one of them costs the daemon."""
    rounds: list[tuple[float, float]] = []
    cpu: list[float] = []
    for _ in range(options.rounds):
        site.rest()
        used = site.cpu()
        ours = _drained(site, options.bulk)
        cpu.append((site.cpu() - used) * 1e6 / options.bulk)
        rounds.append((ours, _posted(site, options.bulk)))
    name = f"{site.rows:,} applications"
    return [
        beside(f"{options.bulk:,} rows by one UPDATE, {name}", "calls/s", rounds, target),
        Figure(f"CPU time of the daemon for each of them, {name}", "µs", sorted(cpu)[len(cpu) // 2]),
    ]


def slow_endpoint(site: Site, options: Options) -> list[Figure]:
    """As `drain`, to an endpoint that takes its time. What is compared is the ceiling that this time sets."""
    ceiling = CONCURRENCY / SLOW
    ours, theirs = [], []
    for _ in range(max(options.rounds - 1, 1)):
        site.rest()
        ours.append(_drained(site, options.bulk, SLOW))
        theirs.append(_posted(site, options.bulk, SLOW))
    name = f"the same, {SLOW * 1000:.0f} ms endpoint"
    return [
        beside(f"{name}: beside its ceiling", "calls/s", [(rate, ceiling) for rate in ours], at_least(0.92)),
        beside(f"{name}: beside the bare client", "calls/s", list(zip(ours, theirs, strict=True))),
    ]


def _drained(site: Site, rows: int, delay: float = 0.0) -> float:
    """Calls per second, from the commit to the last one's arrival."""
    site.sink.reset(delay)
    committed = site.update_first("applications", rows)
    last = site.sink.wait(rows, PATIENCE)
    site.wait_until(lambda: not site.pending(), "the last answers to be written down")
    assert len(site.sink.calls()) == rows
    return rows * 1e9 / (last - committed)


def _posted(site: Site, calls: int, delay: float = 0.0) -> float:
    """Calls per second of the bare client."""
    site.sink.reset(delay)
    with bare("post", site.sink.url, str(calls)) as client:
        begun = go(client)
        last = site.sink.wait(calls, PATIENCE)
    return calls * 1e9 / (last - begun)
