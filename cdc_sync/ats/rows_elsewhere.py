"""Which applications the ATS's tables have, asked outside a watch's own capture: by `resend`, and before a deletion.

An application may move to the table of another watch, an archive for instance. If it has the same account there, it is
one application for HelloWork: while a live row has its id, it is not deleted.

Each read is as the capture's: on the sessions of the database, of the store's own database, and never of an older
server. A deletion is one of few, but an ATS may have a thousand tables: one statement asks several of them.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from cdc_sync.ats.connection import Pool
from cdc_sync.ats.database import Database, Elsewhere, UnreadElsewhereError
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.ids import Ids, carrying
from cdc_sync.ats.intake import resolved
from cdc_sync.ats.reading import Read, Reader, prepared
from cdc_sync.ats.row_security import Hiding
from cdc_sync.config import Config, Watch
from cdc_sync.config.models import account_of, watch_rules
from cdc_sync.core.reasons import coded
from cdc_sync.core.rows import Reportable, by_application
from cdc_sync.store.errors import AnotherDatabaseError

_TABLES_AT_ONCE = 50
"""Tables of one statement, which locks each of them and its indexes."""


class OtherWatches:
    """The watches that may have rows of another one's account; none until `use`."""

    def __init__(self) -> None:
        self._config: Config | None = None
        self._databases: Mapping[str, Database] = {}
        self._account_of: dict[str, str | None] = {}
        self._watches_of: dict[str | None, list[str]] = {}
        self._ids_of: dict[str, tuple[Watch, Ids]] = {}
        self._suspected: dict[str, asyncio.Event] = {}

    def use(self, config: Config, databases: Mapping[str, Database]) -> None:
        """Use another configuration, with its databases by name."""
        self._config, self._databases = config, databases
        self._account_of = {name: account_of(config, name) for name in config.watches}
        watches_of = defaultdict[str | None, list[str]](list)
        for name, account in self._account_of.items():
            watches_of[account].append(name)
        self._watches_of = dict(watches_of)
        self._ids_of = {name: of for name, of in self._ids_of.items() if config.watches.get(name) is of[0]}

    def of(self, watch: str) -> list[str]:
        """The other watches with this one's account, and those whose rows name theirs."""
        if watch not in self._account_of:
            return []
        account = self._account_of[watch]
        together = (
            self._account_of if account is None else (*self._watches_of[account], *self._watches_of.get(None, ()))
        )
        return [name for name in together if name != watch]

    async def with_live_row(self, watch: str, accounts: Mapping[str, str]) -> Elsewhere:
        """See `ats.database.Others`."""
        application_ids = list(accounts)
        by_database: dict[str, list[str]] = defaultdict(list)
        for name in self.of(watch):
            by_database[self._config_now.database_name(name)].append(name)
        watch_of: dict[str, str] = {}
        unseen: set[str] = set()
        unreported: set[str] = set()
        hidden_by: frozenset[Hiding] = frozenset()
        for database_name, names in by_database.items():
            database = self._databases[database_name]
            for first in range(0, len(names), _TABLES_AT_ONCE):
                some = names[first : first + _TABLES_AT_ONCE]
                for name, read in await self._ask(database, some, application_ids):
                    hidden_by |= read.hidden_by
                    alive = _alive(read, accounts, self._account_of[name])
                    unknown = await self._unknown(database, name, alive)
                    watch_of |= dict.fromkeys(alive - unknown, name)
                    soon = await self._reportable(database, name, unknown)
                    unseen |= soon
                    unreported |= unknown - soon
        # One watch that knows an application is enough.
        unseen -= watch_of.keys()
        unreported -= watch_of.keys() | unseen
        return Elsewhere(watch_of, frozenset(unseen), frozenset(unreported), hidden_by)

    def expect(self, watch: str, suspected: asyncio.Event) -> None:
        """See `ats.database.Others`."""
        self._suspected[watch] = suspected

    def hand_over(self, watch: str) -> None:
        """See `ats.database.Others`."""
        if watch in self._suspected:
            self._suspected[watch].set()

    async def _unknown(self, database: Database, name: str, application_ids: Collection[str]) -> set[str]:
        """Those of these applications that a watch has no record of, or only of a row that is out of scope."""
        known = await database.store.capture.known(name, list(application_ids)) if application_ids else {}
        return set(application_ids) - {id_ for id_, of in known.items() if of.in_scope}

    async def _reportable(self, database: Database, name: str, unknown: Collection[str]) -> set[str]:
        """Those of these applications that a watch will report."""
        if not unknown:
            return set()
        rules, read = watch_rules(self._config_now, name), await self._ask_alone(database, name, unknown)
        found = by_application(read.rows, unknown)
        resolved_each = (resolved(id_, read.at, rows, rules) for id_, rows in found.items())
        return {each.application_id for each in resolved_each if isinstance(each.canonical, Reportable)}

    @property
    def _config_now(self) -> Config:
        if self._config is None:
            raise AssertionError("without a configuration there are no watches")
        return self._config

    async def _ask(
        self, database: Database, names: Sequence[str], application_ids: Collection[str]
    ) -> list[tuple[str, Read]]:
        try:
            async with database.sessions(names[0]) as sessions:
                return await self._ask_together(sessions.pool, names, application_ids)
        except SourceError:
            # A row, or an id that is no number, makes the statement fail; or a table is gone.
            for name in names:
                self._ids_of.pop(name, None)
        except AnotherDatabaseError as error:
            raise _unread(names[0], error) from error
        return [(name, await self._ask_alone(database, name, application_ids)) for name in names]

    async def _ask_together(
        self, pool: Pool, names: Sequence[str], application_ids: Collection[str]
    ) -> list[tuple[str, Read]]:
        watches = self._config_now.watches
        for name in names:
            if name not in self._ids_of:
                self._ids_of[name] = watches[name], Ids(await prepared(pool, watches[name]))
        asked = {name: self._ids_of[name][1] for name in names}
        return await carrying(pool, asked, application_ids)

    async def _ask_alone(self, database: Database, name: str, application_ids: Collection[str]) -> Read:
        try:
            async with reading(database, name, self._config_now.watches[name]) as reader:
                return await reader.by_application(application_ids)
        except (SourceError, AnotherDatabaseError) as error:
            raise _unread(name, error) from error


