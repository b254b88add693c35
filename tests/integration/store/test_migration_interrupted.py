"""The migration of an old store is all or nothing, whoever dies in the middle, and never done under an older daemon."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from old_stores import OLD_STORES, OldStore
from psycopg import sql
from support import acting
from support.eventually import eventually
from support.migrating_process import Migrate, migrating_process
from support.roles import dsn_of
from support.sessions import Ats, rows
from support.upgrading import OldFile, OldSchema

from cdc_sync.core.failures import StoreError
from cdc_sync.store import Store
from cdc_sync.store.postgres import schema as scripts
from cdc_sync.store.postgres.driver import PostgresDriver
from cdc_sync.store.sqlite.schema import connect
from cdc_sync.store.statements import SCHEMA

FILES = [old for old in OLD_STORES if old.backend == "sqlite"]
# From 6 on only a few values change: that locks out nobody, and any role of the store may do it.
SCHEMAS = [old for old in OLD_STORES if old.backend == "postgres" and old.schema < 6]
of_schemas = pytest.mark.parametrize("old", [SCHEMAS[0], SCHEMAS[-1]], ids=lambda old: old.name)
"""The first is brought through every migration."""


@pytest.fixture(scope="module")
def migrate() -> Iterator[Migrate]:
    with migrating_process() as migrate:
        yield migrate


# The last migration has too few instructions to be ended between two of them.
@pytest.mark.parametrize(
    ("unit", "old"),
    [("statement", FILES[0]), ("instruction", FILES[-2])],
    ids=lambda each: each if isinstance(each, str) else each.name,
)
def test_kill_9_anywhere_leaves_a_file_as_it_was_or_complete(
    old: OldStore, tmp_path: Path, unit: str, migrate: Migrate
) -> None:
    data = OldFile(old, tmp_path)
    before = data.tables()
    number = migrate(data.path, unit)
    assert number
    complete = data.tables()
    found = set()
    for at in range(1, number + 1):
        for file in tmp_path.iterdir():
            file.unlink()
        data = OldFile(old, tmp_path)
        assert migrate(data.path, unit, at) is None

        schema = data.schema()
        assert schema in {old.schema, SCHEMA}
        assert data.tables() == (before if schema == old.schema else complete)
        connect(data.path).close()

        assert (data.schema(), data.tables()) == (SCHEMA, complete)
        found.add(schema)
    assert old.schema in found


_STOP = """
CREATE SEQUENCE public.commands;
CREATE TABLE public.stop (at bigint);
INSERT INTO public.stop VALUES (0);
CREATE FUNCTION public.stop() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('public.commands') = (SELECT at FROM public.stop) THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
        PERFORM pg_sleep(60);
    END IF;
END $$;
CREATE EVENT TRIGGER stop ON ddl_command_start EXECUTE PROCEDURE public.stop();
"""


async def can_be_opened(data: OldSchema) -> bool:
    try:
        await (await data.open()).driver.close()
    except StoreError as error:
        return "tries again" not in str(error)
    return True


def waiting(connection: Ats) -> list[int]:
    """Who waits for a lock in this database."""
    query = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock' ORDER BY query_start"
    )
    return [pid for (pid,) in rows(connection, query)]


@asynccontextmanager
async def in_the_middle(dsn: str, number: int = 1) -> AsyncIterator[tuple[Ats, list["asyncio.Task[PostgresDriver]"]]]:
    """So many daemons that open the store, while what migrations change is locked: they wait until the `with` ends.

    Yields a session of the DBA, and the daemons.
    """
    with psycopg.connect(dsn, autocommit=True) as connection, psycopg.connect(dsn) as locker:
        locker.execute("LOCK TABLE cdc_sync.snapshot, cdc_sync.watch, cdc_sync.history IN ACCESS SHARE MODE")
        opening = [asyncio.create_task(PostgresDriver.open(dsn)) for _ in range(number)]
        await eventually(lambda: len(waiting(connection)) == number, "the migration to wait", within=30)
        yield connection, opening


class TestASchema:
    async def test_an_end_before_any_command_leaves_it_as_it_was(self, database: str) -> None:
        data = OldSchema(SCHEMAS[0], database)
        before = data.tables()
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(_STOP.encode())
            at, is_done = 0, False
            while not is_done:
                at += 1
                connection.execute("UPDATE public.stop SET at = %s", (at,))
                connection.execute("SELECT setval('public.commands', 1, false)")
                is_done = await can_be_opened(data)
                assert is_done or data.tables() == before
            assert at > 1
        assert data.schema() == SCHEMA

    @of_schemas
    async def test_of_several_daemons_one_does_it_and_the_others_wait_and_work(
        self, old: OldStore, database: str
    ) -> None:
        OldSchema(old, database)
        async with in_the_middle(database, 3) as (_, opening):
            pass

        drivers = await asyncio.gather(*opening)

        async with AsyncExitStack() as opened:
            for driver in drivers:
                opened.push_async_callback(driver.close)
            for store in map(Store, drivers):
                await store.delivery.begin_sending()
                assert (await store.report.counts())["applications"].dead == 1


_GRANTED_THEN = """
GRANT USAGE ON SCHEMA cdc_sync TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cdc_sync TO {role}
"""


@of_schemas
async def test_a_role_that_may_not_change_the_schema_is_told_what_the_dba_runs(
    old: OldStore, database: str, role: str
) -> None:
    data, own = OldSchema(old, database), dsn_of(database, role)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL(_GRANTED_THEN).format(role=sql.Identifier(role)))
    before = data.tables()

    with pytest.raises(StoreError, match="Let the DBA run what `cdc-sync sql install --store` and"):
        Store(await PostgresDriver.open(own))
    assert data.tables() == before
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(scripts.install().encode())
        connection.execute(scripts.grants(role).encode())

    async with AsyncExitStack() as opened:
        store = Store(await PostgresDriver.open(own))
        opened.push_async_callback(store.driver.close)
        assert len(await store.report.entries("pending", None, 100)) == 7
        await acting.retry_dead(store, None, 1)
        await acting.resend(store, "applications", ["applications-1"], 1)
