"""What a session of ours holds ends when its process is stopped: the server ends it, since nobody else can."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from support.binaries import server_binaries
from support.postgres import by_tcp, on_loopback
from support.sessions import one
from support.waiting import wait_until

from cdc_sync.ats.connection import connected, pooled
from cdc_sync.config import sessions
from cdc_sync.demo.postgres import server
from cdc_sync.store.postgres.schema import connect

_READER = """
import asyncio, sys
from cdc_sync.config import sessions
sessions.USER_TIMEOUT = 3.0
from cdc_sync.ats.connection import connected

async def main():
    async with connected(sys.argv[1]) as connection:
        await connection.execute("SELECT repeat('x', 1000000) FROM public.applications, generate_series(1, 64)")

asyncio.run(main())
"""
_WRITES = """
SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cdc-sync' AND wait_event = 'ClientWrite'
"""


@contextmanager
def stopped_reader(dsn: str) -> Iterator[None]:
    """A process with a connection of ours, stopped while an answer is on its way that fits in no buffer."""
    process = subprocess.Popen([sys.executable, "-c", _READER, dsn])
    try:
        with psycopg.connect(dsn, autocommit=True) as ats:
            wait_until(
                lambda: one(ats, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT repeat(%'"), "it"
            )
            os.kill(process.pid, signal.SIGSTOP)
            wait_until(lambda: one(ats, _WRITES), "the answer to be stuck")
        yield
    finally:
        process.kill()
        process.wait()


def test_a_migration_does_not_wait_for_a_process_that_is_stopped_in_mid_answer() -> None:
    with server(server_binaries(), on_loopback()) as own:
        dsn = by_tcp(own)
        with psycopg.connect(dsn, autocommit=True) as ats:
            if ats.info.server_version < 120000:
                pytest.skip("PostgreSQL has tcp_user_timeout since 12")
            ats.execute("CREATE TABLE public.applications AS SELECT 1 AS id")
            with stopped_reader(dsn):
                ats.execute("SET lock_timeout = '30s'")
                ats.execute("ALTER TABLE public.applications ADD COLUMN more text")


async def test_every_session_sets_what_lets_the_server_end_it(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as ats:
        ats.execute(sql.SQL("ALTER DATABASE {} SET statement_timeout = 0").format(sql.Identifier(ats.info.dbname)))
        version = ats.info.server_version
    expected = {
        "idle_in_transaction_session_timeout": "20s",
        "statement_timeout": "330s",
        "default_transaction_isolation": "read committed",
    }
    names = list(expected)

    async def settings(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> dict[str, object]:
        query = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
        return dict(await (await connection.execute(query, (names,))).fetchall())  # type: ignore[arg-type]

    async with connected(database) as alone, pooled(database) as pool, pool.connection() as shared:
        assert await settings(alone) == expected
        assert await settings(shared) == expected
    async with await connect(database) as store:
        # It may have to migrate, which takes as long as it takes.
        assert await settings(store) == {**expected, "statement_timeout": "0"}
    # A unix socket does not show these.
    sent = sessions.session_settings(version)
    assert b"set_config('tcp_keepalives_idle', '20', false)" in sent
    assert (b"set_config('tcp_user_timeout', '30s', false)" in sent) == (version >= 120000)
