"""What `cdc-sync init` learns from a real catalog."""

from support.roles import NewRole, dsn_of
from support.sessions import Ats, run

from cdc_sync.ats.connection import connected
from cdc_sync.ats.survey import Survey, survey, with_values
from cdc_sync.config.guessing import Reference, Table, propose, rank
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
        "state": "enum",
        "label": "text",
        "stage": "number",
        "email": "text",
    }
    indexed = {column.name for column in found.columns if column.indexed}
    assert indexed == {"num", "label", "stage"}
    assert {column.name for column in found.columns if column.unique} == set()
    assert found.columns[4].reference == Reference(QualifiedName("ATS", "stages"), "id")


async def test_figures_come_from_the_planner_if_it_has_any(database: str, ats: Ats) -> None:
    run(ats, "INSERT INTO public.applications (status, job_id) SELECT 'S' || i % 5, i FROM generate_series(1, 500) i")
    before = table(await surveyed(database), "applications")
    run(ats, "ANALYZE public.applications")
    found = table(await surveyed(database), "applications")

    assert before.rows is None
    status = before.column("status")
    assert status is not None
    assert status.distinct is None
    assert found.rows == 500
    assert (found.columns[3].name, found.columns[3].distinct) == ("status", 5)
    assert (found.columns[4].name, found.columns[4].distinct) == ("job_id", 500)


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
    guesses = propose(best, found.tables).guesses
    assert {field: guess.column for field, guess in guesses.items() if guess.doubt is None} == {
        "application_id": "hellowork_id",
        "status_url": "status_api_url",
        "status": "status",
        "job_id": "job_id",
        "created": "created_at",
        "event_date": "updated_at",
        "source": "source",
        "deleted": "deleted_at",
    }


async def test_the_values_of_a_flag_are_read_where_the_role_may(database: str, ats: Ats, new_role: NewRole) -> None:
    run(ats, "ALTER TABLE public.applications ADD supprime char(1), ADD actif text")
    run(ats, "INSERT INTO public.applications (supprime, actif) VALUES ('O', '1'), ('N', '1'), (NULL, NULL)")
    role = new_role()
    run(ats, f"GRANT SELECT (supprime) ON public.applications TO {role}")

    async with connected(dsn_of(database, role)) as connection:
        found = await with_values(connection, table(await survey(connection), "applications"))

    assert {one.name: one.values for one in found.columns if one.values is not None} == {"supprime": ("N", "O")}
