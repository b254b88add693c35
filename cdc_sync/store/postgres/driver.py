"""The store's driver for PostgreSQL: one session, and the clock of its server.

A session that does not answer is cut: it is lost, as after any other failure of the connection.
"""

import asyncio
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

import psycopg

from cdc_sync import own_path
from cdc_sync.config.dsn import shown
from cdc_sync.core.failures import StoreError
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store.clock import Clock
from cdc_sync.store.driver import Access, Driver, Row, RunGroup
from cdc_sync.store.errors import store_error
from cdc_sync.store.statements import statements

from .schema import Connection, connect, insist_on_schema, migrate, translating

ANSWERS_WITHIN = 30.0
"""Seconds within which a group of jobs ends where no lease asks for less."""

_MOST_ROWS = 1_000
"""Most rows in one statement: both sides hold them in memory."""

_PINNED = f"SET LOCAL search_path = {own_path.PINNED}".encode()
"""The role may have set another one since."""

_STATEMENTS = statements("postgres")


class PostgresTransaction:
    """See `Transaction`; it is open on `connection`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """See `Transaction`."""
        statement = _STATEMENTS[name].text
        cursor = await self._connection.execute(statement.encode(), _bound(parameters))
        # Another statement has no rows, and its end is not waited for.
        return await cursor.fetchall() if statement.startswith(("SELECT", "WITH")) else []

    async def write(self, name: str, rows: Sequence[Row]) -> None:
        """See `Transaction`."""
        statement = _STATEMENTS[name]
        for first in range(0, len(rows), _MOST_ROWS):
            columns = zip(*rows[first : first + _MOST_ROWS], strict=True)
            arrays = {column: array(values) for (column, _), values in zip(statement.columns, columns, strict=True)}
            await self._connection.execute(statement.text.encode(), arrays)


def _bound(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters as PostgreSQL takes them."""
    bound: dict[str, Any] = {}
    for key, given in parameters.items():
        match given:
            case str():
                bound[key] = text(given)
            case []:
                bound |= dict.fromkeys((key, f"{key}_first", f"{key}_second"), "{}")
            case [(str(), str(), *_), *_]:
                bound[f"{key}_first"] = array(pair[0] for pair in given)
                bound[f"{key}_second"] = array(pair[1] for pair in given)
            case [str(), *_]:
                bound[key] = array(given)
            case _:
                bound[key] = given
    return bound


def text(value: str) -> str:
    """A text for PostgreSQL: without U+0000, which a reply's body can have."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def array(values: Iterable[str | float | None]) -> str:
    """An array in PostgreSQL's syntax. psycopg's own takes 100 µs for a text of JSON (decision 18)."""
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: str | float | None) -> str:
    if isinstance(value, str):
        escaped = text(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return "NULL" if value is None else str(value)


class PostgresDriver(Driver):
    """The store in the schema `cdc_sync` of a database; made by `open`."""

    def __init__(self, dsn: str, access: Access, connection: Connection, answers_within: float) -> None:
        super().__init__(f"in {shown(dsn)}", access)
        self.dsn = dsn
        self.backend = connection.info.backend_pid
        """The session's process."""
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
    ) -> Self:
        """Open the store; make it, or migrate its schema, if it is our own.

        Args:
            dsn: in any form of libpq; it must lead to the server itself.
            access: see there.
            answers_within: seconds for a group of jobs.
            tables: those watched in this database; their owners' `pg_dump` may read a store made here.

        Raises:
            StoreError: it cannot be used.
        """
        connection = await connect(dsn)
        driver = cls(dsn, access, connection, answers_within)
        try:
            with translating(dsn):
                if access == "own":
                    await migrate(connection, shown(dsn), tables)
                await insist_on_schema(connection, shown(dsn))
                # The server ends a statement before the session would be cut, so that only its job fails.
                limit = str(int(answers_within * 1000 * 2 / 3))
                await connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, false)", (limit,))
            await driver.begin_clock()
        except BaseException:
            await driver.close()
            raise
        return driver

    async def leads(self, backend: int | None) -> bool:
        """See `Driver`."""
        return bool(await self.value("lock_holder") == backend)

    async def begin_clock(self) -> None:
        """Begin the store's time at the server's, or at the newest event if that is later."""
        server = await self.value("clock")
        self.clock = Clock(max(server, await self.value("newest_event")), server)

    async def close(self) -> None:
        """See `Driver`."""
        self.cut()
        await self._stop(store_error("store-unusable/postgres", place=shown(self.dsn), message="the session is closed"))
        await self._connection.close()

    def cut(self) -> None:
        """End the session at once, also if its server is silent: a read under way fails."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.pgconn.socket)) as copy:
            copy.shutdown(socket.SHUT_RDWR)

    async def _commit(self, run: RunGroup) -> list[Any]:
        connection = self._connection
        try:
            # A pipeline saves a round trip for each of a dozen statements. Reading an answer raises earlier statements'
            # errors. psycopg's own transaction would wait for BEGIN and COMMIT.
            with translating(self.dsn), self._in_time():
                async with connection.pipeline():
                    await connection.execute(self._begin)
                    await connection.execute(_PINNED)
                    results = await run(PostgresTransaction(connection))
                    await connection.execute(b"COMMIT")
        except Exception as error:
            try:
                with translating(self.dsn), self._in_time():
                    await connection.rollback()
            except StoreError as failure:  # the session is lost
                self.lose(error if isinstance(error, StoreError) else failure)
            if isinstance(error, StoreError) and isinstance(error.__cause__, psycopg.errors.UndefinedTable):
                self.lose(error)  # what is made in its place knows nothing
            raise
        return results

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Cut the session if this takes too long."""
        timer = asyncio.get_running_loop().call_later(self._answers_within, self.cut)
        try:
            yield
        finally:
            timer.cancel()
