"""The embedded store: one SQLite file, in WAL mode with `synchronous = FULL`, so that a commit survives a power cut.

SQLite's page "Write-Ahead Logging" says it: with `synchronous = NORMAL` the last commits may be lost in a power cut,
with `FULL` the log is synchronised to disk after each commit.
"""

from cdc_sync.store.sqlite.driver import SqliteStore
from cdc_sync.store.sqlite.schema import copy_store

__all__ = ["SqliteStore", "copy_store"]
