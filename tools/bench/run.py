"""A run from its start to its figures."""

import compileall
import os
import platform
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cdc_sync
from bench import calls, crash, memory, stores, tenants, triggers, walks, writers
from bench.figures import Figure, at_most, ratio_at_most
from bench.options import Options
from bench.pgbench import find_pgbench
from bench.report import in_short
from bench.sink import sink
from bench.site import DURABLE, Rig, Site, facts_of, site
from cdc_sync.demo.postgres import Binaries, server


@dataclass(frozen=True, slots=True)
class Row:
    """A row: what is measured with one table.

    Attributes:
        sizes: those of `Options.sizes` in a whole run.
        budget_at: the size of the budget, measured if this row alone is asked for.
        measure: measures; its last argument is whether the budget is for this size.
        without_daemon: whether it must not run yet.
    """

    sizes: Sequence[int]
    budget_at: int
    measure: Callable[[Site, Options, bool], Iterable[Figure]]
    without_daemon: bool = False


_SMALL, _MIDDLE, _LARGE = range(3)


def _baseline(site: Site, options: Options, has_budget: bool) -> Iterator[Figure]:  # noqa: FBT001 - see Row
    yield walks.baseline(site, options.rounds if has_budget else 1, ratio_at_most(30, 15) if has_budget else None)


def _sweep(site: Site, _: Options, has_budget: bool) -> Iterator[Figure]:  # noqa: FBT001 - see Row
    yield walks.sweeps(site, walks.copied(site), ratio_at_most(4, 4) if has_budget else None)


def _poll(site: Site, options: Options, has_budget: bool) -> Iterator[Figure]:  # noqa: FBT001 - see Row
    yield walks.empty_polls(site, options, at_most(3) if has_budget else None)


ROWS: Mapping[str, Row] = {
    "poll": Row((_SMALL, _MIDDLE, _LARGE), _LARGE, _poll, without_daemon=True),
    "baseline": Row((_SMALL, _MIDDLE, _LARGE), _LARGE, _baseline),
    "sweep": Row((_SMALL, _MIDDLE, _LARGE), _LARGE, _sweep),
    "idle": Row((_SMALL,), _SMALL, lambda site, *_: [memory.idle(site)]),
    "latency": Row((_MIDDLE, _LARGE), _MIDDLE, calls.latency),
    "drain": Row((_SMALL, _MIDDLE, _LARGE), _MIDDLE, calls.drain),
    "draining": Row((_MIDDLE,), _MIDDLE, lambda site, options, _: [memory.draining(site, options)]),
    "slow": Row((_MIDDLE,), _MIDDLE, lambda site, options, _: calls.slow_endpoint(site, options)),
    "writers": Row((_MIDDLE,), _MIDDLE, lambda site, options, _: writers.writers(site, options)),
    "crash": Row((_MIDDLE,), _MIDDLE, lambda site, options, _: crash.crash(site, options)),
    # The last of its size: it is about all that was done with it.
    "known": Row((_LARGE,), _LARGE, lambda site, options, _: [memory.with_many(site, options)]),
}
"""The rows with a table and an SQLite store, in order."""

OWN_ROWS: Mapping[str, Callable[[Rig, Options], Iterable[Figure]]] = {
    "store": stores.beside_sqlite,
    "trigger": lambda rig, _: triggers.triggers(rig.binaries),
    "tenants": tenants.tenants,
}
"""The rows with tables and servers of their own."""

ON_REQUEST = ("trigger", "tenants")
"""Those that a whole run leaves out: one needs valgrind, the other half an hour."""


def _measured(rig: Rig, options: Options, only: Collection[str], tell: Callable[[str], None]) -> Iterator[Figure]:
    for size, rows in enumerate(options.sizes):
        chosen = [name for name, row in ROWS.items() if _is_wanted(name, row, size, only)]
        if chosen:
            tell(f"a table of {rows:,} rows")
            with (
                tempfile.TemporaryDirectory(prefix="cdc-sync-bench-") as folder,
                site(rig, rows, Path(folder)) as made,
            ):
                for name in chosen:
                    tell(name)
                    if made.daemon is None and not ROWS[name].without_daemon:
                        made.start()
                        made.wait_until_swept()
                    yield from ROWS[name].measure(made, options, size == ROWS[name].budget_at)
    for name, measure in OWN_ROWS.items():
        if name in (only or OWN_ROWS.keys() - {*ON_REQUEST}):
            tell(name)
            yield from measure(rig, options)


def _is_wanted(name: str, row: Row, size: int, only: Collection[str]) -> bool:
    return name in only and size == row.budget_at if only else size in row.sizes


def bench(
    binaries: Binaries, options: Options, tell: Callable[[str], None], only: Collection[str] = ()
) -> tuple[Mapping[str, object], list[Figure]]:
    """Measure; returns the conditions too.

    Args:
        binaries: the servers to measure with.
        options: how.
        tell: reports progress.
        only: names of rows, each at the size that its budget is about; all, at all their sizes, if there is none.

    Raises:
        PgbenchError: there is no pgbench.
        PostgresError: the server could not be started.
    """
    find_pgbench(binaries)  # at once, and not after minutes
    compileall.compile_dir(Path(cdc_sync.__file__).parent, quiet=1)  # as what is installed is
    load_before = os.getloadavg()[0]
    with server(binaries, settings=DURABLE) as postgres, sink() as takes_calls:
        figures: list[Figure] = []
        for figure in _measured(Rig(postgres, binaries, takes_calls), options, only, tell):
            tell(in_short(figure))  # an interruption keeps what was measured
            figures.append(figure)
        facts = {
            "date": datetime.now(UTC).date().isoformat(),
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            **facts_of(postgres.dsn),
            "load average before": round(load_before, 1),
            "rounds": options.rounds,
        }
    return facts, figures
