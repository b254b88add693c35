"""What `cdc-sync init` learns from a real catalog."""

from support.sessions import Ats, run

from cdc_sync.ats.connection import connected
from cdc_sync.ats.facts import Reference
from cdc_sync.ats.survey import Survey, Table, survey
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
