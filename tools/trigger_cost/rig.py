"""The site: a server, three tables, two with triggers, a daemon, HelloWork's emulator."""

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import yaml
from psycopg import sql
from support.daemon_process import DaemonProcess, free_port
from support.hellowork_server import hellowork

from cdc_sync.ats import scripts
from cdc_sync.ats.granting import grants
from cdc_sync.config import load
from cdc_sync.demo.postgres import Binaries, Server
from cdc_sync.demo.postgres import server as postgres_server
from cdc_sync.emulator import EmulatorOptions
from trigger_cost.workloads import VARIANTS

UNIT = Path(__file__).parents[2] / "systemd" / "cdc-sync.service"

_ATS, _DAEMON = "ats", "cdc_sync"
_PATIENCE = 600.0
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Rig:
    """Made by `rig()`.

    Attributes:
        folder: for scripts; temporary.
        server: under test.
        dba: the superuser's session.
        daemon: at work.
    """

    folder: Path
    server: Server
    dba: psycopg.Connection[Any]
    daemon: DaemonProcess

    @property
    def ats_dsn(self) -> str:
        return self.server.dsn_for("postgres", _ATS)

    def settle(self) -> None:
        """Wait for an idle daemon and tables without dead rows or dirty pages."""
        self.daemon.wait_until(self._is_caught_up, "the daemon to catch up", _PATIENCE)
        for variant in VARIANTS:
            self.dba.execute(sql.SQL("VACUUM {}").format(sql.Identifier("public", variant)))
        self.dba.execute("VACUUM cdc_sync.changes")
        self.dba.execute("CHECKPOINT")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Stop the daemon; the bell stays as it is."""
        os.kill(self.daemon.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.daemon.pid, signal.SIGCONT)

    def forget(self) -> None:
        """Empty the log, which would keep the daemon busy for long."""
        self.dba.execute("TRUNCATE cdc_sync.changes")

    def ats_cpu(self) -> float:
        """CPU seconds of the ATS's sessions, when all have ended."""
        process = psutil.Process(self.server.pid)
        _wait(lambda: not _sessions_of(process, _ATS), "the ATS's sessions to end")
        times = process.cpu_times()
        return float(times.children_user + times.children_system)

    def check_recorded(self, expected: int) -> None:
        """Fail unless the log received exactly so many changes, and missed none."""
        # Before version 15 statistics come with a delay.
        _wait(lambda: self._inserted() >= expected, f"{expected} changes to be recorded")
        assert self._inserted() == expected, f"{self._inserted()} changes were recorded, not {expected}"
        for variant in VARIANTS[1:]:
            missed = sql.Identifier("cdc_sync", f"missed_{variant}")
            assert not self._one(sql.SQL("SELECT is_called FROM {}").format(missed)), (
                f"the triggers missed changes: {missed}"
            )

    def facts(self) -> dict[str, str]:
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "max_wal_size")
        return {name: str(self._one(sql.SQL("SHOW {}").format(sql.Identifier(name)))) for name in names}

    def _is_caught_up(self) -> bool:
        log_is_empty = not self._one(sql.SQL("SELECT EXISTS (SELECT FROM cdc_sync.changes)"))
        is_armed = self._one(
            sql.SQL("SELECT last_value > extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell_rung")
        )
        return bool(
            log_is_empty and is_armed and not any(watch["pending"] for watch in self.daemon.report()["watches"])
        )

    def _inserted(self) -> int:
        return int(
            self._one(sql.SQL("SELECT n_tup_ins FROM pg_stat_all_tables WHERE relid = 'cdc_sync.changes'::regclass"))
        )

    def _one(self, query: sql.SQL | sql.Composed) -> Any:
        row = self.dba.execute(query).fetchone()
        assert row is not None
        return row[0]


@contextmanager
def rig(binaries: Binaries, rows: int, *, fsync: bool) -> Iterator[Rig]:
    """Set it all up.

    Raises:
        PostgresFailedError: the server could not be started.
    """
    # By default the launcher's servers do not wait for the disk.
    settings = {"fsync": "on" if fsync else "off"}
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres_server(binaries, settings=settings) as server,
        psycopg.connect(server.dsn, autocommit=True) as dba,
        hellowork(EmulatorOptions()) as emulator,
    ):
        document = _document(server.dsn_for("postgres", _DAEMON), emulator.url, Path(folder))
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(document))
        dba.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(_ATS)))
        dba.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(_DAEMON)))
        template = sql.SQL((Path(__file__).parent / "tables.sql").read_text(encoding="utf-8"))
        for variant in VARIANTS:
            table = sql.Identifier("public", variant)
            dba.execute(template.format(table=table, name=sql.Literal(variant), rows=sql.Literal(rows)))
        loaded = load(config, {})
        dba.execute(scripts.install(loaded).encode())
        dba.execute(grants(loaded, _DAEMON).encode())
        port = int(document["admin"]["listen"].rpartition(":")[2])
        arguments = ["--config", str(config), "run"]
        daemon = DaemonProcess(arguments, {}, Path(folder) / "daemon", port, admin_token="")
        # At once: new threads inherit it.
        os.setpriority(os.PRIO_PROCESS, daemon.pid, _niceness())
        try:
            daemon.wait_until_ready(_PATIENCE)
            yield Rig(Path(folder), server, dba, daemon)
        finally:
            daemon.kill()


def _niceness() -> int:
    """As the service runs it."""
    found = re.search(r"^Nice=(\d+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{UNIT} has no Nice="
    return int(found[1])


def _document(dsn: str, hellowork_url: str, folder: Path) -> dict[str, Any]:
    columns = {
        "application_id": "hellowork_id",
        "status": "status",
        "job_id": "job_id",
        "created": "created_at",
        "event_date": "updated_at",
        "source": "source",
        "deleted": "deleted_at",
    }
    watches = {
        name: {
            "table": f"public.{name}",
            "key": ["id"],
            "columns": columns,
            # Sweeps are no cost of triggers.
            "capture": {"mode": "notify", "wakeup": wakeup, "sweep": "1d"},
        }
        for name, wakeup in (("rung", "notify"), ("unrung", "none"))
    }
    return {
        "database": {"dsn": dsn},
        "hellowork": {"base_url": hellowork_url},
        "state": {"path": str(folder / "state.db")},
        "admin": {"listen": f"127.0.0.1:{free_port()}"},
        "log": {"format": "json"},
        "watches": watches,
    }


def _sessions_of(server: psutil.Process, role: str) -> list[psutil.Process]:
    # A zombie has no title; its time is not counted yet.
    return [
        each for each in server.children() if (title := _title(each)) == "" or title.startswith(f"postgres: {role} ")
    ]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.ZombieProcess:
        return ""
    except psutil.NoSuchProcess:
        return "gone"


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for {what}"
        time.sleep(_PAUSE)
