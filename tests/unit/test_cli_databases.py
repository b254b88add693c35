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
"""
    return parse(text, name="config.yaml", environ={})


def test_one_of_several_databases_needs_a_name(config: Config) -> None:
    assert the_database(config, "south") == "south"
    with pytest.raises(typer.BadParameter, match="there are several: north, south"):
        the_database(config, None)
    with pytest.raises(typer.BadParameter, match="no database is called 'west'; there is: north, south"):
        the_database(config, "west")
