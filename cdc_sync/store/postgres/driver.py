"""The store's driver for PostgreSQL: one session (see `session.py`), and the clock of its server."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

import psycopg

from cdc_sync.config.dsn import shown
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store.clock import Clock, uptime
from cdc_sync.store.driver import Driver, Effect, Transaction, Work, no_effect
from cdc_sync.store.errors import store_error
from cdc_sync.store.postgres.schema import Connection, connect, prepare, translate
from cdc_sync.store.postgres.scripts import KIND
from cdc_sync.store.postgres.session import Session
from cdc_sync.store.protocol import Upgrading, not_reported

T = TypeVar("T")

ANSWERS_WITHIN = 30.0
"""Seconds within which a group of jobs ends where no lease asks for less."""

_AHEAD = "clock_ahead"

_HAS_TRANSACTION_TIMEOUT = 170_000


class PostgresDriver(Driver):
    """The store in the schema `cdc_sync` of a database; made by `open`."""

    def __init__(self, dsn: str, session: Session) -> None:
        super().__init__(f"in {shown(dsn)}")
        self.dsn = dsn
        self.session = session

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        read_only: bool = False,
        answers_within: float = ANSWERS_WITHIN,
        tables: Iterable[QualifiedName] = (),
        upgrading: Upgrading = not_reported,
    ) -> Self:
        """Open the store, and migrate its schema unless it is only read.

        Args:
            dsn: in any form of libpq; it must lead to the server itself.
            read_only: refuse to write.
            answers_within: seconds for a group of jobs.
            tables: those watched in this database; their owners' `pg_dump` may read a store made here.
            upgrading: called during a migration.

        Raises:
            StoreError: it cannot be used.
        """
        await prepare(dsn, read_only=read_only, tables=tables, upgrading=upgrading)
        with translating(dsn):
            connection = await connect(dsn)
            session = Session(connection, b"BEGIN READ ONLY" if read_only else b"BEGIN", answers_within)
        driver = cls(dsn, session)
        driver.is_read_only = read_only
        try:
            with translating(dsn):
                await _limit_statements(connection, answers_within)
            await _insist_on_server(driver, connection.info.backend_pid)
            await driver.begin_clock()
        except BaseException:
            await driver.close()
            raise
        return driver

    async def transact(self, work: Work[T], effect: Effect[T] = no_effect) -> T:
        """See `Driver`."""
        with translating(self.dsn):
            return await self.session.run(work, effect)

    async def leads(self) -> bool:
        """See `Driver`."""
        ((leads,),) = await self.ask("leads", kind=KIND)
        return bool(leads)

    async def begin_clock(self) -> None:
        """Read the server's clock for the first time."""
        before = uptime()
        store, ahead = await self.transact(_clock)
        after = uptime()
        newest = await self.ask("newest_event")
        reading = max([store, *(at for (at,) in newest)]) + ahead
        self.clock = Clock(reading - after, ahead)
        self.clock.compare(store, ahead, before, after)

    async def compare_clock(self, transaction: Transaction) -> None:
        """Compare our clock with the server's; raise the offset if the server's went back."""
        before = uptime()
        store, ahead = await _clock(transaction)
        if missing := self.clock.compare(store, ahead, before, uptime()):
            await transaction.run("set_about", name=_AHEAD, value=str(ahead + missing))

    async def close(self) -> None:
        """See `Driver`."""
        await self.session.close()


@contextmanager
def translating(dsn: str) -> Iterator[None]:
    """Turn errors of the session into a `StoreError`."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(dsn, error) from error


async def _limit_statements(connection: Connection, answers_within: float) -> None:
    """Let the server end a statement before the session would be cut, so that only its job fails."""
    milliseconds = str(int(answers_within * 1000 * 2 / 3))
    await connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, false)", (milliseconds,))
    if connection.info.server_version >= _HAS_TRANSACTION_TIMEOUT:  # it would end the session, and with it the lead
        await connection.execute("SELECT pg_catalog.set_config('transaction_timeout', '0', false)")


async def _insist_on_server(driver: PostgresDriver, process: int) -> None:
    """Refuse a pooler: it gives a session, with its lock, to others.

    Raises:
        StoreError: the connection leads to one.
    """
    ((found,),) = await driver.ask("ours")
    if found != process:
        raise store_error("store-pooled", place=driver.name.removeprefix("in "))


async def _clock(transaction: Transaction) -> tuple[int, int]:
    """The server's time, and the lead of the store's clock over it, in milliseconds."""
    ((store, ahead),) = await transaction.rows("clock")
    return store, ahead or 0
