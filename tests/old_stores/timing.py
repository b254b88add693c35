"""How long the migration of a big store takes, and what it needs of the disk and the memory meanwhile.

`PYTHONPATH=tests python -m old_stores.timing --backend postgres --applications 5000000`
"""

import argparse
import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
from support.binaries import server_binaries
from support.daemon_process import environment
from support.postgres import SETTINGS
from support.upgrading import OldFile, OldSchema

from cdc_sync.demo.postgres import Server, server
from cdc_sync.store import Store
from cdc_sync.store.postgres import PostgresDriver
from cdc_sync.store.sqlite import SqliteDriver
from old_stores import OLD_STORES, OldStore

# For one application in five there is an entry in the history, for one in a thousand a pending call.
_SNAPSHOT = """
INSERT INTO {schema}snapshot (watch, application_id, row_key, status, job_id, deleted, created, event_date, source,
                              extra, url, told_at, verified)
SELECT 'applications', 'application-' || n, '["' || n || '"]', 'INTERVIEW', 'job-' || n % 5000, {false},
       1700000000000 + n, 1760000000000 + n, '"HelloWork"', '{{"stage": "Entretien RH", "score": ' || n % 100 || '}}',
       'https://ats-partner.hellowork.com/v1/applications/application-' || n || '/status', 1760000000000 + n,
       '0123456789abcdef'
  FROM {numbers}
"""
_OUTBOX = """
INSERT INTO {schema}outbox (watch, application_id, status, job_id, deleted, created, event_date, source, extra, url,
                            kinds, state, revision, queued_at, due_at, attempted, attempts, endpoint)
SELECT watch, application_id, 'HIRED', job_id, deleted, created, event_date, source, extra, url, 'status', 'pending', 1,
       told_at, told_at, {false}, 0, 'https://ats-partner.hellowork.com'
  FROM {schema}snapshot WHERE number % 1000 = 0 AND status IS NOT NULL AND application_id LIKE 'application-%'
"""
_HISTORY = """
INSERT INTO {schema}history (at, watch, application_id, event, detail)
SELECT told_at, watch, application_id, 'acknowledged', '{{"status": 200, "latency": 0.1}}'
  FROM {schema}snapshot WHERE number % 5 = 0 AND told_at IS NOT NULL
"""
_FILE_NUMBERS = "(WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < {}) SELECT n FROM t)"
_SECONDS = 0.1
_MB = 1_000_000


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m old_stores.timing", description=__doc__)
    parser.add_argument("--applications", type=int, default=5_000_000, help="how many the store knows (%(default)s)")
    parser.add_argument("--backend", choices=("sqlite", "postgres"), default="sqlite", help="(%(default)s)")
    parser.add_argument("--store", help="by whose schema it is made; the newest of tests/old_stores (see there)")
    given = parser.parse_args()
    old = [old for old in OLD_STORES if given.store in (old.name, None) and old.backend == given.backend][-1]
    say(f"{given.applications:,} applications in a store of schema {old.schema} ({old.name})")
    with tempfile.TemporaryDirectory(prefix="cdc-sync-migration-") as folder, ExitStack() as stack:
        if old.backend == "sqlite":
            of_file(old, given.applications, Path(folder))
        else:
            # On disk when it says so, unlike the servers of tests.
            own = stack.enter_context(server(server_binaries(), settings={**SETTINGS, "fsync": "on"}))
            of_schema(old, given.applications, own)


def of_file(old: OldStore, applications: int, folder: Path) -> None:
    """A store in a file."""
    path = OldFile(old, folder).path
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        numbers = _FILE_NUMBERS.format(applications)
        for statement in (_SNAPSHOT, _OUTBOX, _HISTORY):
            connection.execute(statement.format(schema="", false="0", numbers=numbers))
        connection.execute("UPDATE tally SET known = (SELECT count(*) FROM snapshot s WHERE s.watch = tally.watch)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    measure(str(path), lambda: sum(size(file) for file in folder.iterdir()), list)


def of_schema(old: OldStore, applications: int, own: Server) -> None:
    """A store in a database."""
    OldSchema(old, own.dsn)
    with psycopg.connect(own.dsn, autocommit=True) as connection:
        numbers = f"generate_series(1, {applications}) AS t (n)"
        for statement in (_SNAPSHOT, _OUTBOX, _HISTORY):
            connection.execute(statement.format(schema="cdc_sync.", false="false", numbers=numbers).encode())
        connection.execute("UPDATE cdc_sync.watch SET known = known + %s WHERE name = 'applications'", (applications,))
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    measure(own.dsn, lambda: tree(own.folder), lambda: psutil.Process(own.pid).children())


def measure(place: str, disk: Callable[[], int], servers: Callable[[], list[psutil.Process]]) -> None:
    """Open the store in a process of its own, and tell what that took."""
    command = [sys.executable, "-c", f"from old_stores import timing; timing.opened({place!r})"]
    paths = f"{Path(__file__).parents[1]}{os.pathsep}{Path(__file__).parents[2]}"
    before, started = disk(), time.monotonic()
    with subprocess.Popen(
        command, env=environment({"PYTHONPATH": paths}), stdout=subprocess.PIPE, text=True
    ) as process:
        with watching(process.pid, disk, servers) as most:
            said = process.communicate()[0].split()
        assert process.returncode == 0
    seconds = time.monotonic() - started
    say(f"opened in {float(said[0]):.1f} s, and ended after {seconds:.1f} s")
    say(f"on disk: {before / _MB:,.0f} MB before, {most['disk'] / _MB:,.0f} MB at most, {disk() / _MB:,.0f} MB after")
    say(f"memory at most: {int(said[1]) / 1000:.0f} MB of the process, {most['server'] / _MB:.0f} MB of its server")


def opened(place: str) -> None:
    """Open the store and close it; print the seconds for the opening, and the most memory in kB."""

    async def once() -> None:
        started = time.monotonic()
        store: Store = (
            Store(SqliteDriver(Path(place))) if place.startswith("/") else Store(await PostgresDriver.open(place))
        )
        sys.stdout.write(f"{time.monotonic() - started} ")
        await store.driver.close()

    asyncio.run(once())
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")


@contextmanager
def watching(
    process: int, disk: Callable[[], int], servers: Callable[[], list[psutil.Process]]
) -> Iterator[dict[str, int]]:
    """Look at the disk and at the servers' memory now and then; yields the most of both."""
    most, over = {"disk": 0, "server": 0}, threading.Event()

    def look() -> None:
        while not over.wait(_SECONDS):
            most["disk"] = max(most["disk"], disk() + nameless(process))
            most["server"] = max(most["server"], *(anonymous(each.pid) for each in servers()), 0)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def size(file: Path) -> int:
    """What a file takes of the disk."""
    with suppress(OSError):
        return file.stat().st_blocks * 512
    return 0


def tree(folder: Path) -> int:
    """What all files below a folder take."""
    return sum(size(Path(where, name)) for where, _, names in os.walk(folder) for name in names)


def nameless(process: int) -> int:
    """What a process's open files take that have no name any more: SQLite sorts in such."""
    total = 0
    with suppress(OSError):
        for link in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                if str(link.readlink()).endswith(" (deleted)"):
                    total += link.stat().st_blocks * 512
    return total


def anonymous(process: int) -> int:
    """The memory of a process that it shares with nobody."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
