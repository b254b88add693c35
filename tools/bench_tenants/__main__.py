"""The command line, and what is measured."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil
import psycopg
import yaml
from bench.sink import Sink, sink
from bench.site import cpu_of
from command_line import parser_of, say
from psycopg import sql
from support.binaries import server_binaries
from support.daemon_process import COMMAND, DaemonProcess, environment, free_port
from support.postgres import SETTINGS, create_ats
from support.watched import run_script

from cdc_sync.demo.postgres import Server, server

PATIENCE = 900.0
"""Seconds to wait for anything, on a slow machine too."""

_MASS = 10_000
"""Applications of the first tenant, all of which change at once."""

_ROWS = 100
"""Applications of every other one."""

_AT_ONCE = 50
"""Schemas made in one transaction: each holds locks until its end."""

_CLICKS = 100
_BETWEEN_CLICKS = 0.05
_SLOW_ENDPOINT = 0.02
"""Seconds that the endpoint takes while a neighbour sends."""

_TENANTS = """
DO $$
DECLARE n bigint;
BEGIN
    FOR n IN {first}..{last} LOOP
        EXECUTE format('CREATE SCHEMA %I', 'tenant_' || n);
        EXECUTE format('CREATE TABLE %I.applications (LIKE public.applications INCLUDING ALL)', 'tenant_' || n);
        EXECUTE format('INSERT INTO %I.applications (id, hellowork_id, status, job_id, created_at, updated_at)
            SELECT r, %L || r, ''NEW'', ''job'', now(), now() - interval ''1 day'' FROM generate_series(1, %s) r',
            'tenant_' || n, {prefix} || n || '-', CASE WHEN n = 1 AND {is_first} THEN {mass} ELSE {rows} END);
    END LOOP;
END $$
"""

_SESSIONS = """
SELECT coalesce(max(n), 0) FROM (
    SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'cdc-sync' GROUP BY datid) AS each
