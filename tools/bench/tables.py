"""Walks over a whole table, beside a bare COPY of the same columns."""

import time
from statistics import median

import psycopg

from bench.figures import Figure, beside
from bench.site import COPY, PATIENCE, Options, Site

_COPIES = 3


def walks(site: Site, options: Options) -> list[Figure]:
    """The baseline: the present start, and more on empty stores; and the sweep of unchanged rows after it."""
    baselines, sweeps = [], []
    for number in range(options.rounds):
        if number:
            site.start_anew()
        done = site.running.wait_for_event("applications known", within=PATIENCE)
        assert done["event"].startswith(f"{site.rows} applications known, 0 calls")
        site.wait_until_swept()
        copied = _copied(site)
        baselines.append((done["seconds"] or 0.1, copied))
        sweeps.append((site.sweep_seconds(), copied))
    return [
        beside(f"baseline of {site.rows:,} rows", "s", baselines, "ratio ≤ 30"),
        beside(f"sweep of {site.rows:,} unchanged rows", "s", sweeps, "ratio ≤ 4"),
    ]


def _copied(site: Site) -> float:
    """Seconds of a bare COPY, the median of some."""
    took: list[float] = []
    with psycopg.connect(site.dsn) as reader:
        for _ in range(_COPIES):
            begun = time.monotonic()
            with reader.cursor().copy(COPY) as copy:
                for _block in copy:
                    pass
            took.append(time.monotonic() - begun)
    return median(took)
