"""The embedded store: one SQLite file in WAL mode, with `synchronous = FULL`: see decision 5."""

from cdc_sync.store.sqlite.driver import SqliteStore
from cdc_sync.store.sqlite.schema import copy_store

__all__ = ["SqliteStore", "copy_store"]
