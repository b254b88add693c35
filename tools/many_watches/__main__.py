"""The command line."""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import psutil
import psycopg
from command_line import parser_of, say
from own_daemon import OwnDaemon
from psycopg import sql
from support.binaries import server_binaries
from support.installation import a_watch
from support.postgres import SETTINGS, create_ats

from cdc_sync.ats.scripts import install
from cdc_sync.config import load
from cdc_sync.demo.postgres import server

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cdc-sync'"
_TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
_ROWS = 10

_SETTLES = 15
"""Seconds for which the first sweeps are not measured."""

_COUNTED = "pg_stat_statements"
_SHOWN = 120
"""Characters of a statement."""

_STATEMENTS = """
SELECT calls, total_exec_time + total_plan_time, query
  FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
 WHERE d.datname = current_database() AND query NOT LIKE '%pg_stat_%'
 ORDER BY calls DESC, query
"""


def main() -> int:
    parser = parser_of("many_watches")
    parser.add_argument("--watches", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long it is measured (%(default)s)")
    parser.add_argument("--mode", choices=("notify", "poll"), default="notify", help="capture.mode (%(default)s)")
    parser.add_argument("--poll-interval", default="10s", help="capture.poll_interval (%(default)s)")
    parser.add_argument("--statements", type=int, default=0, help="show so many of the most frequent statements")
    parser.add_argument("--writer", action="store_true", help="with a transaction open that has written")
    given = parser.parse_args()
    settings = {**SETTINGS, "max_locks_per_transaction": "512"}
    if given.statements:
        settings |= {"shared_preload_libraries": _COUNTED, f"{_COUNTED}.track_planning": "on"}
    with (
        tempfile.TemporaryDirectory(prefix="cdc-sync-many-") as folder,
        server(server_binaries(), settings=settings) as own,
    ):
        measure(own.dsn, given, Path(folder))
    return 0


def measure(dsn: str, given: argparse.Namespace, folder: Path) -> None:
    create_ats(dsn)
    names = [f"w{number}" for number in range(given.watches)]
    capture = {"mode": given.mode, "watermark": "updated_at", "poll_interval": given.poll_interval}
    watch = {**a_watch(given.mode), "capture": capture}
    own = OwnDaemon(folder, dsn, {name: {**watch, "table": f"public.{name}"} for name in names}, level="info")
    with psycopg.connect(dsn, autocommit=True) as ats:
        for name in names:
            table = sql.Identifier("public", name)
            ats.execute(sql.SQL("CREATE TABLE {} (LIKE public.applications INCLUDING ALL)").format(table))
            ats.execute(
                sql.SQL(
                    "INSERT INTO {} (id, hellowork_id, status, job_id, created_at, updated_at)"
                    " SELECT n, {} || n, 'IN PROGRESS', 'job', now(), now() - interval '1 day'"
                    " FROM generate_series(1, {}) n"
                ).format(table, sql.Literal(f"{name}-"), sql.Literal(_ROWS))
            )
        if given.statements:
            ats.execute(f"CREATE EXTENSION {_COUNTED}".encode())
        if given.mode == "notify":
            ats.execute(install(load(own.config, {})).encode())
        with psycopg.connect(dsn) as writer:
            if given.writer:
                writer.execute("SELECT txid_current()")
            run(ats, own, given)
            writer.rollback()


def run(ats: psycopg.Connection, own: OwnDaemon, given: argparse.Namespace) -> None:
    begun = time.monotonic()
    daemon = own.start()
    try:
        process, ready = psutil.Process(daemon.pid), 0
        before = Used.now(ats, process)
        while (ready := len(daemon.events_named("watching"))) < given.watches:
            if time.monotonic() > begun + 1800:
                raise SystemExit(f"{ready} of the watches have begun in half an hour")
            time.sleep(0.5)
        say(f"{given.watches} watches, {given.mode}, until all are captured")
        report(before, Used.now(ats, process), given)
        time.sleep(_SETTLES)
        most, before, until = 0, Used.now(ats, process), time.monotonic() + given.seconds
        while time.monotonic() < until:
            most = max(most, one(ats, _SESSIONS))
            time.sleep(0.5)
        say(f"{given.watches} idle watches, {given.mode}{', a writer open' if given.writer else ''}")
        report(before, Used.now(ats, process), given, own=round(given.seconds / 0.5))
        say(f"  sessions, at most      {most}")
        say(f"  daemon, resident       {process.memory_info().rss / 1e6:.0f} MB")
    finally:
        daemon.stop()


class Used(NamedTuple):
    """The use until a moment.

    Attributes:
        at: the moment, by the monotonic clock.
        transactions: of the database.
        daemon: CPU seconds.
        server: CPU seconds.
        statements: how often each was run, and its milliseconds.
    """

    at: float
    transactions: int
    daemon: float
    server: float
    statements: Mapping[str, tuple[int, float]]

    @classmethod
    def now(cls, ats: psycopg.Connection, daemon: psutil.Process) -> Self:
        counted: dict[str, tuple[int, float]] = {}
        with suppress(psycopg.errors.UndefinedTable):
            for calls, took, query in ats.execute(_STATEMENTS.encode()).fetchall():
                # One text for all watches.
                text = re.sub(r"w\d+", "w*", " ".join(query.split()))[:_SHOWN]
                before = counted.get(text, (0, 0.0))
                counted[text] = before[0] + calls, before[1] + took
        return cls(time.monotonic(), one(ats, _TRANSACTIONS), cpu_of(daemon), server_cpu(ats), counted)


def report(before: Used, after: Used, given: argparse.Namespace, *, own: int = 0) -> None:
    """Print the use in between, without our own transactions."""
    took = after.at - before.at
    say(f"  seconds                {took:.0f}")
    say(f"  transactions a second  {(after.transactions - before.transactions - own) / took:.1f}")
    say(f"  daemon, CPU            {100 * (after.daemon - before.daemon) / took:.1f} %")
    say(f"  PostgreSQL, CPU        {100 * (after.server - before.server) / took:.1f} %")
    if after.statements:
        done = {}
        for text, (calls, spent) in after.statements.items():
            calls_before, spent_before = before.statements.get(text, (0, 0.0))
            if calls > calls_before:
                done[text] = calls - calls_before, spent - spent_before
        say(f"  statements a second    {sum(calls for calls, _ in done.values()) / took:.1f}")
        for text, (calls, spent) in sorted(done.items(), key=lambda each: -each[1][0])[: given.statements]:
            say(f"    {calls:7,} {spent:9,.0f} ms  {text}")


def cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def server_cpu(ats: psycopg.Connection) -> float:
    """CPU seconds of the server's processes, also of ended ones."""
    postmaster = psutil.Process(ats.info.backend_pid).parent()
    if postmaster is None:
        return 0.0
    ended = postmaster.cpu_times()
    return (
        cpu_of(postmaster)
        + ended.children_user
        + ended.children_system
        + sum(cpu_of(child) for child in postmaster.children())
    )


def one(ats: psycopg.Connection, query: str) -> int:
    row = ats.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    sys.exit(main())
