"""The command line; see the package's text."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import psutil
import psycopg
import yaml
from psycopg import sql
from support.binaries import server_binaries
from support.daemon_process import DaemonProcess, free_port
from support.installation import TOKEN, a_watch
from support.postgres import SETTINGS, create_ats

from cdc_sync.config import load
from cdc_sync.demo.postgres import server
from cdc_sync.source.scripts import install

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cdc-sync'"
_TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
_ROWS = 10


def main() -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m many_watches", description=__doc__)
    parser.add_argument("--watches", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long it is measured (%(default)s)")
    parser.add_argument("--mode", choices=("notify", "poll"), default="notify", help="capture.mode (%(default)s)")
    parser.add_argument("--writer", action="store_true", help="with a transaction open that has written")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="cdc-sync-many-") as folder,
        server(server_binaries(), settings={**SETTINGS, "max_locks_per_transaction": "512"}) as own,
    ):
        measure(own.dsn, given, Path(folder))
    return 0


def measure(dsn: str, given: argparse.Namespace, folder: Path) -> None:
    """One daemon that has nothing to do."""
    create_ats(dsn)
    names = [f"w{number}" for number in range(given.watches)]
    port, config = free_port(), folder / "config.yaml"
    watch = {**a_watch(given.mode), "capture": {"mode": given.mode, "watermark": "updated_at"}}
    document = {
        "database": {"dsn": dsn},
        "hellowork": {"base_url": f"http://127.0.0.1:{free_port()}"},
        "state": {"path": str(folder / "state.db")},
        "admin": {"listen": f"127.0.0.1:{port}", "token": TOKEN},
        "log": {"level": "info", "format": "json"},
        "watches": {name: {**watch, "table": f"public.{name}"} for name in names},
    }
    config.write_text(yaml.safe_dump(document))
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
        if given.mode == "notify":
            ats.execute(install(load(config, {})).encode())
        with psycopg.connect(dsn) as writer:
            if given.writer:
                writer.execute("SELECT txid_current()")
            run(ats, config, folder, port, given)
            writer.rollback()


def run(ats: psycopg.Connection, config: Path, folder: Path, port: int, given: argparse.Namespace) -> None:
    """Start the daemon, let it come to rest, and measure."""
    daemon = DaemonProcess(["--config", str(config), "run"], {}, folder / "run", port, TOKEN)
    try:
        until = time.monotonic() + 600
        while len(daemon.events_named("watching")) < given.watches:
            if time.monotonic() > until:
                raise SystemExit("the watches take too long to begin")
            time.sleep(0.5)
        time.sleep(5)
        process, most = psutil.Process(daemon.pid), 0
        before, begun = cpu_of(process), time.monotonic()
        of_server, transactions = server_cpu(ats), one(ats, _TRANSACTIONS)
        while time.monotonic() < begun + given.seconds:
            most = max(most, one(ats, _SESSIONS))
            time.sleep(0.5)
        took = time.monotonic() - begun
        done = one(ats, _TRANSACTIONS) - transactions - took / 0.5
        say(f"{given.watches} idle watches, {given.mode}, {took:.0f} s{', a writer open' if given.writer else ''}")
        say(f"  sessions, at most      {most}")
        say(f"  transactions a second  {done / took:.1f}")
        say(f"  daemon, CPU            {100 * (cpu_of(process) - before) / took:.1f} %")
        say(f"  PostgreSQL, CPU        {100 * (server_cpu(ats) - of_server) / took:.1f} %")
    finally:
        daemon.stop()


def cpu_of(process: psutil.Process) -> float:
    """Seconds of a process."""
    times = process.cpu_times()
    return times.user + times.system


def server_cpu(ats: psycopg.Connection) -> float:
    """Seconds of the server's processes, those that have ended included as far as their parent knows."""
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
    """The one number that a query gives."""
    row = ats.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
