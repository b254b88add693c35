"""What a standby cancels while changes come and are drained: a long read, and a session that locks as pg_dump does.

On each table, `bare` first, the ATS changes `RATE` watched values per second, and the daemon drains them. Autovacuum
and the standby have their defaults (`max_standby_streaming_delay` 30 s). A session there reads with one snapshot all
the time; another holds ACCESS SHARE on every table, without a snapshot. The standby counts what it cancels
(`pg_stat_database_conflicts`).
"""

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

import psycopg
from psycopg import sql
from support.standby import standby_of

from cdc_sync.demo.postgres import Binaries
from trigger_cost.bystanders import Paid
from trigger_cost.pgbench import find_pgbench
from trigger_cost.rig import Rig, rig
from trigger_cost.workloads import WORKLOADS, Variant

RATE = 200
"""Changes per second."""

_PORT = 5433
_TABLES: tuple[Variant, ...] = ("bare", "rung")
_CHANGE = next(workload.script for workload in WORKLOADS if workload.name == "update, watched column")
_EVERY_TABLE = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('public', 'cdc_sync') ORDER BY 1
"""
_CONFLICTS = """
SELECT confl_lock, confl_snapshot FROM pg_stat_database_conflicts WHERE datname = current_database()
"""


def measure_cancelled(binaries: Binaries, seconds: int, tell: Callable[[str], None], rows: int = 100_000) -> list[Paid]:
    """Measure each table for so many seconds."""
    pgbench, length = find_pgbench(binaries), ("--time", str(seconds), "--rate", str(RATE))
    with rig(binaries, rows, fsync=False) as ready:
        counted = []
        for number, table in enumerate(_TABLES):
            script = ready.folder / "changes.sql"
            script.write_text(_CHANGE.format(table=f"public.{table}", rows=rows))
            tell(f"a standby's sessions, {RATE} changes/s of {table} for {seconds} s")
            work = partial(pgbench.run, script, ready.ats_dsn, 2, length)
            counted.append(_count(ready, table, _PORT + number, work))
    return [
        Paid(f"standby: {what} cancelled", bare, watched)
        for what, bare, watched in zip(("lock of all tables", "long read"), *counted, strict=True)
    ]


def _count(ready: Rig, table: Variant, port: int, work: Callable[[], object]) -> tuple[float, float]:
    with (
        standby_of(ready.server, port) as standby,
        # Either may be ended by the server.
        closing(psycopg.connect(standby.dsn)) as read,
        closing(psycopg.connect(standby.dsn, autocommit=True)) as dump,
    ):
        read.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        read.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("public", table)))
        names = [name for (name,) in dump.execute(_EVERY_TABLE).fetchall()]
        dump.execute(f"BEGIN; LOCK TABLE {', '.join(names)} IN ACCESS SHARE MODE".encode())
        work()
        time.sleep(2.0)  # the statistics reach the view with a delay
        with psycopg.connect(standby.dsn, autocommit=True) as counting:
            ((locks, snapshots),) = counting.execute(_CONFLICTS).fetchall()
    return float(locks), float(snapshots)
