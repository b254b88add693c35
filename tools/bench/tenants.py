"""What many customers in one daemon cost: sessions, memory, CPU at rest, the start, turns at the sender.

Each customer has a schema with 100 applications, the first one 10,000, for a mass change. Afterwards a single watch is
measured on the same server.
"""

import subprocess
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
from psycopg import sql
from support.daemon_process import COMMAND, DaemonProcess, environment, free_port
from support.postgres import SETTINGS, create_ats

from bench.figures import Figure, at_most, beside, ratio_at_most
from bench.options import Options
from bench.sink import Sink
from bench.site import PATIENCE, Rig, cpu_of, used_below
from cdc_sync.demo.postgres import Server, server

_MASS = 10_000
"""Applications of the first tenant, all of which change at once."""

_ROWS = 100
"""Applications of every other one."""

_AT_ONCE = 50
"""Schemas made in one transaction: each holds locks until its end."""

_PAUSE = 0.05
_SLOW_ENDPOINT = 0.02
"""Seconds that the endpoint takes while a neighbour sends."""

_SERVER = {**SETTINGS, "max_locks_per_transaction": "512", "max_connections": "400"}

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

_COLUMNS = {
    "application_id": "hellowork_id",
    "status": "status",
    "job_id": "job_id",
    "created": "created_at",
    "event_date": "updated_at",
}


@dataclass(frozen=True, slots=True)
class _Shape:
    """Databases of so many schemas each."""

    databases: int
    schemas: int
    mode: str

    @property
    def names(self) -> list[str]:
        return [f"ats_{number}" for number in range(1, self.databases + 1)]

    def __str__(self) -> str:
        databases = f"{self.databases} databases of " if self.databases > 1 else ""
        return f"{databases}{self.schemas:,} schemas, {self.mode}"


