"""`cdc-sync config`: check a file, and help to write one."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cdc_sync.cli.context import print_json, put_out, say, suspicious
from cdc_sync.config import example as example_text
from cdc_sync.config import json_schema, load
from cdc_sync.config.sessions import sessions_needed

config = typer.Typer(no_args_is_help=True, help="Check a configuration, or help to write one.")


@config.command()
def validate(
    context: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(help="The file. Else as for every command.", show_default=False, readable=False)
    ] = None,
) -> None:
    """Check the file, and show every mistake at once."""
    file = path or context.obj
    config = load(file, os.environ)
    found = suspicious(config, file)
    wrong = [each for each in found if each.code in {"status-number", "status-number-in-part"}]
    for each in found:
        say(f"{'error' if each in wrong else 'warning'}: {each}", err=True)
    if wrong:  # the daemon runs all the same: a name is no proof
        raise typer.Exit(78)
    say(f"{file} is valid: {len(config.watches)} watch(es), {', '.join(config.watches)}")
    shares_store = config.state.backend == "postgres" and config.state.dsn is None
    say(f"The daemon takes {sessions_needed(config.database.pool, shares_store=shares_store)}.")


@config.command()
def schema() -> None:
    """Print the JSON Schema, for editors."""
    print_json(json_schema())


@config.command()
def example() -> None:
    """Print the annotated example."""
    put_out(example_text())
