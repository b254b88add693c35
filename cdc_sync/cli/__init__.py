"""The command `cdc-sync`: one thin file per command group, and the one place where an error becomes an exit code.

0 done; 1 a check or an operation failed; 2 usage; 78 the configuration is invalid (systemd must not restart on it).
"""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cdc_sync import __version__
from cdc_sync.admin.server import AdminError
from cdc_sync.cli import (
    adopt_database,
    check,
    config,
    dead_letters,
    demo,
    emulator,
    explain,
    fuse,
    init,
    plan,
    resend,
    run,
    sql,
    status,
)
from cdc_sync.cli.context import DEFAULT_PATH, Invocation
from cdc_sync.config import ConfigurationError
from cdc_sync.core.failures import StoreError
from cdc_sync.demo.binaries import PostgresMissingError
from cdc_sync.demo.postgres import PostgresFailedError
from cdc_sync.emulator import EmulatorError
from cdc_sync.source.errors import SourceError

EX_CONFIG = 78
"""sysexits.h: something was found in an unconfigured or misconfigured state."""

app = typer.Typer(
    name="cdc-sync",
    help="Keeps HelloWork informed of what happens in an ATS's PostgreSQL database, without touching the ATS.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cdc-sync {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="PATH", help=f"The configuration. Else $CDC_SYNC_CONFIG, else {DEFAULT_PATH}."
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - an eager option acts in its callback
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    context.obj = Invocation(path, os.environ)


app.command()(run.run)
app.command()(check.check)
app.command()(init.init)
app.command()(plan.plan)
app.command()(status.status)
app.command()(explain.explain)
app.add_typer(sql.app, name="sql")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(fuse.app, name="fuse")
app.command()(resend.resend)
app.command()(adopt_database.adopt_database)
app.add_typer(config.app, name="config")
app.command()(emulator.emulator)
app.command()(demo.demo)


def main() -> None:
    """The console script."""
    # What the driver warns of, it raises as well; then we say it in our own words.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    try:
        app()
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        sys.exit(EX_CONFIG)
    except (SourceError, StoreError, AdminError, EmulatorError, PostgresMissingError, PostgresFailedError) as error:
        typer.echo(f"cdc-sync: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
