"""Transactions of the ATS, flat out by several writers, while the daemon takes their changes."""

import time

from bench.figures import Figure, at_most, beside, ratio_at_least
from bench.options import Options
from bench.pgbench import Pgbench, find_pgbench
from bench.site import PATIENCE, Site

_WRITERS = 4

# A sequence gives each row its turn, so that none is changed twice, which would be one call.
_SCRIPT = """\\set number random(1, 1000000000)
UPDATE public.{table} SET status = 'W' || :number, updated_at = now() WHERE id = (SELECT nextval('public.turn'));
"""


def writers(site: Site, options: Options) -> list[Figure]:
    """The writers' rate beside that without triggers, and the time from their end to the last call."""
    pgbench = find_pgbench(site.binaries)
    site.ats.execute("CREATE SEQUENCE IF NOT EXISTS public.turn")
    rounds: list[tuple[float, float]] = []
    behind: list[float] = []
    for _ in range(options.rounds):
        site.rest()
        site.sink.reset()
        watched = _written(site, pgbench, options, "applications")
        ended = time.monotonic_ns()
        last = site.sink.wait(options.bulk, PATIENCE)
        behind.append(max(last - ended, 0) / 1e9)
        site.rest()
        rounds.append((watched, _written(site, pgbench, options, "bare")))
    measure = f"{options.bulk:,} transactions flat out by {_WRITERS} writers"
    return [
        beside(f"{measure}: their rate, beside a table without triggers", "tx/s", rounds, ratio_at_least(0.6, 0.6)),
        Figure(
            f"{measure}: last call after the last commit",
            "s",
            sorted(behind)[len(behind) // 2],
            rounds=[(each, 0.0) for each in behind],
            budget=at_most(2.5, 2),
        ),
    ]


def _written(site: Site, pgbench: Pgbench, options: Options, table: str) -> float:
    """Transactions per second."""
    site.ats.execute("ALTER SEQUENCE public.turn RESTART")
    script = site.folder / "script.sql"
    script.write_text(_SCRIPT.format(table=table))
    ran = pgbench.run(script, site.dsn, _WRITERS, ("--transactions", str(options.bulk // _WRITERS)))
    assert ran.transactions == options.bulk
    return ran.rate
