"""A table whose names need quotes in every way, as legacy tools make them."""

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from support.sessions import Ats, run

TABLE = '''"Légende ""des"" d'été"."Candidature 100%"'''
TEXT_KEY = '"Clé {0}"'
NUMBER_KEY = '''"N° d'ordre"'''
STATUS = '"Statut ""actuel"" %s"'

WATCH_SECTION: Mapping[str, Any] = {
    "table": TABLE,
    "key": [TEXT_KEY, NUMBER_KEY],
    "columns": {
        "application_id": TEXT_KEY,
        "status": STATUS,
        "job_id": '"order"',
        "created": {"sql": "timestamptz '2024-01-02 03:04:05Z'", "depends_on": []},
    },
    "where": {"sql": 't."User" IS NOT NULL', "depends_on": ['"User"']},
}

KEY = 'l\'été "25" {x} 100% \\ é'
"""A text for the first key column."""


def create(ats: Ats) -> None:
    run(ats, "CREATE SCHEMA {schema}", schema=TABLE.partition(".")[0])
    columns = f'{TEXT_KEY} text, {NUMBER_KEY} int, {STATUS} text, "order" text, "User" text'
    run(ats, "CREATE TABLE {table} ({columns})", table=TABLE, columns=columns)


def insert(ats: Ats, number: int = 1, *, text: str = KEY, status: str = "new") -> None:
    # With parameters, each `%` of a name would have to be two.
    values = sql.SQL(", ").join(map(sql.Literal, (text, number, status, "J1", "u"))).as_string()
    run(ats, "INSERT INTO {table} VALUES ({values})", table=TABLE, values=values)
