"""The PostgreSQL of a test run: one server, found or started, and a database per test from a template.

The server may be any from PostgreSQL 10 on.
"""

import atexit
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cdc_sync.demo.postgres import server
from support.binaries import server_binaries
from support.daemon_process import free_port

RUNNING_SERVER = "CDC_SYNC_TEST_DSN"
SETTINGS: Mapping[str, str] = {
    "max_connections": "200",
    "wal_level": "logical",
    "password_encryption": "scram-sha-256",  # the default since PostgreSQL 14
    "full_page_writes": "off",  # for a machine that loses its power, as `fsync`
}

_ATS = (Path(__file__).parent / "ats.sql").read_text()
_DROPS_WITH_FORCE = 130000
_HAS_STRATEGIES = 150000


def on_loopback() -> Mapping[str, str]:
    """A server's settings to listen on TCP, too."""
    return {"listen_addresses": "127.0.0.1", "port": str(free_port())}


@dataclass(frozen=True, slots=True)
class Cluster:
    """The server of this test run.

    Attributes:
        dsn: of its maintenance database, as superuser.
        template: the database that holds the ATS's schema, for others to be copied from.
    """

    dsn: str
    template: str


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Use the server of `$CDC_SYNC_TEST_DSN`, else start one; make the template."""
    given = os.environ.get(RUNNING_SERVER)
    if given:
        with _with_template(given) as cluster:
            yield cluster
    else:
        with server(server_binaries(), settings=SETTINGS) as own, _with_template(own.dsn) as cluster:
            yield cluster


@contextmanager
def fresh_database(cluster: Cluster) -> Iterator[str]:
    """Yield the DSN of a copy of the template; drop it afterwards, whoever is still connected."""
    name = f"cdc_sync_test_{uuid.uuid4().hex[:12]}"
    connection = _administration(cluster.dsn)
    # The default since 15 writes each page into the log: three times the CPU.
    how = sql.SQL("STRATEGY file_copy" if connection.info.server_version >= _HAS_STRATEGIES else "")
    connection.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} {}").format(sql.Identifier(name), sql.Identifier(cluster.template), how)
    )
    try:
        yield make_conninfo(cluster.dsn, dbname=name)
    finally:
        _drop(cluster.dsn, name)


def create_ats(dsn: str) -> None:
    """Create the ATS's schema, as in the template, in another database."""
    with psycopg.connect(dsn) as connection:
        connection.execute(_ATS.encode())


def answers(dsn: str) -> bool:
    """Whether a server lets us in."""
    with suppress(psycopg.OperationalError), psycopg.connect(dsn):
        return True
    return False


@contextmanager
def _with_template(dsn: str) -> Iterator[Cluster]:
    # Its name is this run's own: several may use one server.
    cluster = Cluster(dsn, f"cdc_sync_template_{uuid.uuid4().hex[:12]}")
    _administration(dsn).execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(cluster.template)))
    try:
        create_ats(make_conninfo(dsn, dbname=cluster.template))
        yield cluster
    finally:
        _drop(dsn, cluster.template)


def _drop(dsn: str, database: str) -> None:
    connection, force = _administration(dsn), sql.SQL("WITH (FORCE)")
    if connection.info.server_version < _DROPS_WITH_FORCE:
        # DROP DATABASE itself waits some seconds for those who have been told to leave.
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
        force = sql.SQL("")
    connection.execute(sql.SQL("DROP DATABASE {} {}").format(sql.Identifier(database), force))


_administrations: dict[str, psycopg.Connection] = {}
"""This process's session with each server, by its DSN: a new one takes a fifth of a database's CPU."""


def _administration(dsn: str) -> psycopg.Connection:
    if (session := _administrations.get(dsn)) is not None:
        with suppress(psycopg.OperationalError):  # a test has ended it
            session.execute("SELECT")
            return session
    _administrations[dsn] = session = psycopg.connect(dsn, autocommit=True)
    atexit.register(session.close)
    return session
