"""Where a store under test keeps its data, so that one suite can run on every implementation."""

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from cdc_sync.store.protocol import Store
from cdc_sync.store.sqlite import SqliteStore


class Backend(Protocol):
    """One store's data, which may be opened several times, also at once."""

    async def open(self) -> Store:
        """Open the store."""

    async def mark_as_newer(self) -> None:
        """Make the data look as if a newer cdc-sync had written it."""


class SqliteBackend:
    """The embedded store, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.db"

    async def open(self) -> SqliteStore:
        """See `Backend`."""
        return SqliteStore(self.path)

    async def mark_as_newer(self) -> None:
        """See `Backend`."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA user_version = 4711")


OpenStore = Callable[[], Awaitable[Store]]
"""Opens the same store once more, as another process or the next start would."""

BACKENDS: Mapping[str, Callable[[Path], Backend]] = {"sqlite": SqliteBackend}
"""Every implementation that must pass the conformance suite, by its name in the configuration (`state.backend`)."""
