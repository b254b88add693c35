"""A run from its start to its figures."""

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from trigger_cost.pgbench import Pgbench, find_pgbench

from bench import calls, crash, memory, walks, writers
from bench.figures import Figure, at_least, most, no_more_than
from bench.options import Options
from bench.report import in_short
from bench.sink import Sink, sink
from bench.site import DURABLE, Site, facts_of, site
from cdc_sync.demo.binaries import Binaries
from cdc_sync.demo.postgres import Server, server


def bench(
    binaries: Binaries, options: Options, tell: Callable[[str], None]
) -> tuple[Mapping[str, object], list[Figure]]:
    """Measure everything, and tell under which conditions.

    Args:
        binaries: the server to measure with.
        options: how.
        tell: told what is done now.

    Raises:
        PgbenchError: there is no pgbench.
        PostgresFailedError: the server could not be started.
    """
    pgbench = find_pgbench(binaries)
    load_before = os.getloadavg()[0]
    with server(binaries, settings=DURABLE) as postgres, sink() as takes_calls:
        run = _Run(postgres, takes_calls, pgbench, options, tell)
        figures: list[Figure] = []
        for figure in chain(run.small(), run.middle(), run.large()):
            tell(in_short(figure))  # whoever interrupts it keeps what was measured
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


@dataclass(frozen=True, slots=True)
class _Run:
    postgres: Server
    takes_calls: Sink
    pgbench: Pgbench
    options: Options
    tell: Callable[[str], None]

    def small(self) -> Iterator[Figure]:
        """What is to be compared with the larger ones."""
        with self._site(self.options.sizes[0]) as small:
            yield walks.empty_polls(small, self.options, None)
            copied = walks.copied(small)
            small.start()
            yield walks.baseline(small, copied, None)
            yield walks.sweeps(small, copied, None)
            yield memory.idle(small)
            yield from calls.latency(small, self.options, targets=False)
            yield from calls.drain(small, self.options, target=None)

    def middle(self) -> Iterator[Figure]:
        """Everything that does not need a large table."""
        with self._site(self.options.sizes[1]) as middle:
            yield walks.empty_polls(middle, self.options, None)
            copied = walks.copied(middle)
            middle.start()
            yield walks.baseline(middle, copied, None)
            yield walks.sweeps(middle, copied, None)
            self.tell("commit to call")
            yield from calls.latency(middle, self.options, targets=True)
            self.tell(f"{self.options.bulk:,} rows by one UPDATE")
            yield from calls.drain(middle, self.options, target=at_least(0.75))
            yield memory.draining(middle, self.options)
            self.tell("a slow endpoint")
            yield from calls.slow_endpoint(middle, self.options)
            self.tell("writers")
            yield from writers.writers(middle, self.pgbench, self.options)
            self.tell("kill -9")
            yield from crash.crash(middle, self.options)

    def large(self) -> Iterator[Figure]:
        """What must not grow with the table, and what must not grow faster than it."""
        with self._site(self.options.sizes[2]) as large:
            yield walks.empty_polls(large, self.options, no_more_than(3))
            copied = walks.copied(large)
            large.start()
            with memory.peak(large.running.pid) as most_memory:
                yield walks.baseline(large, copied, most(8))
                yield walks.sweeps(large, copied, most(4))
                yield from calls.latency(large, self.options, targets=False)
                yield from calls.drain(large, self.options, target=None)
            yield memory.with_many(large, most_memory)

    @contextmanager
    def _site(self, rows: int) -> Iterator[Site]:
        self.tell(f"a table of {rows:,} rows")
        with (
            tempfile.TemporaryDirectory(prefix="cdc-sync-bench-") as folder,
            site(self.postgres, self.takes_calls, rows, Path(folder)) as made,
        ):
            yield made
