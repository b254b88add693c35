"""The scripts for a template's tenants, run by psql's rules and by the command line."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.dumping import dump
from support.roles import NewRole, dsn_of
from support.sessions import Ats, OpenSession, one, rows, run
from support.watched import COLUMNS, run_script
from typer.testing import CliRunner, Result

from cdc_sync.ats import scripts
from cdc_sync.ats.scripts import functions_for_tenants, grants, uninstall
from cdc_sync.ats.triggers import verify
from cdc_sync.cli import app
from cdc_sync.config import Config, ConfigurationError, parse
from cdc_sync.config.tenants import Tenant, expanded

ODD = "Ten\"ant 'x'; %s"
PLAIN = ("tenant_1", "tenant_2", "user")
TENANTS = (*PLAIN, ODD)


Command = Callable[..., Result]


def _document(dsn: str, **watch: Any) -> str:
    template = {
        "for_each": {"schemas": "%"}, "table": "applications", "key": ["id"], "columns": COLUMNS,
        "related": [{"table": "stages", "key": []}], **watch,
    }  # fmt: skip
    return json.dumps({"database": {"dsn": dsn}, "watches": {"customers": template}})


def configured(dsn: str = "postgresql:///ats", tenants: Iterable[str] = TENANTS, **watch: Any) -> Config:
    config = parse(_document(dsn, **watch), name="the test's configuration", environ={})
    return expanded(config, {"customers": [Tenant(None, tenant) for tenant in tenants]}, str)[0]


def create(ats: Ats, tenant: str) -> None:
    statement = (
        "CREATE SCHEMA {0}; CREATE TABLE {0}.applications (LIKE public.of_customers INCLUDING ALL);"
        "CREATE TABLE {0}.stages (id bigint)"
    )
    ats.execute(sql.SQL(statement).format(sql.Identifier(tenant)))


def change(ats: Ats, tenant: str) -> None:
    ats.execute(sql.SQL("INSERT INTO {}.applications (hellowork_id) VALUES ('a1')").format(sql.Identifier(tenant)))


@pytest.fixture
def vendor(ats: Ats) -> Ats:
    """A database with the schemas of some customers."""
    ats.execute("ALTER TABLE public.applications RENAME TO of_customers")
    for tenant in TENANTS:
        create(ats, tenant)
    return ats


@pytest.fixture
def command(vendor: Ats, database: str, tmp_path: Path) -> Command:
    """`cdc-sync sql …` with a configuration of these customers."""
    config = tmp_path / "cdc-sync.yaml"
    config.write_text(_document(database))
    return lambda *arguments: CliRunner().invoke(app, ["--config", str(config), "sql", *arguments])


def wrong(ats: Ats, config: Config) -> list[tuple[Any, ...]]:
    return [row for row in rows(ats, verify(config.watches)) if row[-1] != "ok"]


def install(ats: Ats, config: Config) -> None:
    for part in scripts.install(config):
        run_script(ats, part.script)


def test_every_tenant_is_installed_as_it_is_verified(vendor: Ats) -> None:
    config = configured()
    for quotes_all in ("off", "on"):
        vendor.execute(f"SET quote_all_identifiers = {quotes_all}".encode())
        install(vendor, config)
        assert wrong(vendor, config) == []
    for tenant in TENANTS:
        change(vendor, tenant)
    names = [f"customers@{tenant}" for tenant in TENANTS]
    assert sorted(name for (name,) in rows(vendor, "SELECT watch FROM cdc_sync.changes")) == sorted(names)
    run_script(vendor, uninstall())
    assert one(vendor, "SELECT to_regnamespace('cdc_sync') IS NULL")


def test_an_expression_without_depends_on_is_refused_once_for_all_tenants() -> None:
    config = configured(where="t.id > 0")
    for made in (scripts.install, functions_for_tenants):
        with pytest.raises(ConfigurationError) as refused:
            list(made(config))
        assert [each.path for each in refused.value.problems] == ["watches.customers.where"]


def test_a_function_has_the_rights_of_who_calls_it(vendor: Ats, new_role: NewRole, open_session: OpenSession) -> None:
    role = new_role()
    run_script(vendor, functions_for_tenants(configured(tenants=())))
    run(vendor, "GRANT USAGE ON SCHEMA cdc_sync TO {role}", role=role)
    session = open_session(user=role, password=role)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function"):
        session.execute("SELECT cdc_sync.install_customers('tenant_1')")
    run(vendor, "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA cdc_sync TO {role}", role=role)
    with pytest.raises(psycopg.errors.DatabaseError, match=r"permission denied for|belongs to"):
        session.execute("SELECT cdc_sync.install_customers('tenant_1')")


def test_a_function_says_that_the_tables_come_first(vendor: Ats) -> None:
    run_script(vendor, functions_for_tenants(configured(tenants=())))

    with pytest.raises(psycopg.Error) as refused:
        vendor.execute("SELECT cdc_sync.install_customers('tenant_9')")

    assert "tenant_9" in str(refused.value)


def test_one_role_owns_what_is_of_several_owners(
    vendor: Ats, new_role: NewRole, open_session: OpenSession, database: str
) -> None:
    config, owner = configured(tenants=PLAIN), new_role()
    owners = {tenant: new_role() for tenant in PLAIN}
    for tenant, role in owners.items():
        for statement in (
            'ALTER TABLE "{schema}".applications OWNER TO {role}',
            'ALTER TABLE "{schema}".stages OWNER TO {role}',
            'ALTER SCHEMA "{schema}" OWNER TO {role}',
        ):
            run(vendor, statement, schema=tenant, role=role)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="belongs to"):
        install(vendor, config)
    vendor.execute("ROLLBACK")
    run_script(vendor, uninstall())

    for part in scripts.install(config, owner):
        run_script(vendor, part.script)

    assert wrong(vendor, config) == []
    assert {role for (role,) in rows(vendor, OWNED)} == {owner}
    assert one(vendor, "SELECT current_user::text = session_user::text")
    for tenant, role in owners.items():
        change(open_session(user=role, password=role), tenant)
        assert dump(dsn_of(database, role), "--schema", tenant).returncode == 0
    watches = [f"customers@{tenant}" for tenant in PLAIN]
    assert sorted(name for (name,) in rows(vendor, "SELECT watch FROM cdc_sync.changes")) == watches
    run_script(vendor, uninstall())


def test_the_grants_of_a_thousand_tenants_are_short(vendor: Ats, new_role: NewRole) -> None:
    role = new_role()
    install(vendor, configured())
    run_script(vendor, grants(configured(), role))
    may_read = "SELECT has_column_privilege(%s, %s::regclass, 'status', 'SELECT')"
    tables = [sql.Identifier(name, "applications").as_string() for name in (ODD, "user")]
    assert all(one(vendor, may_read, [role, table]) for table in tables)
    assert len(grants(configured(tenants=[f"tenant_{number}" for number in range(1000)]), role)) < 30_000


def test_a_pattern_means_some_of_them(command: Command, vendor: Ats) -> None:
    assert command("install", "--apply", "--watch", "customers@tenant_%").output == "done\n"
    assert {row[0] for row in wrong(vendor, configured())} == {f"customers@{name}" for name in ("user", ODD)}
    assert command("verify", "--apply", "--watch", "customers@tenant_*").exit_code == 0
    assert command("verify", "--apply").exit_code == 1
    assert command("uninstall", "--apply", "--watch", "customers@tenant_%").output == "done\n"
    assert {row[-1] for row in wrong(vendor, configured())} == {"missing"}


def test_one_watch_at_a_time_is_absent(command: Command, vendor: Ats) -> None:
    """A pattern would be no watch's name, so nothing would be there."""
    assert command("install", "--apply").output == "done\n"
    absent = command("verify", "--expect", "absent", "--apply", "--watch", "customers@tenant_%")
    assert (absent.exit_code, absent.stdout) == (2, "")
    assert command("verify", "--expect", "absent", "--apply", "--watch", "customers@tenant_1").exit_code == 1


