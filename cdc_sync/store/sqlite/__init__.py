"""The embedded store: one SQLite file, in WAL mode with `synchronous = FULL`, so that a commit survives a power cut.

Source: SQLite's page "Write-Ahead Logging".
"""

from cdc_sync.store.sqlite.driver import SqliteStore
from cdc_sync.store.sqlite.schema import copy_store

__all__ = ["SqliteStore", "copy_store"]
