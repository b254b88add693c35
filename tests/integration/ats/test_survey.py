"""What `cdc-sync init` learns from a real catalog."""

from support.roles import NewRole, dsn_of
from support.sessions import Ats, run

from cdc_sync.ats.connection import connected
from cdc_sync.ats.survey import Reference, Survey, Table, some_values, survey
from cdc_sync.cli.guessing import propose, rank
from cdc_sync.core.identifiers import QualifiedName


async def surveyed(dsn: str) -> Survey:
    async with connected(dsn) as connection:
        return await survey(connection)


def table(found: Survey, name: str) -> Table:
    return next(table for table in found.tables if table.name.name == name)


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


async def test_the_number_of_rows_comes_from_the_planner_if_it_has_one(database: str, ats: Ats) -> None:
    run(ats, "INSERT INTO public.applications (status, job_id) SELECT 'S' || i % 5, i FROM generate_series(1, 500) i")
    before = table(await surveyed(database), "applications")
    run(ats, "ANALYZE public.applications")
    found = table(await surveyed(database), "applications")

    assert before.rows is None
    assert found.rows == 500


async def test_partitions_are_their_tables_and_our_own_are_nobodys(database: str, ats: Ats) -> None:
    run(
        ats,
        """CREATE TABLE public.parted (id integer) PARTITION BY LIST (id);
           CREATE TABLE public.part PARTITION OF public.parted FOR VALUES IN (1);
           CREATE VIEW public.shown AS SELECT * FROM public.parted;
           CREATE SCHEMA cdc_sync; CREATE TABLE cdc_sync.changes (id integer)""",
    )

    found = await surveyed(database)

    assert {(table.name.name, table.kind) for table in found.tables} == {
        ("applications", "r"),
        ("parted", "p"),
        ("shown", "v"),
    }


async def test_a_role_that_may_read_nothing_learns_the_same_names(database: str, new_role: NewRole) -> None:
    role = new_role()

    found = await surveyed(dsn_of(database, role))

    assert (found.user, found.is_superuser, found.in_recovery) == (role, False, False)
    best = rank(found.tables)[0]
    assert best.name == QualifiedName("public", "applications")
    found_values = propose(best, found, {}, None, None).values
    assert {field: value.column for field, value in found_values.items() if "put_" not in (value.column or "")} == {
        "created": "created_at",
        "event_date": "updated_at",
    }


async def test_some_values_are_read_where_the_role_may(database: str, ats: Ats, new_role: NewRole) -> None:
    run(ats, "INSERT INTO public.applications (status, job_id) SELECT 'S' || i % 40, i FROM generate_series(1, 99) i")
    role = new_role()
    run(ats, f"GRANT SELECT (status) ON public.applications TO {role}")

    async with connected(dsn_of(database, role)) as connection:
        name = QualifiedName("public", "applications")
        assert len(await some_values(connection, name, "status")) == 12
        assert await some_values(connection, name, "job_id") == []
