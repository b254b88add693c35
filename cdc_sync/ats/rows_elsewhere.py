"""Which applications the ATS's tables have, asked outside a watch's own capture: by `resend`, and before a deletion.

An application may move to the table of another watch, an archive for instance. If it has the same account there, it is
one application for HelloWork: while a live row has its id, it is not deleted.

Each read is as the capture's: on the sessions of the database, of the store's own database, and never of an older
server.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from cdc_sync.config import Config
from cdc_sync.config.models import account_of, watch_rules
from cdc_sync.core.batch import Resolved
from cdc_sync.core.content import Content
from cdc_sync.core.outbox import completed
from cdc_sync.core.rows import Reportable, Row, WatchRules, by_application, current, interpret
from cdc_sync.store import Store
from cdc_sync.store.errors import AnotherDatabaseError

from .database import Database
from .errors import SourceError, reason
from .reading import Hiding, Read, Reader, prepared

Found: TypeAlias = Literal["nothing", "unknown", "unreported"]


class Elsewhere(NamedTuple):
    """What other watches' tables have.

    Attributes:
        found: what `Resolved.elsewhere` has, of each application with a live row.
        hidden_by: the policies that may have hidden rows.
    """

    found: Mapping[str, Found]
    hidden_by: frozenset[Hiding]


class OtherWatches:
    """The configured watches, each of which may have rows of another one's account.

    Another configuration may be used while a method waits: each answers of the watches that there were at its begin.

    Attributes:
        databases: by name; all watches share them.
    """

    def __init__(self, config: Config, store: Store) -> None:
        self.databases = {name: Database(config, name, store) for name in config.all_databases}
        self._store = store
        self._running: dict[str, tuple[Reader, asyncio.Event]] = {}
        self.use(config)

    def use(self, config: Config) -> None:
        """Use the configuration with other tenants."""
        self._config = config
        self._account_of = {name: account_of(config, name) for name in config.watches}

    def database_of(self, watch: str) -> Database:
        """A watch's database."""
        return self.databases[self._config.database_name(watch)]

    def of(self, watch: str) -> list[str]:
        """The other watches with this one's account, and those whose rows name theirs."""
        if watch not in self._account_of:
            return []
        own, accounts = self._account_of[watch], self._account_of.items()
        return [name for name, account in accounts if name != watch and (own is None or account in {own, None})]

    async def with_live_row(self, watch: str, accounts: Mapping[str, str]) -> Elsewhere:
        """Ask the other watches' tables for live rows of these applications, each of its account.

        Raises:
            SourceError: one cannot be asked; the message names it.
            StoreError: the store cannot be used.
        """
        config, accounts_then = self._config, self._account_of
        found: dict[str, Found] = {}
        hidden_by: frozenset[Hiding] = frozenset()
        for name in self.of(watch):
            read, rules = await self._ask(config, name, accounts), watch_rules(config, name)
            hidden_by |= read.hidden_by
            are_by_row = accounts_then.get(watch) is None and accounts_then[name] is None
            alive = _alive(read, accounts, accounts_then[name], is_any_account=are_by_row)
            # If it has no record yet of those that it will report, it is about to see them.
            for id_, rows in by_application(read.rows, alive).items():
                if isinstance(resolved(id_, read.at, rows, rules).canonical, Reportable):
                    found[id_] = "unknown"
                else:
                    found.setdefault(id_, "unreported")
        return Elsewhere(found, hidden_by)

    def join(self, watch: str, reader: Reader, suspected: asyncio.Event) -> None:
        """A watch is captured: it is asked by its reader; `look` sets the event."""
        self._running[watch] = reader, suspected

    def leave(self, watch: str) -> None:
        """It is captured no longer."""
        self._running.pop(watch, None)

    def look(self, watches: Iterable[str]) -> None:
        """Others have suspected applications of these watches: those that this process captures see to them."""
        for watch in self._running.keys() & watches:
            self._running[watch][1].set()

    async def present(self, name: str, application_ids: Collection[str]) -> dict[str, Content]:
        """The present states of those of a watch's applications that may be sent once more.

        Each as the row in scope has it; or the acknowledged deletion, unless another watch's table has a live row. Of a
        watch that is not configured, none is known.

        Raises:
            SourceError: a table cannot be read.
            StoreError: the store cannot be used, or the database is not the store's.
        """
        config = self._config
        if name not in config.watches:
            return {}
        rules = watch_rules(config, name)
        known = await self._store.capture.known(name, list(application_ids))
        latest = {id_: of.latest for id_, of in known.items() if of.latest is not None}
        deleted = {id_: rules.account or of.account for id_, of in latest.items() if of.deleted}
        moved = (await self.with_live_row(name, deleted)).found if deleted else {}
        gone = deleted.keys() - moved.keys()
        ended = {id_: rules.addressed(id_, latest[id_]._replace(account=deleted[id_])) for id_ in gone}
        states = {id_: of for id_, of in ended.items() if rules.allowed.refusal(of.url) is None}
        if alive := latest.keys() - deleted.keys():
            read = await self._read_apart(config, name, alive)
            for id_, rows in by_application(read.rows, alive).items():
                row = resolved(id_, read.at, rows, rules).canonical
                row = row and completed(row, known[id_])
                if isinstance(row, Reportable) and not row.content.deleted and rules.refusal(row) is None:
                    states[id_] = row.content
        return states

    async def with_row(self, name: str, application_ids: Collection[str]) -> Collection[str]:
        """Those of which the table has a row, also one that is marked as deleted or out of scope; else as above."""
        config = self._config
        if name not in config.watches:
            return application_ids
        return set(by_application((await self._read_apart(config, name, application_ids)).rows, application_ids))

    async def _ask(self, config: Config, name: str, application_ids: Collection[str]) -> Read:
        try:
            if name in self._running:
                return await self._running[name][0].by_application(application_ids)
            return await self._read_apart(config, name, application_ids)
        except (SourceError, AnotherDatabaseError) as error:
            raise SourceError(error.code, reason("unread-elsewhere", watch=name, reason=error.message)) from error

    async def _read_apart(self, config: Config, name: str, application_ids: Collection[str]) -> Read:
        """The rows of these applications in a watch's table, read without its capture."""
        async with self.databases[config.database_name(name)].sessions(name) as sessions:
            reader = Reader(sessions.pool, await prepared(sessions.pool, config.watches[name]))
            return await reader.by_application(application_ids)


def resolved(application_id: str, changed_at: int, rows: Sequence[Row], rules: WatchRules) -> Resolved:
    """What all of an application's rows mean."""
    best = current(rows)
    canonical = None if best is None else interpret(best, rules, changed_at)
    return Resolved(application_id, changed_at, canonical, frozenset(row.key for row in rows))


def _alive(read: Read, accounts: Mapping[str, str], account: str | None, *, is_any_account: bool) -> set[str]:
    """The applications of which a row of their account is not marked as deleted, also one out of scope or unreadable.

    `account` is that of all rows; None: each names its own. Where all rows do, an application may change its account.
    """
    return {
        id_
        for id_, rows in by_application(read.rows, accounts).items()
        if any(
            row.unreadable or (not row.deleted and (is_any_account or (account or row.account) == accounts[id_]))
            for row in rows
        )
    }
