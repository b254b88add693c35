"""What `cdc-sync init` learns from a real catalog."""

from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support.roles import NewRole, dsn_of
from support.sessions import Ats, one, run
from typer.testing import CliRunner

from cdc_sync.ats.check import used
from cdc_sync.ats.connection import connected
from cdc_sync.ats.discovery import discover
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.facts import Reference, hosts_of, table_facts
from cdc_sync.ats.survey import Survey, Table, survey
from cdc_sync.cli import app
from cdc_sync.config import Config, SqlColumn, parse
from cdc_sync.core.identifiers import QualifiedName


async def surveyed(dsn: str) -> Survey:
    async with connected(dsn) as connection:
        return await survey(connection)


def table(found: Survey, name: str) -> Table:
    return next(table for table in found.tables if table.name.name == name)


@pytest.mark.parametrize("named", ["Candidatures", '"Candidatures"', "PLAIN", '"public".plain'])
def test_a_table_is_named_as_the_catalog_sql_or_the_configuration_has_it(database: str, ats: Ats, named: str) -> None:
    run(ats, 'CREATE TABLE public."Candidatures" (id int PRIMARY KEY); CREATE TABLE public.plain (id int PRIMARY KEY)')

    assert CliRunner().invoke(app, ["init", "--dsn", database, "--table", named]).exit_code == 0


async def test_names_types_keys_indexes_and_references(database: str, ats: Ats) -> None:
    run(
        ats,
        """CREATE SCHEMA "ATS"; CREATE DOMAIN "ATS".label AS varchar(20);
           CREATE TYPE "ATS".state AS ENUM ('new', 'old');
           CREATE TABLE "ATS".stages (id integer PRIMARY KEY, label text);
           CREATE TABLE "ATS"."Candidatures" (num integer NOT NULL, agency text NOT NULL, state "ATS".state,
               label "ATS".label, stage integer REFERENCES "ATS".stages, gone integer, email text);
           ALTER TABLE "ATS"."Candidatures" DROP gone;
           CREATE UNIQUE INDEX ON "ATS"."Candidatures" (label) WHERE agency = 'x';
           CREATE UNIQUE INDEX ON "ATS"."Candidatures" (num, agency);
           CREATE UNIQUE INDEX ON "ATS"."Candidatures" (email);
           CREATE INDEX ON "ATS"."Candidatures" (lower(email)); CREATE INDEX ON "ATS"."Candidatures" (stage, state)""",
    )

    found = table(await surveyed(database), "Candidatures")

    assert found.name == QualifiedName("ATS", "Candidatures")
    assert found.key == ("num", "agency")
    assert [column.name for column in found.columns] == ["num", "agency", "state", "label", "stage", "email"]
    kinds = {column.name: column.kind for column in found.columns}
    assert kinds == {
        "num": "number",
        "agency": "text",
        "state": "text",
        "label": "text",
        "stage": "number",
        "email": "text",
    }
    assert {column.name for column in found.columns if column.unique} == {"email"}
    assert found.columns[4].reference == Reference(QualifiedName("ATS", "stages"), "id")


# Which columns an expression uses, as PostgreSQL finds them, and what lacks them.


TABLES = """
CREATE TABLE public.candidatures (
    id bigint PRIMARY KEY, "Étape" integer, stage_id integer, hired boolean, step text, at timestamptz, tags text[]);
CREATE TABLE public.stages (id integer PRIMARY KEY, label text);
CREATE FUNCTION public.label_of(public.candidatures) RETURNS text LANGUAGE sql AS 'SELECT $1.step';
CREATE VIEW public.shown AS SELECT id, step AS status FROM public.candidatures;
"""

EVERY = ("id", "Étape", "stage_id", "hired", "step", "at", "tags")


@pytest.fixture(autouse=True)
def _tables(ats: Ats) -> None:
    run(ats, TABLES)


async def found(dsn: str, expression: str, table: str = "candidatures") -> tuple[str, ...]:
    async with connected(dsn) as connection:
        facts = await table_facts(connection, QualifiedName("public", table))
        return await used(connection, facts, SqlColumn(sql=expression))


EXPRESSIONS = [
    ("upper(step) -- t.hired", ["step"]),
    ("CASE WHEN t.hired THEN 'hired, 100%' ELSE t.step END", ["hired", "step"]),
    ("(SELECT s.label FROM public.stages s WHERE s.id = t.stage_id)", ["stage_id"]),
    ("EXISTS (SELECT FROM stages s WHERE s.id = t.stage_id AND t.hired)", ["stage_id", "hired"]),
    ("t.tags[1]", ["tags"]),
    ("'ATS'", []),
    ("label_of(t)", list(EVERY)),
    ("to_jsonb(t.*) ->> 'step'", list(EVERY)),
    ("ROW(t.id, t.step)", ["id", "step"]),
]


async def test_an_expression_uses_what_a_view_of_it_depends_on(database: str) -> None:
    for expression, columns in EXPRESSIONS:
        assert await found(database, expression) == tuple(columns)


async def test_nothing_is_left_of_it(ats: Ats, database: str) -> None:
    before = one(ats, "SELECT count(*) FROM pg_class")
    async with connected(database) as connection:
        facts = await table_facts(connection, QualifiedName("public", "candidatures"))
        for _ in range(2):
            await used(connection, facts, SqlColumn(sql="t.step"))
        assert one(ats, "SELECT count(*) FROM pg_class") == before


