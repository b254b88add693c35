"""Connections read at READ COMMITTED, whatever isolation the role or the database has sessions begin with."""

import pytest
from psycopg.conninfo import make_conninfo
from support.builders import WATCH
from support.log_batches import batch
from support.sessions import Ats, one, run
from support.watch_session import session
from support.watched import a_config, install_triggers

from cdc_sync.ats.connection import Connection, connected, pooled
from cdc_sync.ats.notify import ChangeLog

SERIALIZABLE = (
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable',"
    " current_database()); END $$"
)

_SERIALIZABLE_READS = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database"
    " WHERE mode = 'SIReadLock' AND datname = current_database()"
)


async def isolation_of(connection: Connection) -> str:
    ((level,),) = await (await connection.execute("SELECT current_setting('transaction_isolation')")).fetchall()
    return str(level)


@pytest.mark.parametrize("options", ["", "-c default_transaction_isolation=serializable"])
async def test_every_connection(database: str, ats: Ats, options: str) -> None:
    run(ats, SERIALIZABLE)
    install_triggers(ats, a_config())
    dsn = make_conninfo(database, options=options)

    async with connected(dsn) as alone, session(dsn, WATCH) as lasting, pooled(dsn) as pool:
        assert await isolation_of(alone) == "read committed"
        assert await isolation_of(lasting.connection) == "read committed"
        async with pool.connection() as shared:
            assert await isolation_of(shared) == "read committed"
        async with batch(ChangeLog(pool, WATCH), 1):
            assert one(ats, _SERIALIZABLE_READS) == 0
