"""What is wrong with the configuration or the database is said once, with where and with the remedy."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.postgres import Cluster, create_ats
from support.roles import NewRole, dsn_of
from support.sessions import Ats, run
from support.source import opened
from support.watched import a_config

from cdc_sync.ats.errors import SourceError


async def complaint(database: str, watermark: str | None = None, **section: Any) -> str:
    """What a watch is told that reads its table, and polls it if there is a watermark."""
    with pytest.raises(SourceError) as raised:  # noqa: PT012 - it may come at any of these steps
        async with opened(a_config(database, **section)) as source:
            await source.rows()
            if watermark is not None:
                await source.watermark_reader(watermark)
    assert raised.value.kind == "misconfigured"
    return str(raised.value)


class TestTable:
    @pytest.mark.parametrize(
        ("table", "suggestion"),
        [
            ("public.aplications", "Did you mean public.applications?"),
            ('public."Applications"', "Did you mean public.applications?"),
        ],
    )
    async def test_a_near_miss_is_suggested(self, database: str, table: str, suggestion: str) -> None:
        said = await complaint(database, table=table)

        assert said.startswith(f"The table {table} does not exist")
        assert suggestion in said
        assert "Correct the watch's table" in said

    async def test_a_schema_that_is_closed_to_the_role(self, database: str, ats: Ats, new_role: NewRole) -> None:
        ats.execute("CREATE SCHEMA ats; CREATE TABLE ats.applications (id int)")

        said = await complaint(dsn_of(database, new_role()), table="ats.applications")

        assert "permission denied for schema ats" in said
        assert "`cdc-sync sql grants`" in said

    async def test_a_relation_that_has_no_rows(self, database: str) -> None:
        said = await complaint(database, table="public.applications_pkey")

        assert said.startswith("public.applications_pkey is no table, view or foreign table")
        assert "Correct the watch's table" in said


MISFITS = [
    ({"created": "id"}, "columns.created must be a date or a timestamp, not int8"),
    (
        {"event_date": {"sql": "t.created_at::text"}},
        "columns.event_date must be a date or a timestamp, not text",
    ),
    ({"deleted": "status"}, "columns.deleted must be a boolean, a date or a timestamp, not text"),
    ({"created": "status", "deleted": "id"}, "columns.deleted must be"),
]


class TestColumns:
    async def test_a_key_that_is_missing(self, database: str) -> None:
        said = await complaint(database, key=["ids"])

        assert said.startswith("The key column ids does not exist in public.applications, which has ")
        assert "created_at" in said
        assert "Correct the watch's key" in said

    async def test_a_watermark_that_is_no_date(self, database: str) -> None:
        said = await complaint(database, watermark="status")

        assert "The watermark column status of public.applications is of type text" in said
        assert "it must be a timestamp or a date" in said

    async def test_types_that_do_not_fit_their_use(self, database: str) -> None:
        for columns, mistake in MISFITS:
            assert mistake in await complaint(database, columns=columns)

    async def test_a_watermark_that_is_missing(self, database: str) -> None:
        said = await complaint(database, watermark="updated")

        assert said.startswith("The watermark column updated does not exist in public.applications, which has ")
        assert "Correct capture.watermark" in said


NOT_SQL = [
    ("upper(t.status", "syntax error"),
    ("upcase(t.status)", "function upcase(text) does not exist"),
]


NO_CONDITIONS = [("t.status", "must be type boolean"), ("t.status = ", "syntax error"), ("1", "boolean")]


FAILING = [
    ("t.notes::jsonb ->> 'a'", "invalid input syntax for type json"),
    ("(t.id / 0)", "division by zero"),
]


class TestExpressions:
    async def test_that_postgresql_does_not_understand(self, database: str) -> None:
        for expression, said in NOT_SQL:
            complained = await complaint(database, columns={"status": {"sql": expression}})

            assert said in complained
            assert "The watch's configuration does not fit the table" in complained
            assert "Correct columns, where or key" in complained

    async def test_a_condition_that_is_none(self, database: str) -> None:
        for where, said in NO_CONDITIONS:
            assert said in await complaint(database, where=where)

    async def test_that_fail_on_a_value_do_not_tell_it(self, database: str, ats: Ats) -> None:
        for expression, said in FAILING:
            ats.execute("INSERT INTO public.applications (notes) VALUES ('Jeanne Martin, née \"Durand\" le 3/4')")

            complained = await complaint(database, columns={"status": {"sql": f"({expression})::text"}})

            assert said in complained
            assert "let it give NULL for what it cannot convert" in complained
            for secret in ("Jeanne", "Martin", "Durand", "3/4", "Jean"):
                assert secret not in complained


class TestMeanwhile:
    """What becomes wrong while the daemon runs is an error too, never an empty answer."""

    @pytest.mark.parametrize(
        "change",
        [
            "ALTER TABLE public.applications RENAME TO candidacies",
            "ALTER TABLE public.applications DROP COLUMN job_id",
        ],
    )
    async def test_the_table_changes(self, database: str, ats: Ats, change: str) -> None:
        ats.execute("CREATE SCHEMA archive; INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
        async with opened(a_config(database)) as source:
            assert len(await source.rows()) == 1
            run(ats, change)

            for read in (source.rows(), source.reader.by_key([("1",)]), source.reader.by_application(["a1"])):
                with pytest.raises(SourceError, match="does not exist") as raised:
                    await read
                assert raised.value.kind == "misconfigured"

    async def test_a_column_gets_another_type_that_fits_as_well(self, database: str, ats: Ats) -> None:
        ats.execute("INSERT INTO public.applications (hellowork_id, status) VALUES ('1', '7')")
        async with opened(a_config(database)) as source:
            before = await source.row()
            ats.execute("ALTER TABLE public.applications ALTER status TYPE int USING status::int")

            assert await source.row() == before

    async def test_a_statement_that_takes_too_long_is_no_mistake(self, database: str, ats: Ats) -> None:
        ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
        run(ats, "ALTER DATABASE {name} SET statement_timeout = '50ms'", name=ats.info.dbname)
        columns = {"status": {"sql": "CASE WHEN t.id > 0 THEN pg_sleep(30)::text END"}}
        async with opened(a_config(database, columns=columns)) as source:
            with pytest.raises(SourceError, match="statement timeout") as raised:
                await source.rows()

        assert raised.value.kind == "unreachable"


class TestEncoding:
    """A database that does not know its own encoding, as old ones do."""

    @pytest.fixture
    def unknown_encoding(self, cluster: Cluster, ats: Ats) -> Iterator[str]:
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

    async def test_beside_rows_that_do_convert_the_row_is_named(self, unknown_encoding: str) -> None:
        """All others would be adopted, and the texts of this one be news as soon as the encoding is given."""
        with psycopg.connect(unknown_encoding, autocommit=True) as legacy:
            legacy.execute("INSERT INTO public.applications (hellowork_id, status) VALUES ('a2', 'Hired')")

        said = await complaint(unknown_encoding)

        assert "client_encoding=" in said
        assert said.endswith("It is so of the row 1.")

    async def test_the_remedy_helps(self, unknown_encoding: str) -> None:
        async with opened(a_config(make_conninfo(unknown_encoding, client_encoding="LATIN1"))) as source:
            assert (await source.row()).status == "Refusé"
