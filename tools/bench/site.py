"""The site of a measurement: a database of one size, the ATS's session, the daemon, the receiver of calls."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql
from support import install_script
from support.daemon_process import COMMAND, DaemonProcess, free_port

from bench.agreed import CONCURRENCY
from bench.sink import ON_OUR_PATH, Sink
from cdc_sync.ats.scripts import grants
from cdc_sync.config import load
from cdc_sync.demo.postgres import Binaries, Server, server

PATIENCE = 600.0
"""Seconds within which each awaited thing happens, on a slow machine too."""

DURABLE = {"fsync": "on"}
"""A server's settings, as an ATS has them."""

_DAEMON = "cdc_sync"
_BARE_ROWS = 100_000
_PAUSE = 0.05

_NUMBERS = count(1)

_TABLES = ("applications", "bare", "notifying")


_CONFIG = Path(__file__).with_name("site.yaml").read_text(encoding="utf-8")
TABLE, _NOTIFYING, _AT_REST, COPY, TENANTS = (
    sql.SQL(part.partition("\n")[2])
    for part in Path(__file__).with_name("site.sql").read_text(encoding="utf-8").split("-- part: ")[1:]
)
"""Makes one of the ATS's tables; rings for a bare loop; looks for rest; reads a whole table; makes tenants' schemas."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is asked for.

    Attributes:
        sizes: rows of the tables to measure with; most is measured with the middle one.
        rounds: how often bare loop and daemon take turns.
        single: changes of one latency round.
        pause: seconds between them.
        bulk: rows that one UPDATE changes.
        slow: seconds that the slow endpoint takes.
        tenants: customers of the row `tenants`.
        rest: seconds for which a daemon at rest is looked at there.
    """

    sizes: tuple[int, int, int] = (10_000, 100_000, 1_000_000)
    rounds: int = 3
    single: int = 100
    pause: float = 0.05
    bulk: int = 10_000
    slow: float = 0.02
    tenants: int = 1_000
    rest: float = 60.0


@dataclass(frozen=True, slots=True)
class Rig:
    """The common parts of a run's sites.

    Attributes:
        server: has the ATS's databases.
        binaries: of that server.
        sink: takes the calls.
    """

    server: Server
    binaries: Binaries
    sink: Sink


@dataclass(slots=True)
class Site:
    """See the module's text; made by `site()`.

    The tables hold rows numbered from 1. `applications` is watched, `bare` has no trigger, and `notifying` has one that
    notifies with the application's id for each row.

    Attributes:
        folder: has the configuration, the store and the log.
        dsn: of the database, as its superuser.
        reader: the same, as the daemon's role.
        ats: a session in autocommit.
        sink: takes the calls.
        rows: the number of each table's.
        command: starts the daemon.
        variables: of its environment.
        daemon: the daemon, once it is started.
    """

    folder: Path
    dsn: str
    reader: str
    ats: psycopg.Connection[Any]
    sink: Sink
    rows: int
    command: Sequence[str] = COMMAND
    variables: Mapping[str, str] = field(default_factory=dict)
    daemon: DaemonProcess | None = None
    _statuses: Iterator[int] = field(default_factory=lambda: iter(range(1, sys.maxsize)))
    _port: int = 0

    def configure(self, state: Mapping[str, str]) -> None:
        """Configure the daemon, with this section `state`."""
        self._port = free_port()
        places = {"dsn": self.reader, "hellowork": self.sink.url, "concurrency": CONCURRENCY}
        self.config.write_text(_CONFIG.format(**places, state=json.dumps(dict(state)), port=self._port))

    def start(self) -> None:
        """Start the daemon; `running` waits for it."""
        arguments = ["--config", str(self.config), "run"]
        output = self.folder / f"run-{next(_NUMBERS)}"
        self.daemon = DaemonProcess(arguments, self.variables, output, self._port, admin_token="", command=self.command)

    def start_anew(self) -> None:
        """Start the daemon on an empty store."""
        self.running.stop()
        self.configure({"path": str(self.folder / f"state-{next(_NUMBERS)}.db")})
        self.start()

    def wait_until_swept(self) -> None:
        """Wait until the daemon is ready and has made its first sweep."""
        self.running.wait_until_ready(PATIENCE)
        self.wait_until(lambda: self.sweep_seconds() > 0, "the first sweep")

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def running(self) -> DaemonProcess:
        assert self.daemon is not None
        return self.daemon

    def sweep_seconds(self) -> float:
        """Seconds of the daemon's last sweep; 0 if there is none yet."""
        found = re.search(r"^cdc_sync_sweep_seconds{.*} (.*)$", self.running.get("/metrics")[1], re.MULTILINE)
        return 0.0 if found is None else float(found[1])

    def rest(self) -> None:
        """Wait until the daemon is idle, and the server has no work left from others."""
        self.wait_until(self._is_at_rest, "the daemon to come to rest")
        for table in (*map(_named, _TABLES), sql.Identifier("cdc_sync", "changes")):
            self.ats.execute(sql.SQL("VACUUM {}").format(table))  # one by one, for PostgreSQL 10
        self.ats.execute("CHECKPOINT")

    def update_one(self, table: str, row: int) -> int:
        """Change one row in a transaction of its own; returns when its COMMIT was sent, in nanoseconds."""
        query = sql.SQL("UPDATE {} SET status = %s, updated_at = now() WHERE id = %s").format(_named(table))
        with self.ats.transaction():
            self.ats.execute(query, (self._status(), row))
            return time.monotonic_ns()

    def update_first(self, table: str, rows: int) -> int:
        """Change the first rows by one statement; returns when it was committed, in nanoseconds."""
        query = sql.SQL("UPDATE {} SET status = %s, updated_at = now() WHERE id <= %s").format(_named(table))
        assert self.ats.execute(query, (self._status(), rows)).rowcount == rows
        return time.monotonic_ns()

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        self.running.wait_until(condition, what, PATIENCE)

    def pending(self) -> int:
        return sum(watch["pending"] for watch in self.running.report()["watches"])

    def _status(self) -> str:
        return f"STATUS {next(self._statuses)}"

    def _is_at_rest(self) -> bool:
        """Whether the log is empty, the bell armed and nothing pending."""
        row = self.ats.execute(_AT_REST).fetchone()
        return row == (True,) and not self.pending()


