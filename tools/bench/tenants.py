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
from statistics import median

import psutil
import psycopg
from psycopg import sql
from support.daemon_process import COMMAND, DaemonProcess, environment, free_port
from support.postgres import SETTINGS, create_ats

from bench.calls import p99
from bench.figures import Figure, beside
from bench.sink import Sink
from bench.site import PATIENCE, TENANTS, Options, Rig, cpu_of, used_below
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

_CONFIG = Path(__file__).with_name("tenants.yaml").read_text(encoding="utf-8")
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cdc-sync'"


def tenants(rig: Rig, options: Options) -> Iterator[Figure]:
    """All customers in one database, by notify and by poll."""
    for mode in ("notify", "poll"):
        with (
            tempfile.TemporaryDirectory(prefix="cdc-sync-tenants-") as folder,
            server(rig.binaries, settings=_SERVER) as own,
        ):
            yield from _Measured(mode, own, rig.sink, Path(folder), options).figures()


@dataclass(slots=True)
class _Measured:
    """One mode on one server."""

    mode: str
    server: Server
    calls: Sink
    folder: Path
    options: Options

    def figures(self) -> Iterator[Figure]:
        self.create()
        if self.mode == "notify":
            yield self.figure("`sql install` for all of them", "s", self.install())
        with self.daemon("tenant_%") as (daemon, seconds):
            yield self.figure("start until all are captured", "s", seconds, 60)
            yield from self.rest(daemon)
            among_many = self.clicks()
            quiet = self.beside_a_mass_change()
            yield self.figure("p99 of a quiet customer while another one sends many", "ms", p99(quiet), 1_000)
        with self.daemon(r"tenant\_2"):
            found = median(among_many), median(self.clicks())
        yield beside(f"{self}: commit to call, beside a single watch", "ms", [found], "ratio ≤ 2.5")

    def __str__(self) -> str:
        return f"{self.options.tenants:,} schemas, {self.mode}"

    def figure(self, measure: str, unit: str, value: float, most: float | None = None) -> Figure:
        return Figure(f"{self}: {measure}", unit, value, budget="" if most is None else f"value ≤ {most}")

    def create(self) -> None:
        create_ats(self.server.dsn)
        with psycopg.connect(self.server.dsn, autocommit=True) as ats:
            for first in range(1, self.options.tenants + 1, _AT_ONCE):
                last = min(first + _AT_ONCE - 1, self.options.tenants)
                ats.execute(TENANTS.format(first=first, last=last, mass=_MASS, rows=_ROWS))
            ats.execute("VACUUM ANALYZE")

    def configure(self, schemas: str, port: int) -> Path:
        """The configuration for some schemas; their watches have the same names as all, since the triggers do."""
        config = self.folder / "config.yaml"
        store = self.folder / f"state-{port}.db"
        places = {"dsn": self.server.dsn, "hellowork": self.calls.url, "store": store, "port": port}
        config.write_text(_CONFIG.format(**places, schemas=schemas, mode=self.mode))
        return config

    def install(self) -> float:
        """Have a DBA install the triggers; returns the seconds."""
        config, begun = self.configure("tenant_%", free_port()), time.monotonic()
        script = ["sql", "install", "--apply", "--dsn", self.server.dsn]
        subprocess.run([*COMMAND, "--config", str(config), *script], env=environment({}), check=True)
        return time.monotonic() - begun

    @contextmanager
    def daemon(self, schemas: str) -> Iterator[tuple[DaemonProcess, float]]:
        """A daemon, and the seconds until it captured every tenant."""
        port, begun = free_port(), time.monotonic()
        arguments = ["--config", str(self.configure(schemas, port)), "run"]
        daemon = DaemonProcess(arguments, {}, self.folder / "daemon", port, admin_token="")
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
                most = max(most, dba.execute(_SESSIONS).fetchall()[0][0])
                time.sleep(1)
        took = (time.monotonic() - begun) / 100
        ours, theirs = cpu_of(daemon.pid) - ours, used_below(psutil.Process(self.server.pid)) - theirs
        yield self.figure("sessions of a database", "sessions", most, 6)
        yield self.figure("resident memory", "MB", psutil.Process(daemon.pid).memory_info().rss / 1e6, 250)
        yield self.figure("CPU at rest, daemon", "% of a core", ours / took, 4)
        yield self.figure("CPU at rest, PostgreSQL", "% of a core", theirs / took)

    def clicks(self) -> list[float]:
        """Milliseconds from COMMIT to call, of single changes of a tenant."""
        self.calls.reset()
        committed: dict[str, int] = {}
        with psycopg.connect(self.server.dsn, autocommit=True) as ats:
            for number in range(1, _ROWS + 1):
                committed[f"2-{number}"] = _click(ats, 2, number)
                time.sleep(_PAUSE)
        self.calls.wait(_ROWS, PATIENCE)
        return self.delays(committed)

    def beside_a_mass_change(self) -> list[float]:
        """The delays of a tenant's clicks while its neighbour sends many."""
        self.calls.reset(_SLOW_ENDPOINT)
        committed: dict[str, int] = {}
        with psycopg.connect(self.server.dsn, autocommit=True) as ats, ThreadPoolExecutor(1) as pool:
            ats.execute("UPDATE tenant_1.applications SET status = 'MASS', updated_at = now()")
            sent = pool.submit(self.calls.wait, _MASS, PATIENCE)
            while len(committed) < _ROWS and not sent.done():
                number = len(committed) + 1
                committed[f"3-{number}"] = _click(ats, 3, number)
                time.sleep(2 * _PAUSE)
        self.calls.wait(_MASS + len(committed), PATIENCE)
        return self.delays(committed)

    def delays(self, committed: dict[str, int]) -> list[float]:
        """Milliseconds until each application's first call."""
        first: dict[str, int] = {}
        for application_id, at in self.calls.calls():
            first.setdefault(application_id, at)
        return [(first[application_id] - at) / 1e6 for application_id, at in committed.items()]


def _click(ats: psycopg.Connection[tuple[object, ...]], tenant: int, number: int) -> int:
    """Change an application; returns the moment, in nanoseconds."""
    table = sql.Identifier(f"tenant_{tenant}", "applications")
    query = sql.SQL("UPDATE {} SET status = %s, updated_at = now() WHERE id = %s").format(table)
    asked = time.monotonic_ns()
    ats.execute(query, (f"CLICK {asked}", number))
    return asked


def _rests(daemon: DaemonProcess) -> bool:
    """Whether it needs less than a tenth of a core."""
    before = cpu_of(daemon.pid)
    time.sleep(2)
    return cpu_of(daemon.pid) - before < 0.2
