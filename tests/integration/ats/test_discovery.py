"""Looking for tenants: which schemas of which databases have a template's table."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from support.postgres import Cluster, fresh_database
from support.sessions import Ats

from cdc_sync.ats.discovery import discover
from cdc_sync.config import Config, parse

TABLE = "(id int PRIMARY KEY, hw text, status text, job text, made timestamptz)"
COLUMNS = "{application_id: hw, status: status, job_id: job, created: made}"
NOWHERE = "host=127.0.0.1 port=1 connect_timeout=2"


@pytest.fixture
def another_database(cluster: Cluster) -> Iterator[str]:
    with fresh_database(cluster) as dsn:
        yield dsn


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


async def test_schemas_of_several_databases(database: str, another_database: str) -> None:
    create(database, "a_1")
    create(another_database, "a_1", "a_2")
    databases = f"databases: {{one: {{dsn: '{database}'}}, two: {{dsn: '{another_database}'}}}}"
    found = await discover(a_config(databases, "{schemas: 'a%', databases: [one, two]}"))
    expected = ["applications@one.a_1", "applications@two.a_1", "applications@two.a_2"]
    assert list(found.config.watches) == expected
    assert [found.config.database_name(name) for name in expected] == ["one", "two", "two"]


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
