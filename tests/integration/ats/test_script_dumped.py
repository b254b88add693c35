"""The nightly pg_dump of the watched tables' owner goes on, whoever installed the scripts."""

from collections.abc import Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict
from support.dumping import dump, restore
from support.postgres import Cluster, fresh_database
from support.roles import NewRole, dsn_of
from support.sessions import Ats, OpenSession, one, rows, run
from support.watched import a_config, install_triggers, run_script, some_config

from cdc_sync.ats.check import check_database
from cdc_sync.ats.scripts import install, uninstall, verify
from cdc_sync.cli.check_store import check_shared
from cdc_sync.config import Config
from cdc_sync.core.findings import Finding
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store import Store
from cdc_sync.store.postgres import PostgresDriver
from cdc_sync.store.postgres import scripts as store_scripts

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


async def test_verify_and_check_tell_of_an_owner_who_cannot_dump(
    ats: Ats, database: str, owner: str, new_role: NewRole
) -> None:
    daemon = new_role()
    config = a_config(dsn_of(database, daemon))
    install_triggers(ats, config)
    run(ats, "REVOKE ALL ON SCHEMA cdc_sync FROM {owner}", owner=owner)
    run(ats, "REVOKE ALL ON cdc_sync.changes, cdc_sync.missed_applications FROM {owner}", owner=owner)

    assert states(ats, config) == {
        f"cdc_sync: no USAGE for {owner}": "unreadable",
        f"cdc_sync.changes: no SELECT for {owner}": "unreadable",
        f"cdc_sync.missed_applications: no SELECT for {owner}": "unreadable",
    }
    assert "permission denied for schema cdc_sync" in dump(dsn_of(database, owner)).stderr
    found: list[Finding] = []
    await check_database(config, lambda: 0, found.append)
    (triggers,) = [each for each in found if each.check == "triggers"]
    assert triggers.state == "failed"
    assert "pg_dump by the owner of a watched table fails (" in triggers.message
    assert f"cdc_sync: no USAGE for {owner}" in triggers.message
    assert "cdc-sync sql install" in (triggers.remedy or "")

    install_triggers(ats, config)

    assert states(ats, config) == {}
    assert dump(dsn_of(database, owner)).returncode == 0


def test_the_owner_of_a_side_table_dumps_too(ats: Ats, database: str, owner: str, new_role: NewRole) -> None:
    """Two owners, one a member of the other, who dumps."""
    side = new_role()
    run(
        ats,
        "CREATE TABLE public.side (id int PRIMARY KEY, at timestamptz); ALTER TABLE public.side OWNER TO {side}",
        side=side,
    )
    run(ats, "GRANT {owner} TO {side}", owner=owner, side=side)
    config = a_config(related=[{"table": "public.side", "key": ["id"]}])

    install_triggers(ats, config)

    dumped = dump(dsn_of(database, side))
    assert (dumped.returncode, dumped.stderr) == (0, "")
    assert states(ats, config) == {}


def test_what_the_installer_may_not_give_is_said_with_the_grant(
    ats: Ats, new_role: NewRole, open_session: OpenSession, owner: str
) -> None:
    """A superuser made the schema for one owner; another table is another role's."""
    side = new_role()
    run(
        ats,
        "CREATE TABLE public.side (id int PRIMARY KEY, at timestamptz); ALTER TABLE public.side OWNER TO {side}",
        side=side,
    )
    run(ats, "GRANT TRIGGER ON public.side TO {owner}", owner=owner)
    run(ats, "CREATE SCHEMA cdc_sync; GRANT USAGE, CREATE ON SCHEMA cdc_sync TO {owner}", owner=owner)
    watch = {"key": ["id"], "columns": {"application_id": "id", "status": "id", "job_id": "id", "created": "at"}}
    config = some_config("", {"side": {"table": "public.side", **watch}})
    installs = open_session(user=owner, password=owner)
    heard: list[str] = []
    installs.add_notice_handler(lambda said: heard.append(said.message_primary or ""))

    script = install(config)
    script = script[script.index("-- The owners of the watched tables may read all this") :].removesuffix("\nCOMMIT;\n")
    run_script(installs, script)

    (warning,) = heard
    assert f"pg_dump by {side}" in warning
    assert f"GRANT USAGE ON SCHEMA cdc_sync TO {side}" in warning


def test_default_privileges_give_the_owner_no_more_than_a_dump_reads(ats: Ats, owner: str) -> None:
    me = one(ats, "SELECT quote_ident(current_user)")
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS", "SCHEMAS"):
        run(ats, "ALTER DEFAULT PRIVILEGES FOR ROLE {me} GRANT ALL ON {kind} TO {owner}", me=me, kind=kind, owner=owner)

    for _ in range(2):
        install_triggers(ats, a_config())
        run_script(ats, store_scripts.install(None, [TABLE]))

        assert rows(
            ats,
            "SELECT DISTINCT c.relkind::text, g.privilege_type FROM pg_class c, aclexplode(c.relacl) g"
            " WHERE c.relnamespace = 'cdc_sync'::regnamespace AND g.grantee = %s::regrole ORDER BY 1",
            [owner],
        ) == [("S", "SELECT"), ("r", "SELECT")]
        assert not one(ats, "SELECT has_schema_privilege(%s, 'cdc_sync', 'CREATE')", [owner])
        assert states(ats, a_config()) == {}


async def test_the_owner_dumps_a_store_that_the_dba_made(
    ats: Ats, database: str, owner: str, new_role: NewRole
) -> None:
    daemon = new_role()
    run_script(ats, store_scripts.install(daemon))
    run_script(ats, store_scripts.grants(daemon))
    assert dump(dsn_of(database, owner)).returncode != 0
    store = await _checked(dsn_of(database, daemon))
    assert store.state == "failed"
    assert f"cdc_sync: no USAGE for {owner}" in store.message
    assert f"cdc_sync.outbox: no SELECT for {owner}" in store.message
    assert "sql install --store" in (store.remedy or "")

    run_script(ats, store_scripts.install(daemon, [TABLE]))

    assert dump(dsn_of(database, owner)).returncode == 0
    assert (await _checked(dsn_of(database, daemon))).state == "ok"


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


async def _checked(dsn: str) -> Finding:
    found: list[Finding] = []
    await check_shared(dsn, found.append, [TABLE])
    (store,) = [each for each in found if each.check == "store"]
    return store
