"""Decides which watches may send.

- Their database is known to be the one in the store: a copied installation, store included, must not send its pending
  entries. So nothing of a watch is sent before its database is recognised: at the start, after it turned out to be
  another one, after a reload with another section or watch.
- The rows of their pending entries were read again since the watch began: the store may be a restored backup, with
  states that are older than those that HelloWork has. A watch begins at the start, after a reload, and each time its
  database was lost. Where another daemon captures the watch, that one reads the rows (`reread_elsewhere`).
- Their own credentials are there: entries would be sent with another customer's.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from cdc_sync.config import Config
from cdc_sync.core.failures import StoreError
from cdc_sync.store import Store
from cdc_sync.store.protocol import Reread

_ANOTHER = "store-another-database"


class Gate:
    """See the module's text; calls `opened` when withheld entries may be sent.

    `any` is set once the first database is recognised: then entries of watches that are no longer configured go out.
    """

    def __init__(self, store: Store, opened: Callable[[], None]) -> None:
        self.any = asyncio.Event()
        self._opened = opened
        self._store = store
        self._database_of: dict[str, str] = {}
        """With watches that are no longer configured, if their database is."""
        self._noted: dict[str, str] = {}
        """The database that each watch was captured from, by the store."""
        self._accepted: dict[str, str] = {}
        """Recognised watches and their databases; the store may not have them yet."""
        self._recognised: set[str] = set()
        """Databases known to be those in the store."""
        self._configured: Collection[str] = ()
        self._reread: set[str] = set()
        """Watches whose pending rows were read again since they began."""
        self._beats: dict[int, str] = {}
        """The first beat that was seen of each other daemon."""
        self._without_credentials: set[str] = set()
        """Watches whose own credentials are gone."""
        self._knows_credentials = False

    async def use(self, config: Config, kept: Collection[str]) -> None:
        """Use another configuration; the databases in `kept` are unchanged."""
        noted: dict[str, str] = {}
        with suppress(StoreError):  # reported elsewhere; a watch of a named database is withheld
            noted = await self._store.captured_from()
            if not self._knows_credentials:  # the daemon keeps those of a watch that goes later
                self._without_credentials.update(await self._store.credentials())
                self._knows_credentials = True
        # In one turn of the event loop: watches are recognised, and lost, during the reads.
        self._noted, self._configured = noted, config.watches.keys()
        self._without_credentials -= config.watches.keys()
        former = {watch: database for watch, database in noted.items() if database in config.all_databases}
        self._database_of = former | {watch: config.database_name(watch) for watch in config.watches}
        self._accepted = {
            watch: database
            for watch, database in self._accepted.items()
            if database in kept and self._database_of.get(watch) == database
        }
        self._recognised.intersection_update(kept)
        self._withhold()

    @property
    def waiting(self) -> set[str]:
        """Configured watches whose pending rows are still to be read again."""
        return {watch for watch in self._configured if watch not in self._reread}

    def _withhold(self) -> None:
        """Withhold watches whose database is not recognised, or not known as theirs; see the module's text."""
        before = len(self._store.withheld)
        unrecognised = {
            watch
            for watch, database in self._database_of.items()
            if database not in self._recognised
            or database not in {self._noted.get(watch, ""), self._accepted.get(watch)}
        }
        self._store.withheld = unrecognised | self.waiting | self._without_credentials
        if len(self._store.withheld) < before:
            self._opened()

    def drop_credentials(self, watches: Collection[str]) -> None:
        """The own credentials of these watches are gone."""
        self._without_credentials.update(watches)
        self._withhold()

    def recognise(self, watch: str) -> None:
        """A watch's database is the store's."""
        database = self._database_of.get(watch)
        if database is None:
            return
        self._accepted[watch] = database
        self._recognised.add(database)
        self._withhold()
        self.any.set()

    def begin(self, watch: str) -> None:
        """This daemon has taken a watch: its entries wait until `reread`."""
        self._reread.discard(watch)
        self.recognise(watch)

    def end(self, watch: str) -> None:
        """The watch ends, for good or to begin again with other settings."""
        self._reread.discard(watch)
        self._withhold()

    def reread(self, watch: str) -> None:
        """The rows of the watch's pending entries were read again."""
        self._reread.add(watch)
        self._withhold()

    def reread_elsewhere(self, found: Iterable[Reread]) -> None:
        """Let entries go whose rows were read again by the other daemon that captures their watch.

        That daemon must be seen to live: in a restored store, a lease and what was noted under it are old.
        """
        for each in found:
            if self._beats.setdefault(each.daemon, each.beat) != each.beat:
                self.reread(each.watch)

    def lost(self, watch: str, code: str | None) -> None:
        """A watch's database cannot be used, for the reason `code`."""
        if code == _ANOTHER and (database := self._database_of.get(watch)) is not None:
            self._recognised.discard(database)
            self._withhold()
