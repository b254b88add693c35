"""A hot standby of a test's own server, in the server's private folder.

It is copied through the server's backup functions, since not every build of PostgreSQL has pg_basebackup.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from cdc_sync.demo.postgres import Server
from support.postgres import SETTINGS, answers
from support.sessions import one
from support.waiting import wait_until

_PORT = 5433
"""Only names its socket, which is beside the server's own."""

_BACKUP = (b"SELECT pg_backup_start('standby', true)", "SELECT labelfile FROM pg_backup_stop(false)")
_BACKUP_BEFORE = (b"SELECT pg_start_backup('standby', true, false)", "SELECT labelfile FROM pg_stop_backup(false)")
_BACKUP_FUNCTIONS_RENAMED = 150000
_RECOVERY_SETTINGS = 120000
"""Before, recovery had a file of its own instead of settings."""


@dataclass(frozen=True, slots=True)
class Standby:
    """A running standby; made by `standby_of`."""

    dsn: str
    _primary: Server
    _data: Path

    def stop(self) -> None:
        """End it as a machine that is switched off; for good."""
        self._run("stop", "-m", "immediate")

    def catch_up(self) -> None:
        """Wait until it has what was committed on the primary, also by commits that waited for no disk."""
        with psycopg.connect(self._primary.dsn, autocommit=True) as primary:
            position = one(primary, "SELECT pg_current_wal_insert_lsn()")
        with psycopg.connect(self.dsn, autocommit=True) as here:
            replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            wait_until(lambda: one(here, replayed, [position]), "the standby has caught up")

    def promote(self) -> None:
        self._run("promote")
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            wait_until(lambda: not one(connection, "SELECT pg_is_in_recovery()"), "the standby is promoted")

    def _run(self, *arguments: str) -> None:
        process = self._primary.spawn("pg_ctl", self._data, {}, *arguments)
        assert process.wait(120) == 0, self._primary.log()


@contextmanager
def standby_of(server: Server, port: int = _PORT) -> Iterator[Standby]:
    """Copy the server, follow it, and yield the copy; a second one needs another port."""
    data = server.folder / f"standby-{port}"
    follow(server.dsn, data, make_conninfo(host=str(server.folder), user="postgres"))
    options = {
        # A standby must have room for as many connections as its primary.
        **SETTINGS,
        "unix_socket_directories": str(server.folder),
        "listen_addresses": "",
        "port": str(port),
        "fsync": "off",
    }
    # The server knows whom to run it as.
    process = server.spawn("postgres", data, options)
    dsn = make_conninfo(server.dsn, port=port)
    try:
        wait_until(lambda: answers(dsn), "the standby answers")
        yield Standby(dsn, server, data)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def follow(dsn: str, data: Path, primary: str) -> None:
    """Copy the data of a running server, to be started as its standby.

    Args:
        dsn: of the server, as superuser.
        data: the folder that is made.
        primary: the standby's `primary_conninfo`.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        version = connection.info.server_version
        begin, end = _BACKUP if version >= _BACKUP_FUNCTIONS_RENAMED else _BACKUP_BEFORE
        connection.execute(begin)
        source = Path(one(connection, "SHOW data_directory"))
        # The log comes by streaming, from the backup's beginning on.
        ignored = shutil.ignore_patterns("postmaster.*", "pg_wal", "pgsql_tmp*", "pg_internal.init")
        shutil.copytree(source, data, ignore=ignored, copy_function=_copy_file)
        (data / "pg_wal").mkdir()
        label = one(connection, end)
    (data / "backup_label").write_text(label)
    recovery = f"primary_conninfo = '{primary}'\n"
    if version >= _RECOVERY_SETTINGS:
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(recovery)
        (data / "standby.signal").touch()
    else:
        (data / "recovery.conf").write_text(f"standby_mode = 'on'\n{recovery}")
    _hand_over(data, source.stat())


def _copy_file(source: str, target: str) -> None:
    # A running server may remove a file meanwhile; what matters of it, the log has.
    with suppress(FileNotFoundError):
        shutil.copyfile(source, target)


def _hand_over(data: Path, like: os.stat_result) -> None:
    """Give the copy to whom the original belongs."""
    for path in (data, *data.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.chown(path, like.st_uid, like.st_gid)
