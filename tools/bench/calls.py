"""From a commit to the calls: one at a time, many at once, to a quick endpoint and to a slow one."""

import time
from statistics import quantiles

from bench.agreed import CONCURRENCY, id_of
from bench.figures import Figure, beside, ratio_at_least, ratio_at_most
from bench.options import Options
from bench.site import PATIENCE, Site, bare, cpu_of, go


def latency(site: Site, options: Options, has_budget: bool) -> list[Figure]:  # noqa: FBT001 - see Row
    """Commit to call, while the ATS changes a row now and then; beside loops with and without a flush."""
    ours: list[list[float]] = []
    careless: list[list[float]] = []
    careful: list[list[float]] = []
    for _ in range(options.rounds):
        site.rest()
        ours.append(_one_by_one(site, options, "applications"))
        with bare("listen", site.dsn, site.sink.url):
            careless.append(_one_by_one(site, options, "notifying"))
        with bare("listen", site.dsn, site.sink.url, str(site.folder / "kept")):
            careful.append(_one_by_one(site, options, "notifying"))
    measure = f"commit to call, {1 / options.pause:.0f} changes/s, {site.rows:,} applications"
    bounds = {"p50": (_p50, ratio_at_most(2, 1.6)), "p99": (_p99, ratio_at_most(2.5, 2))}
    return [
        beside(
            f"{measure}, {name}{beside_what}",
            "ms",
            [(percentile(mine), percentile(theirs)) for mine, theirs in zip(ours, loop, strict=True)],
            bound if has_budget and loop is careful else None,
        )
        for name, (percentile, bound) in bounds.items()
        for loop, beside_what in ((careless, ""), (careful, ", the bare loop with an fsync per call"))
    ]


def _one_by_one(site: Site, options: Options, table: str) -> list[float]:
    """The milliseconds from each commit to its call."""
    site.sink.reset()
    # Warm up.
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


def drain(site: Site, options: Options, has_budget: bool) -> list[Figure]:  # noqa: FBT001 - see Row
    """One UPDATE of many rows, until all have been sent; and its costs for the daemon."""
    rates: list[tuple[float, float]] = []
    cpu: list[tuple[float, float]] = []
    for _ in range(options.rounds):
        site.rest()
        used = site.cpu()
        ours = drained(site, options.bulk)
        used = site.cpu() - used
        theirs, used_by_bare = _posted(site, options.bulk)
        rates.append((ours, theirs))
        cpu.append((used * 1e6 / options.bulk, used_by_bare * 1e6 / options.bulk))
    bounds = (ratio_at_least(0.7, 0.85), ratio_at_most(1.6, 1.3)) if has_budget else (None, None)
    name = f"{site.rows:,} applications"
    return [
        beside(f"{options.bulk:,} rows by one UPDATE, {name}", "calls/s", rates, bounds[0]),
        beside(f"CPU time of the daemon for each of them, {name}", "µs", cpu, bounds[1]),
    ]


def slow_endpoint(site: Site, options: Options) -> list[Figure]:
    """As `drain`, to a slow endpoint, compared with the ceiling that its time sets."""
    ours, theirs = [], []
    for _ in range(options.rounds):
        site.rest()
        ours.append(drained(site, options.bulk, options.slow))
        theirs.append(_posted(site, options.bulk, options.slow)[0])
    name = f"the same, {options.slow * 1000:.0f} ms endpoint"
    beside_ceiling = [(rate, CONCURRENCY / options.slow) for rate in ours]
    return [
        beside(f"{name}: beside its ceiling", "calls/s", beside_ceiling, ratio_at_least(0.85, 0.95)),
        beside(f"{name}: beside the bare client", "calls/s", list(zip(ours, theirs, strict=True))),
    ]


def drained(site: Site, rows: int, delay: float = 0.0) -> float:
    """Calls per second, from the commit to the last one's arrival."""
    site.sink.reset(delay)
    committed = site.update_first("applications", rows)
    last = site.sink.wait(rows, PATIENCE)
    site.wait_until(lambda: not site.pending(), "the last answers to be written down")
    assert len(site.sink.calls()) == rows
    return rows * 1e9 / (last - committed)


def _posted(site: Site, calls: int, delay: float = 0.0) -> tuple[float, float]:
    """The bare client's calls per second and CPU seconds."""
    site.sink.reset(delay)
    with bare("post", site.sink.url, str(calls)) as client:
        used = cpu_of(client.pid)
        begun = go(client)
        last = site.sink.wait(calls, PATIENCE)
        used = cpu_of(client.pid) - used
    return calls * 1e9 / (last - begun), used