"""
_TRANSACTIONS = "SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database"


@dataclass(frozen=True, slots=True)
class Shape:
    """Databases of so many schemas each."""

    databases: int
    schemas: int
    mode: str

    @property
    def tenants(self) -> int:
        return self.databases * self.schemas

    @property
    def names(self) -> list[str]:
        return [f"ats_{number}" for number in range(1, self.databases + 1)]

    def __str__(self) -> str:
        databases = f"{self.databases} databases of " if self.databases > 1 else ""
        return f"{databases}{self.schemas:,} schemas, {self.mode}"


WHOLE = (Shape(1, 1000, "notify"), Shape(1, 1000, "poll"), Shape(50, 20, "notify"))
"""The shapes that have budgets."""


def main() -> int:
    parser = parser_of("bench_tenants")
    parser.add_argument("--databases", type=int, default=1, help="how many (%(default)s)")
    parser.add_argument("--schemas", type=int, help="in each of them; without it, every shape of the budget")
    parser.add_argument("--mode", choices=("notify", "poll"), default="notify", help="capture.mode (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the rest is measured (%(default)s)")
    given = parser.parse_args()
    shapes = WHOLE if given.schemas is None else (Shape(given.databases, given.schemas, given.mode),)
    for shape in shapes:
        settings = {**SETTINGS, "max_locks_per_transaction": "512", "max_connections": "400"}
        with (
            tempfile.TemporaryDirectory(prefix="cdc-sync-tenants-") as folder,
            server(server_binaries(), settings=settings) as own,
            sink() as calls,
        ):
            Bench(shape, own, calls, Path(folder), given.seconds).run()
    return 0


@dataclass(slots=True)
class Bench:
    """One shape on one server."""

    shape: Shape
    server: Server
    calls: Sink
    folder: Path
    seconds: float

    def run(self) -> None:
        say(f"{self.shape}")
        self.create()
        config = self.configure("all", "tenant_%")
        say(f"  configuration              {len(config.read_text().splitlines())} lines")
        if self.shape.mode == "notify":
            self.install(config)
        self.check(config)
        with self.daemon(config) as (daemon, seconds):
            say(f"  start until all captured   {seconds:.1f} s")
            self.rest(daemon)
            among_many = self.clicks(2)
            say(f"  memory                     {psutil.Process(daemon.pid).memory_info().rss / 1e6:.0f} MB")
            quiet, took = self.beside_a_mass_change()
            say(f"  a neighbour sends {_MASS:,} in  {took:.1f} s; clicks meanwhile {self.described(quiet)}")
            assert not daemon.events_named("fuse")
        alone = self.configure("one", r"tenant\_2")
        with self.daemon(alone):
            single = self.clicks(2)
        ratio = median(among_many) / median(single)
        say(f"  commit to call             {self.described(among_many)}; alone {self.described(single)}: {ratio:.2f} ×")

    def create(self) -> None:
        with psycopg.connect(self.server.dsn, autocommit=True) as dba:
            for name in self.shape.names:
                dba.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        for name in self.shape.names:
            dsn = self.server.dsn_for(name)
            create_ats(dsn)
            with psycopg.connect(dsn, autocommit=True) as ats:
                for first in range(1, self.shape.schemas + 1, _AT_ONCE):
                    ats.execute(
                        sql.SQL(_TENANTS).format(
                            first=sql.Literal(first),
                            last=sql.Literal(min(first + _AT_ONCE - 1, self.shape.schemas)),
                            prefix=sql.Literal(f"{name}-"),
                            is_first=sql.Literal(name == self.shape.names[0]),
                            mass=sql.Literal(_MASS),
                            rows=sql.Literal(_ROWS),
                        )
                    )
                ats.execute("VACUUM ANALYZE")

    def configure(self, name: str, schemas: str) -> Path:
        # Watches have the same names for all, since the triggers do.
        several, databases = len(self.shape.names) > 1, self.shape.names if name == "all" else self.shape.names[:1]
        columns = {
            "application_id": "hellowork_id",
            "status": "status",
            "job_id": "job_id",
            "created": "created_at",
            "event_date": "updated_at",
        }
        watch: dict[str, Any] = {
            "for_each": {"schemas": schemas, **({"databases": ["customers"]} if several else {})},
            "table": "applications",
            "key": ["id"],
            "columns": columns,
            "capture": {"mode": self.shape.mode, "watermark": "updated_at", "poll_interval": "10s"},
            "fuse": {"max_changes": 1_000_000},
        }
        group = {"dsn": self.server.dsn_for("NAME").replace("/NAME", "/{database}"), "names": databases}
        alone = {"dsn": self.server.dsn_for(databases[0])}
        document = {
            **({"databases": {"customers": group}} if several else {"database": alone}),
            "hellowork": {"base_url": self.calls.url, "concurrency": 32},
            "state": {"path": str(self.folder / f"{name}.db")},
            "admin": {"listen": f"127.0.0.1:{free_port()}"},
            "log": {"format": "json"},
            "watches": {"applications": watch},
        }
        config = self.folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(document, width=110, default_flow_style=None, sort_keys=False))
        return config

    def install(self, config: Path) -> None:
        begun = time.monotonic()
        for name in self.shape.names:
            chosen = ["--database", name] if len(self.shape.names) > 1 else []
            command = [*COMMAND, "--config", str(config), "sql", "install", *chosen]
            made = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=True)
            with psycopg.connect(self.server.dsn_for(name), autocommit=True) as dba:
                run_script(dba, made.stdout)
        say(f"  sql install, all of them   {time.monotonic() - begun:.1f} s")

    def check(self, config: Path) -> None:
        begun = time.monotonic()
        command = [*COMMAND, "--config", str(config), "check", "--json"]
        made = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=False)
        wrong = [each for each in json.loads(made.stdout) if each["watch"] and each["state"] != "ok"]
        assert not wrong, wrong[0]
        say(f"  check of all of them       {time.monotonic() - begun:.1f} s")

    @contextmanager
    def daemon(self, config: Path) -> Iterator[tuple[DaemonProcess, float]]:
        """A daemon, and the seconds until it captured every tenant."""
        port = int(yaml.safe_load(config.read_text())["admin"]["listen"].rpartition(":")[2])
        begun = time.monotonic()
        daemon = DaemonProcess(["--config", str(config), "run"], {}, self.folder / config.stem, port, admin_token="")
        try:
            daemon.wait_until_ready(PATIENCE)
            yield daemon, time.monotonic() - begun
        finally:
            daemon.stop()

    def rest(self, daemon: DaemonProcess) -> None:
        """Measure the idle daemon and its server."""
        begun = time.monotonic()
        while daemon.get("/metrics")[1].count("\ncdc_sync_sweep_seconds{") < self.shape.tenants:
            assert time.monotonic() < begun + PATIENCE, "the first sweeps take too long"
            time.sleep(5)
        say(f"  the first sweeps           {time.monotonic() - begun:.1f} s more")
        time.sleep(min(self.seconds, 30))
        process, most = psutil.Process(daemon.pid), 0
        with psycopg.connect(self.server.dsn, autocommit=True) as ats:
            begun, ours, theirs = time.monotonic(), cpu_of(process.pid), server_cpu(ats)
            transactions = one(ats, _TRANSACTIONS)
            while time.monotonic() < begun + self.seconds:
                most = max(most, one(ats, _SESSIONS))
                time.sleep(1)
            took = time.monotonic() - begun
            done = one(ats, _TRANSACTIONS) - transactions
            ours, theirs = cpu_of(process.pid) - ours, server_cpu(ats) - theirs
        say(f"  sessions of a database     {most} at most")
        say(f"  at rest, % of a core       daemon {100 * ours / took:.1f}, PostgreSQL {100 * theirs / took:.1f}")
        say(f"  transactions a second      {done / took:.1f}")

    def clicks(self, tenant: int) -> list[float]:
        """Milliseconds from COMMIT to call, of single changes of a tenant."""
        self.calls.reset()
        committed: dict[str, int] = {}
        with psycopg.connect(self.server.dsn_for(self.shape.names[0]), autocommit=True) as ats:
            for number in range(1, _CLICKS + 1):
                committed.update(self.click(ats, tenant, number))
                time.sleep(_BETWEEN_CLICKS)
        self.calls.wait(_CLICKS, PATIENCE)
        return self.delays(committed)

    def click(self, ats: psycopg.Connection[Any], tenant: int, number: int) -> dict[str, int]:
        """Change an application; returns its id and the moment, in nanoseconds."""
        table = sql.Identifier(f"tenant_{tenant}", "applications")
        query = sql.SQL("UPDATE {} SET status = %s, updated_at = now() WHERE id = %s").format(table)
        asked = time.monotonic_ns()
        ats.execute(query, (f"CLICK {asked}", number))
        return {f"{self.shape.names[0]}-{tenant}-{number}": asked}

    def delays(self, committed: dict[str, int]) -> list[float]:
        """Milliseconds until each application's first call."""
        first: dict[str, int] = {}
        for call in self.calls.calls():
            first.setdefault(call.application_id, call.at)
        return [(first[application_id] - at) / 1e6 for application_id, at in committed.items()]

    def beside_a_mass_change(self) -> tuple[list[float], float]:
        """The delays of a tenant's clicks while its neighbour sends 10,000, and the seconds of that."""
        self.calls.reset(_SLOW_ENDPOINT)
        committed: dict[str, int] = {}
        with (
            psycopg.connect(self.server.dsn_for(self.shape.names[0]), autocommit=True) as ats,
            ThreadPoolExecutor(1) as pool,
        ):
            begun = time.monotonic()
            ats.execute("UPDATE tenant_1.applications SET status = 'MASS', updated_at = now()")
            sent = pool.submit(self.calls.wait, _MASS, PATIENCE)
            while len(committed) < _ROWS and not sent.done():
                committed.update(self.click(ats, 3, len(committed) + 1))
                time.sleep(2 * _BETWEEN_CLICKS)
        self.calls.wait(_MASS + len(committed), PATIENCE)
        return self.delays(committed), time.monotonic() - begun

    def described(self, delays: list[float]) -> str:
        return f"p50 {median(delays):.1f} ms, p99 {quantiles(delays, n=100)[98]:.0f} ms"


def server_cpu(ats: psycopg.Connection) -> float:
    """CPU seconds of the server's processes, also of ended ones."""
    postmaster = psutil.Process(ats.info.backend_pid).parent()
    if postmaster is None:
        return 0.0
    ended = postmaster.cpu_times()
    living = sum(cpu_of(child.pid) for child in postmaster.children())
    return cpu_of(postmaster.pid) + ended.children_user + ended.children_system + living


def one(ats: psycopg.Connection, query: str) -> int:
    row = ats.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    sys.exit(main())
