"""Walks over a whole table, beside a bare COPY of the same columns; and polls that find nothing."""

import asyncio
import time
from statistics import median

import psycopg
from psycopg import sql

from bench.figures import Budget, Figure, beside
from bench.options import Options
from bench.site import COPY, PATIENCE, Site
from cdc_sync.ats.beginning import connect, open_capture
from cdc_sync.ats.parts import WatchParts
from cdc_sync.ats.rows_elsewhere import OtherWatches
from cdc_sync.config import load
from cdc_sync.config.models import watch_rules
from cdc_sync.daemon.watching import make_database
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver

_COPIES = 3
_PROBE = "SELECT id FROM public.applications WHERE updated_at >= now() - interval '5 minutes' ORDER BY updated_at, id"


def copied(site: Site) -> float:
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


def baseline(site: Site, rounds: int, budget: Budget | None) -> Figure:
    """The daemon's first start on the table: the present one, and more on empty stores."""
    found: list[tuple[float, float]] = []
    for number in range(rounds):
        if number:
            site.start_anew()
        done = site.running.wait_for_event("applications known", within=PATIENCE)
        assert done["event"].startswith(f"{site.rows} applications known, 0 calls")
        site.wait_until_swept()
        found.append((done["seconds"] or 0.1, copied(site)))
    return beside(f"baseline of {site.rows:,} rows", "s", found, budget)


def sweeps(site: Site, bare: float, budget: Budget | None) -> Figure:
    """The sweep of unchanged rows after the baseline."""
    return beside(f"sweep of {site.rows:,} unchanged rows", "s", [(site.sweep_seconds(), bare)], budget)


def empty_polls(site: Site, options: Options, budget: Budget | None) -> Figure:
    """Polls of a table without changes within `lookback`, by the daemon's code, in this process."""
    rounds = [(ours, _probed(site, options)) for ours in asyncio.run(_polled(site, options))]
    return beside(f"poll that finds nothing, {site.rows:,} rows", "ms", rounds, budget)


async def _polled(site: Site, options: Options) -> list[float]:
    """Milliseconds of a poll, in medians."""
    document = site.config.read_text().replace("mode: notify", "mode: poll")
    config_file = site.folder / "poll.yaml"
    config_file.write_text(document)
    config = load(config_file, {})
    store = Store(SqliteDriver(site.folder / "poll.db"))
    database = make_database(config, "", store)
    parts = WatchParts(
        name="applications",
        watch=config.watches["applications"],
        rules=watch_rules(config, "applications"),
        database=database,
        others=OtherWatches(),
        observe=lambda _: None,
        clock=store.driver.clock,
    )
    medians: list[float] = []
    async with connect(parts) as intake:
        poll = await open_capture(intake)
        await poll.begin()
        for _ in range(options.rounds):
            took: list[float] = []
            for _ in range(options.polls):
                begun = time.monotonic()
                await poll.catch_up()
                took.append((time.monotonic() - begun) * 1000)
            medians.append(median(took))
    await store.driver.close()
    return medians


def _probed(site: Site, options: Options) -> float:
    """Milliseconds of one index probe: a median."""
    took: list[float] = []
    with psycopg.connect(site.dsn, autocommit=True) as reader:
        for _ in range(options.polls):
            begun = time.monotonic()
            assert not reader.execute(sql.SQL(_PROBE)).fetchall()
            took.append((time.monotonic() - begun) * 1000)
    return median(took)
