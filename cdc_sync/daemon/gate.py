"""Decides which watches may send: those whose database is known to be the one in the store.

A copied installation, store included, must not send its pending entries. So nothing of a watch is sent before its
database is recognised: at the start, after it turned out to be another one, after a reload with another section or
watch.

Nor is anything sent of a watch with credentials of its own that was no longer configured at the start: it would go out
with another customer's.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress

from cdc_sync.config import Config
from cdc_sync.core.failures import StoreError
from cdc_sync.store.store import Store

_ANOTHER = "store-another-database"


class Gate:
    """See the module's text.

    Args:
        store: claims nothing of the watches withheld here.
        opened: called when withheld entries may be sent.

    Attributes:
        any: set once the first database is recognised. Entries of watches that are no longer configured go out then.
    """

    def __init__(self, store: Store, opened: Callable[[], None]) -> None:
        self.any = asyncio.Event()
        self._opened = opened
        self._store = store
        self._withheld: set[str] = set()
        self._watches: dict[str, set[str]] = {}
        self._database_of: dict[str, str] = {}
        self._recognised: set[str] = set()
        self._moved: set[str] = set()
        """Watches withheld by themselves: captured under another database's name and not recognised since, or without
        their credentials."""
        self._accepted: dict[str, str] = {}
        """Recognised watches and their databases; the store may not have them yet."""
        self._without_credentials: set[str] | None = None
        """Watches that had credentials of their own, which are gone; None before that is known."""
        store.withheld = self._withheld

    async def use(self, config: Config, kept: Collection[str]) -> None:
        """Use another configuration; the databases in `kept` are unchanged."""
        noted: dict[str, str] = {}
        with suppress(StoreError):  # reported elsewhere; a watch of a named database is withheld
            noted = await self._store.captured_from()
            if self._without_credentials is None:  # those of a watch that goes later are kept
                self._without_credentials = {*await self._store.credentials()}
        # Includes watches that are no longer configured, if their database is.
        former = {watch: database for watch, database in noted.items() if database in config.all_databases}
        self._database_of = former | {watch: config.database_name(watch) for watch in config.watches}
        self._watches = defaultdict(set)
        for watch, database in self._database_of.items():
            self._watches[database].add(watch)
        self._accepted = {
            watch: database
            for watch, database in self._accepted.items()
            if database in kept and self._database_of.get(watch) == database
        }
        self._moved = {
            watch
            for watch, database in self._database_of.items()
            if database not in {noted.get(watch, ""), self._accepted.get(watch)}
        }
        if self._without_credentials is not None:
            self._without_credentials -= config.watches.keys()
            self._moved |= self._without_credentials
        self._recognised.intersection_update(kept)
        unknown = self._watches.keys() - self._recognised
        self._withheld.clear()
        self._withheld.update(self._moved, *(self._watches[database] for database in unknown))

    def recognise(self, watch: str) -> None:
        """A watch's database is the one that the store remembers."""
        database = self._database_of.get(watch)
        if database is None:
            return
        before = len(self._withheld)
        self._accepted[watch] = database
        self._moved.discard(watch)
        self._withheld.discard(watch)
        if database not in self._recognised:
            self._recognised.add(database)
            self._withheld -= self._watches[database] - self._moved
        self.any.set()
        if len(self._withheld) < before:
            self._opened()

    def lost(self, watch: str, code: str | None) -> None:
        """A watch's database cannot be used; `code` is the reason."""
        if code == _ANOTHER and (database := self._database_of.get(watch)) is not None:
            self._recognised.discard(database)
            self._withheld |= self._watches[database]
