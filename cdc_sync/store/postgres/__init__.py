"""The shared store: the schema `cdc_sync` of a PostgreSQL database, for a daemon and its standbys on several hosts."""

from cdc_sync.store.postgres.driver import PostgresDriver
from cdc_sync.store.postgres.schema import copy_to_sqlite

__all__ = ["PostgresDriver", "copy_to_sqlite"]
