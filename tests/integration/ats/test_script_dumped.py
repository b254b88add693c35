"""The nightly pg_dump of the watched tables' owner goes on, whoever installed the scripts."""

from collections.abc import Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict
from support.dumping import dump, restore
from support.postgres import Cluster, fresh_database
from support.roles import NewRole, dsn_of
from support.sessions import Ats, OpenSession, one, rows, run
from support.watched import a_config, install_triggers, run_script

from cdc_sync.ats.scripts import uninstall
from cdc_sync.ats.verifying import verify
from cdc_sync.config import Config
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store import Store
from cdc_sync.store.postgres import PostgresDriver

TABLE = QualifiedName("public", "applications")


@pytest.fixture
def owner(new_role: NewRole, ats: Ats) -> str:
    """The role of the ATS: owns all tables of the database, and is no superuser."""
    name = new_role()
    run(ats, "GRANT CREATE ON SCHEMA public TO {owner}", owner=name)
    for (table,) in rows(ats, "SELECT 'public.' || quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"):
        run(ats, "ALTER TABLE {table} OWNER TO {owner}", table=table, owner=name)
    return name


def states(ats: Ats, config: Config) -> dict[str, str]:
    return {f"{on}: {name}": state for _, _, name, on, _, state in rows(ats, verify(config.watches)) if state != "ok"}


def test_the_owner_dumps_what_a_superuser_installed(ats: Ats, database: str, owner: str) -> None:
    assert dump(dsn_of(database, owner)).returncode == 0

    install_triggers(ats, a_config())

    dumped = dump(dsn_of(database, owner))
    assert (dumped.returncode, dumped.stderr) == (0, "")
    assert "cdc_sync_applications_row" in dumped.stdout
    assert states(ats, a_config()) == {}


async def test_the_owner_dumps_a_store_that_the_daemon_made(
    ats: Ats, database: str, owner: str, new_role: NewRole
) -> None:
    daemon = new_role()
    run(ats, "CREATE SCHEMA cdc_sync AUTHORIZATION {daemon}", daemon=daemon)

    store = Store(await PostgresDriver.open(dsn_of(database, daemon), tables=[TABLE]))
    await store.driver.close()

    dumped = dump(dsn_of(database, owner))
    assert (dumped.returncode, dumped.stderr) == (0, "")


@pytest.fixture
def copy(cluster: Cluster) -> Iterator[str]:
    """An empty database beside the other, for a dump to be restored into."""
    with fresh_database(cluster) as dsn:
        yield dsn


def test_a_restored_copy_records_until_its_log_is_full_and_one_line_removes_it(
    ats: Ats, database: str, owner: str, copy: str, open_session: OpenSession
) -> None:
    bound = 64 * 1024
    config = a_config(capture={"mode": "notify", "max_backlog": bound})
    install_triggers(ats, config)
    dumped = dump(dsn_of(database, owner))
    assert dumped.returncode == 0
    staging = open_session(dbname=copy_name(copy))
    run(staging, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    restore(copy, dumped.stdout)

    insert = (
        "INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at)"
        " SELECT 'hw-' || i, 'NEW', 'j', now(), now() FROM generate_series(1, 500) AS i"
    )
    for _ in range(20):
        run(staging, insert.replace("'hw-'", f"'hw-{_}-'"))
    assert bound <= one(staging, "SELECT pg_relation_size('cdc_sync.changes')") < 10 * bound
    assert one(staging, "SELECT count(*) FROM public.applications") == 10_000
    run_script(staging, uninstall())
    assert rows(staging, "SELECT nspname FROM pg_namespace WHERE nspname = 'cdc_sync'") == []


def copy_name(dsn: str) -> str:
    return str(conninfo_to_dict(dsn)["dbname"])
