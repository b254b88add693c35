"""What a session of ours holds ends when its process is stopped: the server ends it, since nobody else can."""

import psycopg
from psycopg import sql

from cdc_sync.ats.connection import connected, pooled
from cdc_sync.config import sessions
from cdc_sync.store.postgres.schema import connect


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