def test_a_tenant_that_is_named_is_not_looked_for(tmp_path: Path) -> None:
    config = tmp_path / "cdc-sync.yaml"
    config.write_text(_document("postgresql://nobody@127.0.0.1:1/nothing"))
    done = CliRunner().invoke(app, ["--config", str(config), "sql", "install", "--watch", "customers@tenant_43"])
    assert done.exit_code == 0
    assert "cdc_sync_customers$tenant_43_row" in done.output or "'tenant_43'" in done.output
    assert CliRunner().invoke(app, ["--config", str(config), "sql", "install"]).exit_code != 0


def test_a_tenant_that_fails_is_named_and_the_others_are_done(command: Command, vendor: Ats) -> None:
    vendor.execute("DROP TABLE tenant_1.stages")
    done = command("install", "--apply")
    assert done.exit_code != 0
    assert "customers@tenant_1: " in done.output
    assert {row[0] for row in wrong(vendor, configured())} == {"customers@tenant_1"}


def test_a_function_grants_what_the_daemon_needs(
    command: Command, vendor: Ats, tmp_path: Path, new_role: NewRole, open_session: OpenSession
) -> None:
    daemon, app, owner, database = new_role(), new_role(), vendor.info.user, vendor.info.dsn
    (tmp_path / "cdc-sync.yaml").write_text(_document(dsn_of(database, daemon)))
    run_script(vendor, command("install", "--function").output)

    run(vendor, "ALTER ROLE {app} NOINHERIT; GRANT {owner} TO {app}", app=app, owner=owner)
    caller = open_session(user=app, password=app)
    run(caller, "SET ROLE {owner}", owner=owner)
    with caller.transaction():
        caller.execute("SELECT cdc_sync.install_customers('tenant_1'), cdc_sync.install_customers('tenant_2')")
        assert one(caller, "SELECT current_user::text") == owner
        assert one(caller, "SHOW client_min_messages") == "notice"
        assert one(caller, "SHOW lock_timeout") == "0"

    assert wrong(vendor, configured(tenants=["tenant_1", "tenant_2"])) == []
    session = open_session(user=daemon, password=daemon)
    for tenant in ("tenant_1", "tenant_2"):
        change(vendor, tenant)
        run(session, "SELECT hellowork_id, status FROM {tenant}.applications", tenant=tenant)
        run(session, "SELECT last_value FROM cdc_sync.missed_customers${tenant}", tenant=tenant)
    assert one(session, "SELECT count(*) FROM cdc_sync.changes") == 2
    done = command("verify", "--apply", "--dsn", database, "--watch", "customers@tenant_1")
    assert done.exit_code == 0
    run_script(vendor, uninstall())
    assert one(vendor, "SELECT to_regnamespace('cdc_sync') IS NULL")


