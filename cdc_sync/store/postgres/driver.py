"""The store's driver for PostgreSQL: one session, and the clock of its server.

A session that does not answer is cut: it is lost, as after any other failure of the connection.
"""

import asyncio
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import psycopg

from cdc_sync import own_path
from cdc_sync.config.dsn import shown
from cdc_sync.core.failures import StoreError
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store.clock import Clock, uptime
from cdc_sync.store.driver import Access, Driver, RunGroup, Transaction
from cdc_sync.store.errors import store_error
from cdc_sync.store.postgres.schema import Connection, connect, prepare, translate
from cdc_sync.store.postgres.scripts import KIND
from cdc_sync.store.postgres.transaction import PostgresTransaction
from cdc_sync.store.protocol import Upgrading, not_reported

ANSWERS_WITHIN = 30.0
"""Seconds within which a group of jobs ends where no lease asks for less."""

_AHEAD = "clock_ahead"

_HAS_TRANSACTION_TIMEOUT = 170_000

_PINNED = f"SET LOCAL search_path = {own_path.PINNED}".encode()
"""The role may have set another one since."""


class PostgresDriver(Driver):
    """The store in the schema `cdc_sync` of a database; made by `open`."""

    def __init__(self, dsn: str, access: Access, connection: Connection, answers_within: float) -> None:
        super().__init__(f"in {shown(dsn)}", access)
        self.dsn = dsn
        self._connection = connection
        self._answers_within = answers_within
        self._begin = b"BEGIN READ ONLY" if access == "read" else b"BEGIN"

    @classmethod
    async def open(
        cls,
        dsn: str,
        access: Access = "own",
        *,
        answers_within: float = ANSWERS_WITHIN,
        tables: Iterable[QualifiedName] = (),
        upgrading: Upgrading = not_reported,
    ) -> Self:
        """Open the store, and migrate its schema if it is our own.

        Args:
            dsn: in any form of libpq; it must lead to the server itself.
            access: see there.
            answers_within: seconds for a group of jobs.
            tables: those watched in this database; their owners' `pg_dump` may read a store made here.
            upgrading: called during a migration.

        Raises:
            StoreError: it cannot be used.
        """
        with translating(dsn):
            connection = await connect(dsn)
        driver = cls(dsn, access, connection, answers_within)
        try:
            with translating(dsn):
                await prepare(connection, dsn, access, tables=tables, upgrading=upgrading)
                await _limit_statements(connection, answers_within)
            await _insist_on_server(driver, connection.info.backend_pid)
            await driver.begin_clock()
        except BaseException:
            await driver.close()
            raise
        return driver

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
        self.cut()
        await self._stop(translate(self.dsn, psycopg.OperationalError("the session is closed")))
        await self._connection.close()

    def cut(self) -> None:
        """End the session at once, also if its server is silent: a read under way fails."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.pgconn.socket)) as copy:
            copy.shutdown(socket.SHUT_RDWR)

    async def _commit(self, run: RunGroup) -> list[Any]:
        try:
            with translating(self.dsn), self._in_time():
                return await self._transact(run)
        except Exception as error:
            await self._roll_back(error)
            raise

    async def _transact(self, run: RunGroup) -> list[Any]:
        connection = self._connection
        # A pipeline saves a round trip for each of a dozen statements. Reading an answer raises earlier statements'
        # errors. psycopg's own transaction would wait for BEGIN and COMMIT.
        async with connection.pipeline():
            await connection.execute(self._begin)
            await connection.execute(_PINNED)
            results = await run(PostgresTransaction(connection))
            await connection.execute(b"COMMIT")
        return results

    async def _roll_back(self, error: Exception) -> None:
        """Roll back after an error; without a connection that can, the session is lost."""
        try:
            with translating(self.dsn), self._in_time():
                await self._connection.rollback()
        except StoreError as failure:
            self.lose(error if isinstance(error, StoreError) else failure)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Cut the session if this takes too long."""
        timer = asyncio.get_running_loop().call_later(self._answers_within, self.cut)
        try:
            yield
        finally:
            timer.cancel()


@contextmanager
def translating(dsn: str) -> Iterator[None]:
    """Turn psycopg's errors into a `StoreError`."""
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
