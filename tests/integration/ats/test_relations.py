"""Views, materialized views and foreign tables: read like any table, and refused where triggers are needed."""

from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from support.extensions import create_extension
from support.sessions import Ats, one, run
from support.source import opened
from support.versions import major
from support.watched import a_config, install_triggers

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
