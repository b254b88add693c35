"""A database that cannot be reached, or does not let us in: who can mend it, and how."""

import pytest
from psycopg.conninfo import make_conninfo
from support.sessions import one, sessions

from cdc_sync.ats.connection import connected
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.facts import server_facts
from cdc_sync.demo.postgres import Server

SECRET = "hunter2 p%40ss"


async def complaint(dsn: str) -> SourceError:
    with pytest.raises(SourceError) as raised:
        async with connected(dsn):
            pass
    assert "hunter2" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:hunter2@[host/ats",
        "hunter2",
    ],
)
async def test_a_text_that_is_no_dsn(dsn: str) -> None:
    error = await complaint(dsn)

    assert error.kind == "misconfigured"
    assert str(error).startswith("The connection string: ")


async def test_a_port_where_nobody_listens() -> None:
    error = await complaint(f"host=127.0.0.1 port=1 dbname=ats password='{SECRET}' connect_timeout=2")

    assert error.kind == "unreachable"
    assert "Connection refused" in str(error)


async def test_a_database_that_does_not_exist(server: str) -> None:
    error = await complaint(make_conninfo(server, dbname="no_such_database"))

    assert error.kind == "misconfigured"
    assert 'database "no_such_database" does not exist' in str(error)
    assert "database.dsn" in str(error)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PGPORT", "543a"), ("PGSERVICE", "none")],
)
async def test_a_variable_that_libpq_does_not_take(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)

    error = await complaint("host=/nowhere/at/all dbname=ats")

    assert error.kind == "misconfigured"
    assert "environment variable" in str(error)


async def test_passwords(restartable_server: Server) -> None:
    dsn = restartable_server.dsn
    with sessions(dsn) as open_session:
        ats = open_session()
        ats.execute("CREATE ROLE daemon LOGIN PASSWORD 'right'; CREATE ROLE stranger LOGIN")
        (restartable_server.folder / "data" / "pg_hba.conf").write_text(
            "local all postgres trust\nlocal all daemon scram-sha-256\n"
        )
        assert one(ats, "SELECT pg_reload_conf()")

    async with connected(make_conninfo(dsn, user="daemon", password="right")) as connection:
        assert (await server_facts(connection)).version >= 100_000
    for password, said in ((SECRET, "password authentication failed"), (None, "no password supplied")):
        error = await complaint(make_conninfo(dsn, user="daemon", password=password))
        assert error.kind == "misconfigured"
        assert said in str(error)
        assert "~/.pgpass" in str(error)
    error = await complaint(make_conninfo(dsn, user="stranger"))
    assert error.kind == "misconfigured"
    assert "no pg_hba.conf entry" in str(error)
    assert ".pgpass" not in str(error)


async def test_a_server_that_stops_while_it_is_used(restartable_server: Server) -> None:
    async with connected(restartable_server.dsn) as connection:
        restartable_server.stop()

        with pytest.raises(SourceError) as raised:
            await server_facts(connection)
        assert raised.value.kind == "unreachable"
    assert (await complaint(restartable_server.dsn)).kind == "unreachable"

    restartable_server.start()
    async with connected(restartable_server.dsn) as connection:
        assert not (await server_facts(connection)).in_recovery
