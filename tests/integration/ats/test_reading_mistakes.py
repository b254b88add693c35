"""What is wrong with the configuration or the database is said once, with where and with the remedy."""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.postgres import Cluster, create_ats
from support.roles import NewRole, dsn_of
from support.sessions import Ats, run
from support.source import opened
from support.watch_session import session
from support.watched import a_config, grant

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
            ("ats.applications", "Did you mean public.applications?"),
            ("aplications", "Did you mean public.applications?"),
            ("public.Applications_2", "Did you mean public.applications?"),
            ('public."Applications"', "Did you mean public.applications?"),
        ],
    )
    async def test_a_near_miss_is_suggested(self, database: str, table: str, suggestion: str) -> None:
        said = await complaint(database, table=table)

        assert said.startswith(f"The table {table.replace('A', 'a') if '_2' in table else table} does not exist")
        assert suggestion in said
        assert "Correct the watch's table" in said

    async def test_nothing_is_suggested_where_nothing_is_near(self, database: str) -> None:
        assert "Did you mean" not in await complaint(database, table="zzz")

    async def test_a_relation_that_has_no_rows(self, database: str) -> None:
        said = await complaint(database, table="public.applications_pkey")

        assert said.startswith("public.applications_pkey is no table, view or foreign table")
        assert "Correct the watch's table" in said

    async def test_a_schema_that_is_closed_to_the_role(self, database: str, ats: Ats, new_role: NewRole) -> None:
        ats.execute("CREATE SCHEMA ats; CREATE TABLE ats.applications (id int)")

        said = await complaint(dsn_of(database, new_role()), table="ats.applications")

        assert "permission denied for schema ats" in said
        assert "`cdc-sync sql grants`" in said


class TestColumns:
    async def test_one_that_is_missing(self, database: str) -> None:
        said = await complaint(database, columns={"status": "statuss"})

        assert "column t.statuss does not exist" in said
        assert 'Perhaps you meant to reference the column "t.status"' in said
        assert "Correct columns, where or key" in said

    async def test_a_key_that_is_missing(self, database: str) -> None:
        said = await complaint(database, key=["ids"])

        assert said.startswith("The key column ids does not exist in public.applications, which has ")
        assert "created_at" in said
        assert "Correct the watch's key" in said

    async def test_a_watermark_that_is_missing(self, database: str) -> None:
        said = await complaint(database, watermark="updated")

        assert said.startswith("The watermark column updated does not exist in public.applications, which has ")
        assert "Correct capture.watermark" in said

    async def test_a_watermark_that_is_no_date(self, database: str) -> None:
        said = await complaint(database, watermark="status")

        assert "The watermark column status of public.applications is of type text" in said
        assert "it must be a timestamp or a date" in said

    @pytest.mark.parametrize(
        ("columns", "mistake"),
        [
            ({"created": "id"}, "columns.created must be a date or a timestamp, not int8"),
            ({"created": "id"}, '{sql: "to_timestamp(…)", depends_on: [id]}'),
            ({"created": {"sql": "'(1,2)'::pair"}}, "a date or a timestamp, not a type of the database's own (oid "),
            (
                {"event_date": {"sql": "t.created_at::text"}},
                "columns.event_date must be a date or a timestamp, not text",
            ),
            ({"deleted": "status"}, "columns.deleted must be a boolean, a date or a timestamp, not text"),
            ({"deleted": "status"}, '{sql: "status = …", depends_on: [status]}'),
            ({"created": "status", "deleted": "id"}, "columns.created must be"),
            ({"created": "status", "deleted": "id"}, "columns.deleted must be"),
        ],
    )
    async def test_types_that_do_not_fit_their_use(
        self, database: str, ats: Ats, columns: dict[str, Any], mistake: str
    ) -> None:
        ats.execute("CREATE TYPE pair AS (a int, b int)")

        assert mistake in await complaint(database, columns=columns)


