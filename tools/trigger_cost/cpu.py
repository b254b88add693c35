"""The CPU time of a session of the ATS for a statement, which other work changes little.

A server of its own, without a daemon. In each round one session runs the same statements on `bare` and on `rung`, in
random order; Linux counts its nanoseconds. Shown are medians.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from cdc_sync.demo.postgres import Binaries
from trigger_cost.bystanders import Paid, watched_server
from trigger_cost.workloads import Variant

_TABLES: list[Variant] = ["bare", "rung"]
_AT_ONCE = 200
_SINGLE: dict[str, LiteralString] = {
    "update, no watched column": "UPDATE {table} SET notes = 'n' || {value}, updated_at = now() WHERE id = {id}",
    "update, watched column": "UPDATE {table} SET status = 's' || {value}, updated_at = now() WHERE id = {id}",
}
_BULK: LiteralString = "UPDATE {table} SET status = 'b' || {value}, updated_at = now() WHERE id <= {id}"
_BULK_EVERY = 10
"""Rounds."""


def measure_cpu(binaries: Binaries, rounds: int, tell: Callable[[str], None], rows: int = 20_000) -> list[Paid]:
    taken: dict[tuple[str, Variant], list[float]] = {}
    with (
        watched_server(binaries, rows, {"fsync": "off"}) as (server, dba),
        psycopg.connect(server.dsn, autocommit=True) as ats,
    ):
        for number in range(rounds):
            tell(f"round {number + 1}")
            for table in random.sample(_TABLES, len(_TABLES)):
                for name, statement in _SINGLE.items():
                    dba.execute("TRUNCATE cdc_sync.changes")
                    ids = random.sample(range(1, rows + 1), _AT_ONCE)
                    cost = _cost(ats, table, statement, ids) / _AT_ONCE
                    taken.setdefault((name, table), []).append(cost)
                if number % _BULK_EVERY == 0:
                    dba.execute(sql.SQL("VACUUM {}").format(sql.Identifier("public", table)))
                    cost = _cost(ats, table, _BULK, [rows]) / rows
                    taken.setdefault(("bulk update, watched column, per row", table), []).append(cost)
    names = dict.fromkeys(name for name, _ in taken)
    return [Paid(f"CPU µs: {name}", *(round(median(taken[name, table]), 1) for table in _TABLES)) for name in names]


def _cost(ats: psycopg.Connection[Any], table: Variant, statement: LiteralString, ids: list[int]) -> float:
    """CPU microseconds of the session's process."""
    name, time_of = sql.Identifier("public", table), Path(f"/proc/{ats.info.backend_pid}/schedstat")
    queries = [sql.SQL(statement).format(table=name, value=time.perf_counter_ns(), id=number) for number in ids]
    before = _nanoseconds(time_of)
    for query in queries:
        ats.execute(query)
    return (_nanoseconds(time_of) - before) / 1000


def _nanoseconds(schedstat: Path) -> int:
    return int(schedstat.read_text(encoding="ascii").split()[0])
