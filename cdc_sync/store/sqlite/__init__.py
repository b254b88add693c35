"""The embedded store: one SQLite file, in WAL mode with `synchronous = FULL`, so that a commit survives a power cut.

SQLite's page "Write-Ahead Logging" says it: with `synchronous = NORMAL` the last commits may be lost in a power cut,
with `FULL` the log is synchronised to disk after each commit.
"""

from pathlib import Path

from cdc_sync.store.protocol import Upgrading, not_reported
from cdc_sync.store.sqlite.driver import SqliteDriver
from cdc_sync.store.sqlite.schema import copy_store
from cdc_sync.store.store import Store

__all__ = ["SqliteStore", "copy_store"]


class SqliteStore(Store):
    """A store in the file at `path`; see `SqliteDriver`."""

    def __init__(self, path: Path, *, read_only: bool = False, upgrading: Upgrading = not_reported) -> None:
        self.driver = SqliteDriver(path, read_only=read_only, upgrading=upgrading)
        super().__init__(self.driver)