@contextmanager
def store_server(binaries: Binaries, **settings: str) -> Iterator[Server]:
    """A server of its own for the PostgreSQL store, as durable as the ATS's."""
    with server(binaries, settings={**DURABLE, **settings}) as made, psycopg.connect(made.dsn, autocommit=True) as dba:
        dba.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(_DAEMON)))
        yield made


def new_store(of: Server) -> Mapping[str, str]:
    """The section `state` for a store in a new database."""
    name = f"store_{next(_NUMBERS)}"
    with psycopg.connect(of.dsn, autocommit=True) as dba:
        dba.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(_DAEMON)))
    return {"backend": "postgres", "dsn": of.dsn_for(name, _DAEMON)}


@contextmanager
def site(rig: Rig, rows: int, folder: Path, *, state: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Set one size up, without starting its daemon; the daemon ends with the `with`.

    Args:
        rig: where.
        rows: of the table.
        folder: an empty one.
        state: the configuration's section; an SQLite store in the folder unless given.
    """
    database = f"rows_{rows}_{next(_NUMBERS)}"
    with psycopg.connect(rig.server.dsn, autocommit=True) as dba:
        dba.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    dsn = rig.server.dsn_for(database)
    with psycopg.connect(dsn, autocommit=True) as ats:
        for table, number in zip(_TABLES, (rows, min(rows, _BARE_ROWS), min(rows, 10_000)), strict=True):
            ats.execute(TABLE.format(table=_named(table), name=sql.Literal(table), rows=sql.Literal(number)))
        ats.execute(_NOTIFYING)
        if not ats.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (_DAEMON,)).fetchone():
            ats.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(_DAEMON)))
        made = Site(folder, dsn, rig.server.dsn_for(database, _DAEMON), ats, rig.sink, rows)
        made.configure(state or {"path": str(folder / "state.db")})
        config = load(made.config, {})
        ats.execute(f"{install_script.install(config)}{grants(config, _DAEMON)}".encode())
        for table in _TABLES:
            ats.execute(sql.SQL("VACUUM ANALYZE {}").format(_named(table)))
        ats.execute("CHECKPOINT")
        try:
            yield made
        finally:
            if made.daemon is not None:
                made.daemon.kill()


@contextmanager
def bare(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A bare loop that is ready; it ends with the `with`."""
    command = [sys.executable, "-m", "bench.bare", *arguments]
    with subprocess.Popen(
        command, env=ON_OUR_PATH, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def cpu_of(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def used_below(process: psutil.Process) -> float:
    """CPU seconds of a process and those below it, ended ones included."""
    used = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:  # it is its parent's by now
            continue
        used += times.user + times.system + times.children_user + times.children_system
    return used


def go(loop: "subprocess.Popen[str]") -> int:
    """Start the bare client; returns the moment, in nanoseconds."""
    assert loop.stdin is not None
    begun = time.monotonic_ns()
    loop.stdin.write("go\n")
    loop.stdin.flush()
    return begun


def _named(table: str) -> sql.Identifier:
    return sql.Identifier("public", table)
