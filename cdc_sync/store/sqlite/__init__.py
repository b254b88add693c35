"""The embedded store: one SQLite file in WAL mode, with `synchronous = FULL`: see decision 5."""

from cdc_sync.store.sqlite.driver import SqliteDriver
from cdc_sync.store.sqlite.schema import copy_store

__all__ = ["SqliteDriver", "copy_store"]
