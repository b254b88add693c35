"""Which of several databases a command is about."""

import pytest
import typer
from support.configurations import LEAST

from cdc_sync.cli.context import the_database
from cdc_sync.config import Config, parse


@pytest.fixture
def config() -> Config:
    text = f"""\
databases: {{north: {{dsn: postgresql:///north}}, south: {{dsn: postgresql:///south}}}}
{LEAST}    database: south
  of_databases:
    for_each: {{databases: [north, south], schemas: '%'}}
    table: applications
    key: [id]
    columns: {{application_id: hellowork_id, status: status, job_id: job_id, created: created_at}}
  of_schemas:
    for_each: {{schemas: '%'}}
    database: north
    table: applications
    key: [id]
    columns: {{application_id: hellowork_id, status: status, job_id: job_id, created: created_at}}
"""
    return parse(text, name="config.yaml", environ={})


@pytest.mark.parametrize(
    ("watch", "database"),
    [("applications", "south"), ("of_databases@south.tenant_1", "south"), ("of_schemas@tenant_1", "north")],
)
def test_a_watch_or_a_tenant_names_its_database(config: Config, watch: str, database: str) -> None:
    assert the_database(config, None, watch) == database
    assert the_database(config, database, watch) == database


@pytest.mark.parametrize("watch", [None, "of_schemas@%", "nothing"])
def test_a_name_without_a_database_needs_one(config: Config, watch: str | None) -> None:
    with pytest.raises(typer.BadParameter, match="there are several: north, south"):
        the_database(config, None, watch)