def _unread(watch: str, error: SourceError | AnotherDatabaseError) -> UnreadElsewhereError:
    return UnreadElsewhereError(
        coded(
            "unread-elsewhere",
            "an application may have moved to the table of the watch %(watch)s, which has the same account and "
            "cannot be read: %(reason)s",
            watch=watch,
            reason=error.message,
        )
    )


def _alive(read: Read, accounts: Mapping[str, str], account: str | None) -> set[str]:
    """The applications of which a row of their account is not marked as deleted, also one out of scope.

    `account` is that of all rows; None: each names its own.
    """
    found = by_application(read.rows, accounts)
    return {
        id_
        for id_, rows in found.items()
        if any(not row.deleted and (account or row.account) == accounts[id_] for row in rows)
    }


@asynccontextmanager
async def reading(database: Database, name: str, watch: Watch) -> AsyncIterator[Reader]:
    """Read a watch's table.

    Raises:
        SourceError: it cannot be read.
        StoreError: the store cannot be used, or the database is not the store's.
    """
    async with database.sessions(name) as sessions:
        yield Reader(sessions.pool, await prepared(sessions.pool, watch))


async def without_live_row(database: Database, name: str, watch: Watch, application_ids: Collection[str]) -> set[str]:
    """Those of these applications of which the store knows no deletion, and the table has no live row.

    Raises:
        SourceError: the table cannot be read.
        StoreError: the store cannot be used, or the database is not the store's.
    """
    known = await database.store.capture.known(name, list(application_ids))
    alive = [id_ for id_, of in known.items() if of.latest is not None and not of.latest.deleted]
    if not alive:
        return set()
    async with reading(database, name, watch) as reader:
        found = by_application((await reader.by_application(alive)).rows, alive)
        return set(alive) - {id_ for id_, rows in found.items() if any(not row.deleted for row in rows)}


async def with_row(database: Database, name: str, watch: Watch, application_ids: Collection[str]) -> set[str]:
    """Those of these applications of which the table has a row, also one that is marked as deleted or out of scope.

    Raises:
        SourceError: the table cannot be read.
        StoreError: the store cannot be used, or the database is not the store's.
    """
    async with reading(database, name, watch) as reader:
        return set(by_application((await reader.by_application(application_ids)).rows, application_ids))
