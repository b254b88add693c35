"""What the triggers cost those who write nothing: a bulk update must not slow or cancel a standby's sessions."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import psycopg
from bench.triggers import ids_of_a_bulk, watched_server
from support.binaries import server_binaries
from support.standby import Standby, standby_of

_STREAMS = {"wal_level": "replica", "autovacuum_naptime": "1s"}


@contextmanager
def _impatient(of: AbstractContextManager[Standby], dba: psycopg.Connection[Any]) -> Iterator[Standby]:
    """A standby that cancels what is in the way at once; it has the settings of its primary."""
    dba.execute("ALTER SYSTEM SET max_standby_streaming_delay = '100ms'")
    with of as standby:
        yield standby


def test_a_bulk_takes_two_transaction_ids() -> None:
    paid = ids_of_a_bulk(server_binaries(), 2_000)

    assert (paid.bare, paid.value) == (1, 2)


def test_a_standby_cancels_no_lock_for_the_log() -> None:
    with (
        watched_server(server_binaries(), 1_000, _STREAMS) as (server, dba),
        _impatient(standby_of(server), dba) as standby,
        closing(psycopg.connect(standby.dsn, autocommit=True)) as dump,
    ):
        dump.execute("BEGIN; LOCK TABLE public.watched, cdc_sync.changes IN ACCESS SHARE MODE")
        ends = time.monotonic() + 5
        while time.monotonic() < ends:  # some turns of autovacuum
            dba.execute("UPDATE public.watched SET status = random()::text")
            dba.execute("DELETE FROM cdc_sync.changes")
        position = dba.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        with psycopg.connect(standby.dsn, autocommit=True) as reader:
            while reader.execute("SELECT pg_last_wal_replay_lsn() < %s::pg_lsn", position).fetchone() == (True,):
                time.sleep(0.05)
        dump.execute("SELECT count(*) FROM cdc_sync.changes; COMMIT")
