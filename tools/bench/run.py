"""A run from its start to its figures."""

import compileall
import os
import platform
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psycopg

import cdc_sync
from bench import calls, memory, tables, tenants, triggers
from bench.figures import Figure
from bench.sink import sink
from bench.site import DURABLE, Options, Rig, Site, site
from cdc_sync.demo.postgres import Binaries, server


class Row(NamedTuple):
    """What is measured with a table of some `sizes` (places in `Options.sizes`), and that of its budget."""

    measure: Callable[[Site, Options], Iterable[Figure]]
    budget_at: int
    sizes: Sequence[int]


_SMALL, _MIDDLE, _LARGE = range(3)

ROWS: Mapping[str, Row] = {
    # First: it needs a daemon that has just begun.
    "walks": Row(tables.walks, _LARGE, (_SMALL, _MIDDLE, _LARGE)),
    "idle": Row(memory.idle, _SMALL, (_SMALL,)),
    "latency": Row(calls.latency, _MIDDLE, (_MIDDLE, _LARGE)),
    "drain": Row(calls.drain, _MIDDLE, (_SMALL, _MIDDLE, _LARGE)),
    "slow": Row(calls.slow_endpoint, _MIDDLE, (_MIDDLE,)),
    # The last of its size: it is about all that was done with it.
    "known": Row(memory.with_many, _LARGE, (_LARGE,)),
}
"""The rows with a table and an SQLite store, in order."""

OWN_ROWS: Mapping[str, Callable[[Rig, Options], Iterable[Figure]]] = {
    "store": calls.stores,
    "trigger": triggers.triggers,
    "tenants": tenants.tenants,
}
"""The rows with tables and servers of their own."""

ON_REQUEST = ("trigger", "tenants")
"""Those that a whole run leaves out: one needs valgrind, the other half an hour."""


def _measured(rig: Rig, options: Options, only: Collection[str], tell: Callable[[str], None]) -> Iterator[Figure]:
    for size, rows in enumerate(options.sizes):
        chosen = [name for name, row in ROWS.items() if (size == row.budget_at if only else size in row.sizes)]
        chosen = [name for name in chosen if name in (only or ROWS)]
        if not chosen:
            continue
        tell(f"a table of {rows:,} rows")
        with tempfile.TemporaryDirectory(prefix="cdc-sync-bench-") as folder, site(rig, rows, Path(folder)) as made:
            made.start()
            made.wait_until_swept()
            for name in chosen:
                tell(name)
                for figure in ROWS[name].measure(made, options):
                    yield figure if size == ROWS[name].budget_at else replace(figure, budget="")
    for name, measure in OWN_ROWS.items():
        if name in (only or OWN_ROWS.keys() - {*ON_REQUEST}):
            tell(name)
            yield from measure(rig, options)


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
        ValueError: a program is missing that is measured with.
        PostgresError: the server could not be started.
    """
    compileall.compile_dir(Path(cdc_sync.__file__).parent, quiet=1)  # as what is installed is
    load_before = os.getloadavg()[0]
    with server(binaries, settings=DURABLE) as postgres, sink() as takes_calls:
        figures: list[Figure] = []
        for figure in _measured(Rig(postgres, binaries, takes_calls), options, only, tell):
            tell("  " + ", ".join(filter(None, figure.line())))  # an interruption keeps what was measured
            figures.append(figure)
        facts = {
            "date": datetime.now(UTC).date().isoformat(),
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "server": psycopg.connect(postgres.dsn).info.parameter_status("server_version"),
            "load average before": round(load_before, 1),
            "rounds": options.rounds,
        }
    return facts, figures