class TestExpressions:
    @pytest.mark.parametrize(
        ("expression", "said"),
        [
            ("upper(t.status", "syntax error"),
            ("t.status)) FROM pg_class --", "syntax error"),
            ("upcase(t.status)", "function upcase(text) does not exist"),
            ("max(t.status)", "must appear in the GROUP BY clause"),
            ("t.status::statut", 'type "statut" does not exist'),
            ("t.created_at::int", "cannot cast type timestamp with time zone to integer"),
            ("status || t.nothing", "column t.nothing does not exist"),
            ("t.status = 1", "operator does not exist: text = integer"),
            ("'open", "unterminated quoted string"),
        ],
    )
    async def test_that_postgresql_does_not_understand(self, database: str, expression: str, said: str) -> None:
        complained = await complaint(database, columns={"status": {"sql": expression}})

        assert said in complained
        assert "The watch's configuration does not fit the table" in complained
        assert "Correct columns, where or key" in complained

    @pytest.mark.parametrize(
        ("where", "said"), [("t.status", "must be type boolean"), ("t.status = ", "syntax error"), ("1", "boolean")]
    )
    async def test_a_condition_that_is_none(self, database: str, where: str, said: str) -> None:
        assert said in await complaint(database, where=where)

    async def test_another_table_that_is_missing(self, database: str) -> None:
        said = await complaint(database, columns={"status": {"sql": "(SELECT label FROM stages)"}})

        assert 'relation "stages" does not exist' in said

    @pytest.mark.parametrize(
        ("expression", "said"),
        [
            ("t.notes::int", "invalid input syntax for"),
            ("t.notes::jsonb ->> 'a'", "invalid input syntax for type json"),
            ("t.notes::timestamp", "invalid input syntax for type timestamp"),
            ("to_date(t.notes, 'YYYY')", "invalid value"),
            ("(t.id / 0)", "division by zero"),
        ],
    )
    async def test_that_fail_on_a_value_do_not_tell_it(
        self, database: str, ats: Ats, expression: str, said: str
    ) -> None:
        ats.execute("INSERT INTO public.applications (notes) VALUES ('Jeanne Martin, née \"Durand\" le 3/4')")

        complained = await complaint(database, columns={"status": {"sql": f"({expression})::text"}})

        assert said in complained
        assert "let it give NULL for what it cannot convert" in complained
        for secret in ("Jeanne", "Martin", "Durand", "3/4", "Jean"):
            assert secret not in complained


class TestPrivileges:
    async def test_none_at_all(self, database: str, new_role: NewRole) -> None:
        said = await complaint(dsn_of(database, new_role()))

        assert re.search("permission denied for (table|relation) applications", said)
        assert "`cdc-sync sql grants`" in said

    async def test_those_of_another_configuration(self, database: str, ats: Ats, new_role: NewRole) -> None:
        role = new_role()
        grant(ats, a_config(capture={"mode": "poll", "watermark": "updated_at"}), role)

        async with opened(a_config(dsn_of(database, role))) as source:
            assert await source.rows() == []
        assert "permission denied" in await complaint(dsn_of(database, role), columns={"source": "source"})

    async def test_one_that_is_revoked_meanwhile(self, database: str, ats: Ats, new_role: NewRole) -> None:
        role = new_role()
        grant(ats, a_config(capture={"mode": "poll", "watermark": "updated_at"}), role)
        async with opened(a_config(dsn_of(database, role))) as source:
            run(ats, "REVOKE SELECT (status) ON public.applications FROM {role}", role=role)

            with pytest.raises(SourceError, match="permission denied") as raised:
                await source.rows()

        assert raised.value.kind == "misconfigured"


class TestMeanwhile:
    """What becomes wrong while the daemon runs is an error too, never an empty answer."""

    @pytest.mark.parametrize(
        "change",
        [
            "ALTER TABLE public.applications RENAME TO candidacies",
            "ALTER TABLE public.applications RENAME status TO label",
            "ALTER TABLE public.applications DROP COLUMN job_id",
            "ALTER TABLE public.applications SET SCHEMA archive",
            "DROP TABLE public.applications",
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


async def test_an_error_inside_a_session_stays_what_it_was(database: str) -> None:
    """It passes through every context manager that the daemon stacks."""
    with pytest.raises(SourceError, match="does not exist"):
        async with session(database, "applications"), opened(a_config(database, table="zzz")):
            pass


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

    async def test_a_text_in_another_encoding_is_told_with_the_remedy(self, unknown_encoding: str) -> None:
        said = await complaint(unknown_encoding)

        assert "A text does not convert to the connection's encoding (reading public.applications)" in said
        assert "client_encoding=" in said
        assert "Refus" not in said

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