OWNED = """
SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relnamespace = 'cdc_sync'::regnamespace
UNION SELECT pg_get_userbyid(proowner)::text FROM pg_proc WHERE pronamespace = 'cdc_sync'::regnamespace
"""
PLANTED = """
CREATE FUNCTION cdc_sync.install_customers(tenant text) RETURNS void LANGUAGE plpgsql AS 'BEGIN RETURN; END'
"""
OF_FUNCTION = """
SELECT pg_catalog.pg_get_userbyid(p.proowner)::text
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = 'cdc_sync' AND p.proname = 'install_customers'
"""
ANYTHING_ELSE = """
SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'cdc_sync'
"""


# Who calls a tenants' function acts with his own rights: its owner could have him do anything.


@pytest.fixture
def stranger(vendor: Ats, new_role: NewRole) -> str:
    """A role that may create in our schema, which is there."""
    role = new_role()
    run(vendor, "CREATE SCHEMA cdc_sync; GRANT USAGE, CREATE ON SCHEMA cdc_sync TO {role}", role=role)
    return role


def test_is_refused_before_anything_is_made(
    command: Command, vendor: Ats, stranger: str, open_session: OpenSession
) -> None:
    run(open_session(user=stranger, password=stranger), PLANTED)

    applied = command("install", "--function", "--apply")
    with pytest.raises(psycopg.Error) as refused:
        run_script(vendor, command("install", "--function").output)
    vendor.execute("ROLLBACK")

    assert applied.exit_code == 1
    assert "cdc_sync.install_customers" in str(refused.value.diag.message_primary)
    for said in (str(applied.exception), str(refused.value)):
        assert stranger in said
    assert "DROP FUNCTION cdc_sync.install_customers(text)" in str(refused.value.diag.message_hint)
    assert rows(vendor, ANYTHING_ELSE) == []
    assert one(vendor, OF_FUNCTION) == stranger

    run(vendor, "DROP FUNCTION cdc_sync.install_customers(text)")
    assert command("install", "--function", "--apply").output == "done\n"
    assert one(vendor, OF_FUNCTION) == vendor.info.user
