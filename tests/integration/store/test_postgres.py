"""What is special about the shared store: its session, its versions, and what its role may do."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
from old_stores import OLD_STORES
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support import acting
from support.builders import NOW, WATCH, an_observation, some_rules
from support.configurations import a_config
from support.pgbouncer import pgbouncer, pgbouncer_binary
from support.roles import dsn_of
from support.store_steps import adopt, begin_call, observe, reject, waiting_entry
from support.upgrading import OldSchema

from cdc_sync.cli.check import check_store
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding
from cdc_sync.core.replies import Finished, Retry
from cdc_sync.store import Store
from cdc_sync.store.postgres import schema as scripts
from cdc_sync.store.postgres.driver import PostgresDriver
from cdc_sync.store.postgres.leading import alone
from cdc_sync.store.postgres.schema import copy_to_sqlite
from cdc_sync.store.sqlite.driver import SqliteDriver
from cdc_sync.store.sqlite.schema import connect_copy
from cdc_sync.store.statements import SCHEMA

Open = Callable[[], Awaitable[Store]]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def open_another(dsn: str) -> AsyncIterator[Open]:
    async with AsyncExitStack() as opened:

        async def open_it() -> Store:
            store = Store(await PostgresDriver.open(dsn))
            opened.push_async_callback(store.driver.close)
            return store

        yield open_it


@pytest.fixture
async def store(open_another: Open) -> Store:
    return await open_another()


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.usefixtures("store")
async def test_a_pooler_that_gives_sessions_to_others_is_refused(dsn: str, mode: str) -> None:
    """The leader's lock would be another client's."""
    if (binary := pgbouncer_binary()) is None:
        pytest.skip("there is no pgbouncer here (Debian: apt-get install pgbouncer)")
    with pgbouncer(binary, dsn, mode) as through, pytest.raises(StoreError, match="leads to a pooler") as raised:
        Store(await PostgresDriver.open(through))
    assert raised.value.code == "store-pooled"


def shared(dsn: str) -> dict[str, object]:
    """The changes of a configuration whose store is in PostgreSQL."""
    return {"state": {"backend": "postgres", "dsn": dsn}}


class TestUpgrading:
    @pytest.fixture
    def older(self, database: str) -> None:
        """A store as the last version without a leader made it, with a daemon at work."""
        OldSchema(OLD_STORES[-1], database)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "UPDATE cdc_sync.daemon SET host = 'older-host', process = 4711,"
                " lease = interval '20 s', alive_until = clock_timestamp() + interval '15 s'"
            )

    @pytest.mark.usefixtures("older")
    async def test_not_under_an_older_daemon(self, database: str) -> None:
        with pytest.raises(
            StoreError, match=r"process 4711 on older-host\. Stop all daemons that share the store"
        ) as raised:
            Store(await PostgresDriver.open(database))
        assert raised.value.code == "store-upgrade"
        with (
            psycopg.connect(database, autocommit=True) as connection,
            pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="4711"),
        ):
            connection.execute(scripts.install().encode())
        findings: list[Finding] = []
        await check_store(a_config(shared(database)), findings.append, ())
        assert [(each.state, "start the daemon once" in each.message) for each in findings] == [("warning", True)]
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("UPDATE cdc_sync.daemon SET alive_until = clock_timestamp() - interval '1 second'")

        await Store(await PostgresDriver.open(database)).driver.close()

    async def test_a_command_makes_no_store(self, database: str) -> None:
        with pytest.raises(StoreError, match="start the daemon once"):
            async with alone(database, []):
                pass
        with psycopg.connect(database, autocommit=True) as connection:
            assert connection.execute("SELECT to_regnamespace('cdc_sync')").fetchone() == (None,)

    @pytest.mark.parametrize("version", [5, SCHEMA - 1, SCHEMA + 1])
    async def test_a_schema_that_was_never_released_is_refused(self, database: str, version: int) -> None:
        await (await PostgresDriver.open(database)).close()
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("UPDATE cdc_sync.about SET value = %s WHERE name = 'schema'", (str(version),))
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=f"schema {version}"):
                connection.execute(scripts.install().encode())
        with pytest.raises(StoreError, match=r"never released.*Run that version, or restore"):
            await PostgresDriver.open(database)


class TestTheRole:
    async def test_it_needs_the_scripts_and_no_more(self, database: str, role: str) -> None:
        own = dsn_of(database, role)
        with pytest.raises(StoreError, match="Let the DBA run what `cdc-sync sql install --store` and"):
            Store(await PostgresDriver.open(own))
        findings: list[Finding] = []
        await check_store(a_config(shared(own)), findings.append, ())
        assert [each.state for each in findings] == ["warning"]
        assert "cdc-sync sql install --store" in (findings[0].remedy or "")
        with psycopg.connect(database, autocommit=True) as connection:
            for _ in range(2):  # each may be run again
                connection.execute(scripts.install().encode())
                connection.execute(scripts.grants(role).encode())

        store = Store(await PostgresDriver.open(own))
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))
        await store.delivery.begin_sending()
        await reject(store, await begin_call(store))
        await acting.retry_dead(store, None, NOW)
        await store.operation.prune(NOW + 1, 1_000, 10)
        await store.driver.close()

        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(scripts.uninstall().encode())
            assert connection.execute("SELECT to_regnamespace('cdc_sync')").fetchone() == (None,)

    async def test_one_that_may_create_does_it_itself_however_many_start_at_once(self, database: str) -> None:
        drivers = await asyncio.gather(*(PostgresDriver.open(database) for _ in range(4)))

        assert await Store(drivers[0]).report.counts() == {}
        for driver in drivers:
            await driver.close()

    async def test_reading_writes_nothing(self, dsn: str, store: Store) -> None:
        await adopt(store, "a1")
        reader = Store(await PostgresDriver.open(dsn, "read"))

        with pytest.raises(StoreError, match=r"read-only transaction"):
            await acting.resend(reader, WATCH, ["a1"], NOW)

        await reader.driver.close()

    async def test_a_database_that_does_not_hold_every_text_is_refused(self, server: str) -> None:
        name = f"cdc_sync_latin1_{uuid.uuid4().hex[:12]}"
        create = "CREATE DATABASE {} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL(create).format(sql.Identifier(name)))
            try:
                with pytest.raises(StoreError, match="encoding is LATIN1") as raised:
                    Store(await PostgresDriver.open(make_conninfo(server, dbname=name)))
                assert raised.value.code == "store-unsuitable"
            finally:
                connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))

    async def test_mistakes_in_the_dsn_are_named_without_its_password(self, server: str) -> None:
        for mistake in ("postgresql://u:secret@127.0.0.1:1/x", make_conninfo(server, dbname="nowhere"), "nonsense"):
            with pytest.raises(StoreError) as refusal:
                Store(await PostgresDriver.open(mistake))
            assert "secret" not in str(refusal.value)
            assert "state.dsn" in str(refusal.value) or "tries again" in str(refusal.value)


async def test_check_finds_a_store_at_work(dsn: str, store: Store) -> None:
    await adopt(store, "a1")
    findings: list[Finding] = []
    await check_store(a_config(shared(dsn)), findings.append, ())

    assert [(each.check, each.state) for each in findings] == [("store", "ok")]


async def test_what_postgresql_cannot_hold_is_kept_as_well_as_can_be(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))

    lost = Finished(await begin_call(store), Retry(NOW), {"reason": "a\0b"}, NOW)
    await store.delivery.complete([lost], {})

    assert (await waiting_entry(store)).reason == "a\N{REPLACEMENT CHARACTER}b"
    assert (await store.report.story("a1", 10))[-1].detail["reason"] == "a\0b"


async def test_a_copy_is_whole_and_apart(dsn: str, store: Store) -> None:
    await store.databases.bind("a database")
    await adopt(store, "a1", "a2")
    await observe(store, an_observation(status="hired"), rules=some_rules(max_changes=0))
    made = connect_copy(None)
    copy = Store(SqliteDriver(Path("copy"), connection=made))

    await copy_to_sqlite(dsn, made)
    await adopt(store, "a3")

    assert await waiting_entry(copy) == await waiting_entry(store)
    assert (await copy.operation.fuses()).keys() == {WATCH}
    assert await copy.databases.identity() == "a database"
    assert (await copy.capture.known(WATCH, ["a1", "a2", "a3"])).keys() == {"a1", "a2"}
    assert list(await copy.delivery.endpoints()) == []
    await copy.driver.close()
