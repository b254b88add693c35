"""`cdc-sync backup`: a consistent copy of the store."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cdc_sync.cli.context import invocation, say
from cdc_sync.core.failures import OperationError
from cdc_sync.store.opening import place_of
from cdc_sync.store.sqlite import copy_store

_IN_POSTGRES = (
    "pg_dump --data-only --table='cdc_sync.*' --exclude-table='cdc_sync.changes*' --exclude-table='cdc_sync.bell_*' "
    "--exclude-table='cdc_sync.missed_*' --file=FILE DATABASE"
)


def backup(
    context: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; it must not exist.")]
) -> None:
    """Copy the store into a new file, whole and consistent. Works with the daemon up or down; for a store of SQLite."""
    config = invocation(context).config()
    if config.state.backend == "postgres":
        raise OperationError(
            f"The store is in PostgreSQL ({place_of(config)}), and in that server's backups. By itself: {_IN_POSTGRES}"
        )
    try:
        # O_EXCL: a file that came into being meanwhile is not overwritten either.
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise OperationError(f"{file} exists, and is left as it is. Name another file.") from None
    except OSError as error:
        raise OperationError(f"{file} cannot be written: {error.strerror}. Name one in a folder that can be.") from None
    try:
        copy_store(config.state.path, file)
    except BaseException:
        file.unlink()  # half a store is none
        raise
    say(f"{file} has the store {config.state.path}")
