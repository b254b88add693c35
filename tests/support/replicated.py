"""PostgreSQL servers with their own addresses: a primary and standbys, with failover."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cdc_sync.demo import postgres
from support.binaries import server_binaries
from support.machine import NETWORK
from support.postgres import answers
from support.standby import follow
from support.waiting import wait_until

_OLDEST = 130000
"""An older server does not reload `primary_conninfo`."""

_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "dynamic_shared_memory_type": "mmap",
    "unix_socket_directories": "",
    "wal_keep_size": "256MB",
    "max_connections": "100",
    "max_standby_streaming_delay": "-1",
}


class Node:
    """One server; `dsn` is of its database `postgres`, as superuser."""

    def __init__(self, server: postgres.Server, data: Path, address: str) -> None:
        self.address = address
        self.dsn = make_conninfo(host=address, user=postgres.SUPERUSER, dbname="postgres", connect_timeout=5)
        self.data = data
        self.server = server
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {**_SETTINGS, "listen_addresses": self.address}
        self._process = self.server.spawn("postgres", self.data, options)
        wait_until(lambda: answers(self.dsn), f"the server at {self.address} answers")

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it, by default as a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(120)

    def set(self, name: str, value: str) -> None:
        """Change a setting by a reload."""
        statement = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement)
            connection.execute("SELECT pg_reload_conf()")

    def ask(self, query: str) -> object:
        """A query's only value."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
            return None if row is None else row[0]


class Replicated:
    """The present primary and its standbys; made by `replicated`."""

    def __init__(self, primary: Node) -> None:
        self.primary = primary
        self.standbys: list[Node] = []

    def add(self, address: str) -> None:
        data = self.primary.data.parent / f"at-{address}"
        shutil.rmtree(data, ignore_errors=True)
        follow(self.primary.dsn, data, f"host={self.primary.address} user={postgres.SUPERUSER}")
        standby = Node(self.primary.server, data, address)
        self.standbys.append(standby)
        standby.start()

    def wait_for_standbys(self, *, commits: bool) -> None:
        """Wait until every standby streams; with `commits` each commit then waits for them."""
        wanted = len(self.standbys)
        query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        wait_until(lambda: self.primary.ask(query) == wanted, "the standbys stream")
        self.primary.set("synchronous_standby_names", "*" if commits else "")

    async def fail_over(self, seconds_lost: float, seconds_alone: float) -> None:
        """Crash the primary, promote the first standby; the crashed one comes back as a standby.

        Args:
            seconds_lost: lost seconds of commits.
            seconds_alone: seconds without a standby.
        """
        old, new = self.primary, self.standbys.pop(0)
        if seconds_lost:
            old.set("synchronous_standby_names", "")
            new.set("primary_conninfo", "")
            await asyncio.sleep(seconds_lost)
        await asyncio.to_thread(old.stop)
        new.set("synchronous_standby_names", "")
        await asyncio.to_thread(new.ask, "SELECT pg_promote(true, 30)")
        self.primary = new
        await asyncio.sleep(seconds_alone)
        await asyncio.to_thread(self.add, old.address)
        await asyncio.to_thread(lambda: self.wait_for_standbys(commits=True))


@contextmanager
def replicated(addresses: Sequence[str], *, commits_wait: bool) -> Iterator[Replicated]:
    """Run a primary at the first address, standbys at the others."""
    with postgres.server(server_binaries()) as made, replicated_on(made, addresses, commits_wait=commits_wait) as both:
        yield both


@contextmanager
def replicated_on(made: postgres.Server, addresses: Sequence[str], *, commits_wait: bool) -> Iterator[Replicated]:
    """The same with a server's data; it is stopped, since it listens elsewhere."""
    made.stop()
    data = made.folder / "data"
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all,replication all {NETWORK} trust\n")
    cluster = Replicated(Node(made, data, addresses[0]))
    try:
        cluster.primary.start()
        if int(str(cluster.primary.ask("SHOW server_version_num"))) < _OLDEST:
            raise RuntimeError("several hosts want PostgreSQL 13 or newer")
        for address in addresses[1:]:
            cluster.add(address)
        if cluster.standbys:
            cluster.wait_for_standbys(commits=commits_wait)
        yield cluster
    finally:
        for node in (*cluster.standbys, cluster.primary):
            node.stop()