def tenants(rig: Rig, options: Options) -> Iterator[Figure]:
    """All customers in one database, by notify and by poll; and the same number in several databases."""
    several = max(options.tenants // 20, 2)
    for shape in (
        _Shape(1, options.tenants, "notify"),
        _Shape(1, options.tenants, "poll"),
        _Shape(several, options.tenants // several, "notify"),
    ):
        with (
            tempfile.TemporaryDirectory(prefix="cdc-sync-tenants-") as folder,
            server(rig.binaries, settings=_SERVER) as own,
        ):
            yield from _Measured(shape, own, rig.sink, Path(folder), options).figures()


@dataclass(slots=True)
class _Measured:
    """One shape on one server."""

    shape: _Shape
    server: Server
    calls: Sink
    folder: Path
    options: Options

    def figures(self) -> Iterator[Figure]:
        self.create()
        config = self.configure("all", "tenant_%")
        yield self.figure("lines of YAML", "lines", len(config.read_text().splitlines()), 40)
        if self.shape.mode == "notify":
            yield self.figure("`sql install` for all of them", "s", self.install(config))
        with self.daemon(config) as (daemon, seconds):
            yield self.figure("start until all are captured", "s", seconds, 60)
            yield from self.rest(daemon)
            among_many = self.clicks(2)
            quiet = self.beside_a_mass_change()
            yield self.figure("p99 of a quiet customer while another one sends many", "ms", _p99(quiet), 1_000)
        with self.daemon(self.configure("one", r"tenant\_2")):
            alone = self.clicks(2)
        measure = f"{self.shape}: commit to call, beside a single watch"
        yield beside(measure, "ms", [(median(among_many), median(alone))], ratio_at_most(2.5, 2.5))

    def figure(self, measure: str, unit: str, value: float, most: float | None = None) -> Figure:
        return Figure(f"{self.shape}: {measure}", unit, value, budget=None if most is None else at_most(most))

    def create(self) -> None:
        with psycopg.connect(self.server.dsn, autocommit=True) as dba:
            for name in self.shape.names:
                dba.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        for name in self.shape.names:
            create_ats(self.server.dsn_for(name))
            with psycopg.connect(self.server.dsn_for(name), autocommit=True) as ats:
                for first in range(1, self.shape.schemas + 1, _AT_ONCE):
                    values = {
                        "first": first,
                        "last": min(first + _AT_ONCE - 1, self.shape.schemas),
                        "prefix": f"{name}-",
                        "is_first": name == self.shape.names[0],
                        "mass": _MASS,
                        "rows": _ROWS,
                    }
                    literals = {key: sql.Literal(value) for key, value in values.items()}
                    ats.execute(sql.SQL(_TENANTS).format(**literals))
                ats.execute("VACUUM ANALYZE")

    def configure(self, name: str, schemas: str) -> Path:
        # Watches have the same names for all, since the triggers do.
        several, databases = len(self.shape.names) > 1, self.shape.names if name == "all" else self.shape.names[:1]
        watch: dict[str, Any] = {
            "for_each": {"schemas": schemas, **({"databases": ["customers"]} if several else {})},
            "table": "applications",
            "key": ["id"],
            "columns": _COLUMNS,
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

    def install(self, config: Path) -> float:
        """Have a DBA install the triggers; returns the seconds."""
        begun = time.monotonic()
        for name in self.shape.names:
            chosen = ["--database", name] if len(self.shape.names) > 1 else []
            script = ["sql", "install", *chosen, "--apply", "--dsn", self.server.dsn_for(name)]
            subprocess.run([*COMMAND, "--config", str(config), *script], env=environment({}), check=True)
        return time.monotonic() - begun

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

    def rest(self, daemon: DaemonProcess) -> Iterator[Figure]:
        """The idle daemon and its server, once each tenant was swept."""
        daemon.wait_until(lambda: _rests(daemon), "the end of the first sweeps", PATIENCE)
        seconds = self.options.rest
        time.sleep(seconds / 2)
        most, begun = 0, time.monotonic()
        ours, theirs = cpu_of(daemon.pid), used_below(psutil.Process(self.server.pid))
        with psycopg.connect(self.server.dsn, autocommit=True) as dba:
            while time.monotonic() < begun + seconds:
                most = max(most, _one(dba, _SESSIONS))
                time.sleep(1)
        took = (time.monotonic() - begun) / 100
        ours, theirs = cpu_of(daemon.pid) - ours, used_below(psutil.Process(self.server.pid)) - theirs
        yield self.figure("sessions of a database", "sessions", most, 6)
        yield self.figure("resident memory", "MB", psutil.Process(daemon.pid).memory_info().rss / 1e6, 250)
        yield self.figure("CPU at rest, daemon", "% of a core", ours / took, 4)
        yield self.figure("CPU at rest, PostgreSQL", "% of a core", theirs / took)

    def clicks(self, tenant: int) -> list[float]:
        """Milliseconds from COMMIT to call, of single changes of a tenant."""
        self.calls.reset()
        committed: dict[str, int] = {}
        with self.first_database() as ats:
            for number in range(1, _ROWS + 1):
                committed.update(self.click(ats, tenant, number))
                time.sleep(_PAUSE)
        self.calls.wait(_ROWS, PATIENCE)
        return self.delays(committed)

    def beside_a_mass_change(self) -> list[float]:
        """The delays of a tenant's clicks while its neighbour sends many."""
        self.calls.reset(_SLOW_ENDPOINT)
        committed: dict[str, int] = {}
        with self.first_database() as ats, ThreadPoolExecutor(1) as pool:
            ats.execute("UPDATE tenant_1.applications SET status = 'MASS', updated_at = now()")
            sent = pool.submit(self.calls.wait, _MASS, PATIENCE)
            while len(committed) < _ROWS and not sent.done():
                committed.update(self.click(ats, 3, len(committed) + 1))
                time.sleep(2 * _PAUSE)
        self.calls.wait(_MASS + len(committed), PATIENCE)
        return self.delays(committed)

    def first_database(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.dsn_for(self.shape.names[0]), autocommit=True)

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


def _rests(daemon: DaemonProcess) -> bool:
    """Whether it needs less than a tenth of a core."""
    before = cpu_of(daemon.pid)
    time.sleep(2)
    return cpu_of(daemon.pid) - before < 0.2


def _p99(delays: list[float]) -> float:
    return quantiles(delays, n=100, method="inclusive")[98]


def _one(dba: psycopg.Connection[Any], query: str) -> int:
    row = dba.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])
