"""What is wrong with the configuration or the database is said once, with where and with the remedy."""

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.extensions import create_extension
from support.postgres import Cluster, create_ats
from support.sessions import Ats, one, run, sessions
from support.source import opened
from support.versions import major
from support.watched import a_config, install_triggers

from cdc_sync.ats.connection import connected
from cdc_sync.ats.errors import SourceError, translate
from cdc_sync.ats.facts import server_facts
from cdc_sync.demo.postgres import Server


async def complaint(database: str, watermark: str | None = None, **section: Any) -> str:
    """What a watch is told that reads its table, and polls it if there is a watermark."""
    with pytest.raises(SourceError) as raised:  # noqa: PT012 - it may come at any of these steps
        async with opened(a_config(database, **section)) as source:
            await source.rows()
            if watermark is not None:
                await source.watermark_reader(watermark)
    assert raised.value.kind == "misconfigured"
    return str(raised.value)


async def test_what_is_no_table(database: str) -> None:
    assert "does not exist in this database" in await complaint(database, table="public.aplications")
    assert "is no table, view or foreign table" in await complaint(database, table="public.applications_pkey")


MISFITS = [
    ({"created": "id"}, "columns.created must be a date or a timestamp, not int8"),
    ({"event_date": {"sql": "t.created_at::text"}}, "columns.event_date must be a date or a timestamp, not text"),
    ({"deleted": "status"}, "columns.deleted must be a boolean, a date or a timestamp, not text"),
    ({"created": "status", "deleted": "id"}, "columns.deleted must be"),
]


async def test_a_key_that_is_missing(database: str) -> None:
    said = await complaint(database, key=["ids"])

    assert "The key column ids does not exist in public.applications" in said


async def test_a_watermark_that_is_no_date_or_missing(database: str) -> None:
    said = await complaint(database, watermark="status")

    assert "The watermark column status of public.applications is of type text" in said
    assert "The watermark column updated does not exist" in await complaint(database, watermark="updated")


async def test_types_that_do_not_fit_their_use(database: str) -> None:
    for columns, mistake in MISFITS:
        assert mistake in await complaint(database, columns=columns)


NOT_SQL = [("upper(t.status", "syntax error"), ("upcase(t.status)", "function upcase(text) does not exist")]


NO_CONDITIONS = [("t.status", "must be type boolean"), ("t.status = ", "syntax error"), ("1", "boolean")]


FAILING = [("t.notes::jsonb ->> 'a'", "invalid input syntax for type json"), ("(t.id / 0)", "division by zero")]


async def test_that_postgresql_does_not_understand(database: str) -> None:
    for expression, said in NOT_SQL:
        assert said in await complaint(database, columns={"status": {"sql": expression}})
    for where, said in NO_CONDITIONS:
        assert said in await complaint(database, where=where)


async def test_that_fail_on_a_value_do_not_tell_it(database: str, ats: Ats) -> None:
    for expression, said in FAILING:
        ats.execute("INSERT INTO public.applications (notes) VALUES ('Jeanne Martin, née \"Durand\" le 3/4')")

        complained = await complaint(database, columns={"status": {"sql": f"({expression})::text"}})

        assert said in complained
        for secret in ("Jeanne", "Martin", "Durand", "3/4", "Jean"):
            assert secret not in complained


