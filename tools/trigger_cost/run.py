"""A run from its start to its figures."""

import os
from collections.abc import Callable, Mapping

from cdc_sync.demo.postgres import Binaries
from trigger_cost.measuring import Figure, measure
from trigger_cost.options import Options
from trigger_cost.pgbench import find_pgbench
from trigger_cost.rig import rig


def bench(
    binaries: Binaries, options: Options, tell: Callable[[str], None]
) -> tuple[Mapping[str, object], list[Figure]]:
    """Measure; returns the conditions too.

    Raises:
        PgbenchError: there is no pgbench, or a transaction failed.
        PostgresFailedError: the server could not be started.
    """
    pgbench = find_pgbench(binaries)
    with rig(binaries, options.rows, fsync=options.fsync) as ready:
        load_before = os.getloadavg()[0]
        figures = measure(ready, pgbench, options, tell)
        facts = {
            **ready.facts(),
            "cores": os.cpu_count(),
            "load average before": round(load_before, 1),
            "rounds": options.rounds,
            "a run": " ".join(options.length).lstrip("-"),
            "rows per table": options.rows,
        }
    return facts, figures