async def test_a_role_that_may_create_no_temporary_view(ats: Ats, database: str, new_role: NewRole) -> None:
    role = new_role()
    run(ats, "REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC", name=ats.info.dbname)
    with pytest.raises(SourceError, match="permission denied to create temporary tables"):
        await found(dsn_of(database, role), "t.step")
    run(ats, "GRANT TEMPORARY ON DATABASE {name} TO {role}", name=ats.info.dbname, role=role)
    # To create a view takes no right to read the columns.
    assert (await found(dsn_of(database, role), "t.step")) == ("step",)


async def test_a_role_whose_transactions_are_read_only(ats: Ats, database: str, new_role: NewRole) -> None:
    role = new_role()
    run(ats, "ALTER ROLE {role} SET default_transaction_read_only = on", role=role)
    assert (await found(dsn_of(database, role), "t.step")) == ("step",)


# Looking for tenants: which schemas of which databases have a template's table.


TABLE = "(id int PRIMARY KEY, hw text, status text, job text, made timestamptz)"
COLUMNS = "{application_id: hw, status: status, job_id: job, created: made}"
NOWHERE = "host=127.0.0.1 port=1 connect_timeout=2"


def a_config(databases: str, for_each: str, more: str = "", folder: Path = Path()) -> Config:
    text = f"{databases}\nwatches:\n  applications: {{for_each: {for_each}, table: applications, key: [id],"
    return parse(f"{text} columns: {COLUMNS}{more}}}", name="config.yaml", environ={}, folder=folder)


def create(dsn: str, *schemas: str) -> None:
    with psycopg.connect(dsn) as connection:
        for schema in schemas:
            connection.execute(f'CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}".applications {TABLE}'.encode())


async def test_schemas_that_match_and_have_the_table(database: str, ats: Ats) -> None:
    create(database, "tenant_1", "tenant_Größe", "tenant_'x", "tenantx", "other")
    ats.execute("CREATE SCHEMA tenant_empty; CREATE SCHEMA tenant_view; CREATE SCHEMA tenant_index")
    ats.execute("CREATE VIEW tenant_view.applications AS SELECT * FROM tenant_1.applications")
    ats.execute("CREATE TABLE tenant_index.t (id int); CREATE INDEX applications ON tenant_index.t (id)")
    found = await discover(a_config(f"database: {{dsn: '{database}'}}", r"{schemas: 'tenant\_%'}"))
    expected = [
        "applications@tenant_'x",
        "applications@tenant_1",
        "applications@tenant_Größe",
        "applications@tenant_view",
    ]
    assert list(found.config.watches) == expected
    assert (found.refused, found.unasked) == ({}, {})


async def test_of_a_database_that_cannot_be_asked_the_known_tenants_stay(database: str) -> None:
    create(database, "a_1")
    databases = f"databases: {{up: {{dsn: '{database}'}}, down: {{dsn: '{NOWHERE}'}}}}"
    config = a_config(databases, "{schemas: 'a%', databases: [up, down]}")
    known = ["applications@down.a_7", "applications@up.a_9", "applications@gone.a_1", "applications", "else@down.a_1"]
    found = await discover(config, known)
    assert list(found.config.watches) == ["applications@down.a_7", "applications@up.a_1"]
    assert list(found.unasked) == ["down"]
    assert found.unasked["down"].kind == "unreachable"


async def test_a_missing_credential_concerns_its_tenant_only(database: str, tmp_path: Path) -> None:
    create(database, "a_1", "a_2")
    (tmp_path / "a_1").write_text("key")
    more = ", hellowork: {headers: {X-Api-Key: '${file:{tenant}}'}}"
    config = a_config(f"database: {{dsn: '{database}'}}", "{schemas: 'a%'}", more, tmp_path)
    found = await discover(config)
    assert list(found.config.watches) == ["applications@a_1"]
    assert list(found.refused) == ["applications@a_2"]
    assert "No such file" in found.refused["applications@a_2"]
    (tmp_path / "a_2").write_text("key")
    again = await discover(found.config)
    assert list(again.config.watches) == ["applications@a_1", "applications@a_2"]
    assert again.config.watches["applications@a_1"] is found.config.watches["applications@a_1"]


# Under which names a database is reached, in one spelling.


HOSTS = [
    ("host=DB-1.example. dbname=x", ("db-1.example:5432",)),
    ("host=127.0.0.1 port=6000", ("localhost:6000",)),
    ("postgresql://u@localhost/x", ("localhost:5432",)),
    ("host=::1", ("localhost:5432",)),
    ("host=/var/run/postgresql", ("localhost:5432",)),
    ("host=a,b,a port=1", ("a:1", "b:1")),
    ("host=a,b port=1,2", ("a:1", "b:2")),
    ("hostaddr=10.0.0.1", ("10.0.0.1:5432",)),
    ("host=a hostaddr=10.0.0.1", ("a:5432",)),
]


async def test_a_dsn_names_hosts_with_ports(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for dsn, hosts in HOSTS:
        monkeypatch.setenv("PGHOST", "elsewhere")
        async with connected(database) as connection:
            assert hosts_of(dsn, connection) == hosts


async def test_what_a_dsn_leaves_open_the_environment_or_a_service_file_says(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = conninfo_to_dict(database)
    async with connected(database) as connection:
        monkeypatch.setenv("PGHOST", "b,a")
        monkeypatch.setenv("PGPORT", "7")
        assert hosts_of("dbname=x", connection) == ("b:7", "a:7")
    monkeypatch.delenv("PGHOST")
    monkeypatch.delenv("PGPORT")
    services = tmp_path / "services"
    services.write_text("[ats]\n" + "".join(f"{name}={value}\n" for name, value in given.items() if value))
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    async with connected("service=ats") as by_service, connected(database) as connection:
        assert hosts_of("service=ats", by_service) == hosts_of(database, connection)