# What becomes wrong while the daemon runs is an error too, never an empty answer.


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("RENAME TO candidacies", "does not exist"),
        ("DROP COLUMN job_id", "is another one than before"),
        ("ALTER COLUMN job_id TYPE varchar(3)", "is another one than before"),
    ],
)
async def test_the_table_changes(database: str, ats: Ats, change: str, said: str) -> None:
    ats.execute("CREATE SCHEMA archive; INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
    async with opened(a_config(database)) as source:
        assert len(await source.rows()) == 1
        run(ats, f"ALTER TABLE public.applications {change}")

        for read in (source.rows(), source.reader.by_key([("1",)]), source.reader.by_application(["a1"])):
            with pytest.raises(SourceError, match=said):
                await read


async def test_a_statement_that_takes_too_long_is_no_mistake(database: str, ats: Ats) -> None:
    ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
    run(ats, "ALTER DATABASE {name} SET statement_timeout = '500ms'", name=ats.info.dbname)
    columns = {"status": {"sql": "CASE WHEN t.id > 0 THEN pg_sleep(30)::text END"}}
    async with opened(a_config(database, columns=columns)) as source:
        with pytest.raises(SourceError, match="statement timeout") as raised:
            await source.rows()

    assert raised.value.kind == "unreachable"


# A database that does not know its own encoding, as old ones do.


@pytest.fixture
def unknown_encoding(cluster: Cluster, ats: Ats) -> Iterator[str]:
    name = f"{ats.info.dbname}_sql_ascii"
    create = "CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    run(ats, create, name=name)
    dsn = make_conninfo(cluster.dsn, dbname=name)
    try:
        create_ats(dsn)
        with psycopg.connect(dsn, client_encoding="latin1", autocommit=True) as legacy:
            legacy.execute("INSERT INTO public.applications (hellowork_id, status) VALUES ('a1', 'Refusé')")
        yield dsn
    finally:
        run(ats, "DROP DATABASE {name}", name=name)


async def test_beside_rows_that_do_convert_the_row_is_named(unknown_encoding: str) -> None:
    """All others would be adopted, and the texts of this one be news as soon as the encoding is given."""
    with psycopg.connect(unknown_encoding, autocommit=True) as legacy:
        legacy.execute("INSERT INTO public.applications (hellowork_id, status) VALUES ('a2', 'Hired')")

    said = await complaint(unknown_encoding)

    assert "client_encoding=" in said
    assert said.endswith("It is so of the row 1.")


async def test_the_remedy_helps(unknown_encoding: str) -> None:
    async with opened(a_config(make_conninfo(unknown_encoding, client_encoding="LATIN1"))) as source:
        assert (await source.row()).status == "Refusé"


# Views, materialized views and foreign tables: read like any table, and refused where triggers are needed.


COLUMNS: Mapping[str, Any] = {
    "application_id": "hellowork_id",
    "status": "status",
    "job_id": "job_id",
    "created": {"sql": "DATE '2024-01-01'"},
    "event_date": None,
    "deleted": None,
}
ROWS = "SELECT 7 AS id, 'a7'::text AS hellowork_id, 'new'::text AS status, 'J1'::text AS job_id, DATE '2024-01-02' AS d"
FOREIGN = """
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE public.shown (id int, hellowork_id text, status text, job_id text, d date)
    SERVER files OPTIONS (program 'echo 7,a7,new,J1,2024-01-02', format 'csv');
"""

NO_TABLES = {
    "view": f"CREATE VIEW public.shown AS {ROWS}",
    "materialized view": f"CREATE MATERIALIZED VIEW public.shown AS {ROWS}",
    "foreign table": FOREIGN,
}


@pytest.fixture(params=NO_TABLES)
def relation(request: pytest.FixtureRequest, ats: Ats) -> None:
    """Create a relation of each kind, named `shown`."""
    create = NO_TABLES[request.param]
    if create is FOREIGN:
        create_extension(ats, "file_fdw")
    run(ats, create)


@pytest.mark.usefixtures("relation")
async def test_any_relation_can_be_read_in_every_way(database: str) -> None:
    async with opened(a_config(database, table="public.shown", columns=COLUMNS)) as source:
        row = await source.row()
        reader = await source.watermark_reader("d")

        assert (row.key, row.application_id, row.status) == (("7",), "a7", "new")
        assert (await source.reader.by_key([("7",), ("8",)])).rows == [row]
        assert (await source.reader.by_application(["a7"])).rows == [row]
        assert (await reader.page(("2024-01-02",), 1)).rows == [row]


@pytest.mark.usefixtures("relation")
@pytest.mark.parametrize("place", ["table", "related"])
def test_only_tables_get_triggers(ats: Ats, place: str) -> None:
    section: dict[str, Any] = {"related": [{"table": "public.shown", "key": ["id"]}]}
    if place == "table":
        section = {"table": "public.shown", "columns": COLUMNS}

    with pytest.raises(psycopg.errors.WrongObjectType):
        install_triggers(ats, a_config(**section))

    ats.execute("ROLLBACK")
    assert one(ats, "SELECT to_regnamespace('cdc_sync')") is None


def test_before_version_11_a_partitioned_table_gets_none(ats: Ats) -> None:
    if major(ats) >= 11:
        pytest.skip("PostgreSQL has row triggers on partitioned tables since 11")
    ats.execute(
        "CREATE TABLE public.shown (id int, hellowork_id text, status text, job_id text) PARTITION BY LIST (id)"
    )
    with pytest.raises(psycopg.errors.WrongObjectType, match="is a partitioned table"):
        install_triggers(ats, a_config(table="public.shown", columns=COLUMNS))


# A database that cannot be reached, or does not let us in: who can mend it, and how.


SECRET = "hunter2 p%40ss"


async def refusal(dsn: str) -> SourceError:
    with pytest.raises(SourceError) as raised:
        async with connected(dsn):
            pass
    assert "hunter2" not in str(raised.value)
    return raised.value


async def test_a_text_that_is_no_dsn() -> None:
    for dsn in ("postgresql://user:hunter2@[host/ats", "hunter2"):
        assert (await refusal(dsn)).kind == "misconfigured"


async def test_a_database_that_does_not_exist(server: str) -> None:
    error = await refusal(make_conninfo(server, dbname="no_such_database"))

    assert error.kind == "misconfigured"
    assert 'database "no_such_database" does not exist' in str(error)
    assert "database.dsn" in str(error)


FRENCH = [
    ("authentification par mot de passe échouée pour l'utilisateur  « cdc_sync »", "login-refused"),
    ("aucune entrée dans pg_hba.conf pour l'hôte « ::1 », utilisateur « cdc_sync »", "login-refused"),
    ("le r\ufffdle « cdc_sync » n'est pas autorisé à se connecter", "login-refused"),
    ("la base de données « ats » n'existe pas", "dsn-wrong"),
]
"""Before the login a server's texts come in its own encoding."""


def test_a_server_that_speaks_french() -> None:
    for said, code in FRENCH:
        error = translate(psycopg.OperationalError(f"connection failed: FATAL:  {said}"), "connecting")
        assert (error.code, error.kind) == (code, "misconfigured")


async def test_a_variable_that_libpq_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "543a")

    error = await refusal("host=/nowhere/at/all dbname=ats")

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
        error = await refusal(make_conninfo(dsn, user="daemon", password=password))
        assert error.kind == "misconfigured"
        assert said in str(error)
        assert "~/.pgpass" in str(error)
    error = await refusal(make_conninfo(dsn, user="stranger"))
    assert error.kind == "misconfigured"
    assert "no pg_hba.conf entry" in str(error)
    assert ".pgpass" not in str(error)
