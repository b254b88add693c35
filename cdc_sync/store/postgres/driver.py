"""The store's driver for PostgreSQL: a transaction runs on a connection of a small pool.

Any daemon may claim an entry that another one enqueues. So each listens on a session of its own while others are at
work, and notifies after a commit, in a transaction that writes nothing (decision 12).

A look every few seconds makes up for lost notifications. Behind a pooler that shares sessions the sender looks each
second, like a lone daemon's.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from cdc_sync import own_path
from cdc_sync.config.dsn import shown
from cdc_sync.config.sessions import POOL_SIZE
from cdc_sync.core.failures import StoreError
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store import Store
from cdc_sync.store.clock import Clock, uptime
from cdc_sync.store.driver import Row, Work
from cdc_sync.store.errors import store_error
from cdc_sync.store.postgres.claims import BEAT, Claims, DaemonLease
from cdc_sync.store.postgres.schema import Connection, configure, connected, conninfo, prepare, translate
from cdc_sync.store.postgres.sharing import Sharing
from cdc_sync.store.postgres.takeover import Marks
from cdc_sync.store.protocol import Lease, Upgrading, not_reported
from cdc_sync.store.statements import statements

T = TypeVar("T")

_ANSWERS_WITHIN = 30.0
"""Seconds within which a step ends."""

_RENEWS_WITHIN = 5.0
_CONNECTS_WITHIN = 5.0
_ENDS_WITHIN = 2.0

_LISTENS_AGAIN_AFTER = 30.0
"""Seconds before a lost or failed session is made again."""

_WAKES_WITHIN = 1.0
"""Seconds for a wake-up: its loss is harmless."""

_TRIES = 5
"""Most runs of a step that ends in deadlocks."""

_AT_ONCE = 5_000
"""Most rows in one statement: both sides hold them in memory."""

_LEAVE_DUE = {"enqueue", "revive", "hasten", "unclaim", "set_health"}
"""Statements after which other daemons may have something to send."""

_DUE, _SHARES = "cdc_sync_due", "cdc_sync_shares"
"""Channels: entries are due; a watch is free, or a daemon waits for one."""

_STATEMENTS = statements("postgres")

_PINNED = f"SET LOCAL search_path = {own_path.PINNED}".encode()
"""Behind a pooler that shares sessions, a transaction may run on one that was never set up."""


class PostgresTransaction:
    """See `Transaction`; it is open on `connection`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.left_due = 0
        """Entries that it may leave due and unclaimed."""

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """See `Transaction`."""
        found = await (await self._execute(name, parameters)).fetchall()
        if name == "due" and len(found) < min(parameters["limits"]):
            self.left_due -= len(found)  # else older entries remain, and those that it enqueued may stay due
        return found

    async def run(self, name: str, /, **parameters: Any) -> None:
        """See `Transaction`."""
        await self._execute(name, parameters)

    async def count(self, name: str, /, **parameters: Any) -> int:
        """See `Transaction`. The statement returns the number: in pipeline mode there is no other way."""
        ((number,),) = await self.rows(name, **parameters)
        return int(number)

    async def write(self, name: str, rows: Sequence[Row]) -> None:
        """See `Transaction`."""
        statement = _STATEMENTS[name]
        self.left_due += len(rows) if name in _LEAVE_DUE else 0
        for first in range(0, len(rows), _AT_ONCE):
            columns = zip(*rows[first : first + _AT_ONCE], strict=True)
            arrays = {column: array(values) for (column, _), values in zip(statement.columns, columns, strict=True)}
            await self._connection.execute(statement.text.encode(), arrays)

    async def _execute(self, name: str, parameters: dict[str, Any]) -> psycopg.AsyncCursor[tuple[Any, ...]]:
        bound: dict[str, Any] = {}
        for key, value in parameters.items():
            match value:
                case str():
                    bound[key] = text(value)
                case [(str(), str(), *_), *_]:
                    bound[f"{key}_first"], bound[f"{key}_second"] = (
                        array(pair[place] for pair in value) for place in (0, 1)
                    )
                case [str(), *_]:
                    bound[key] = array(value)
                case _:
                    bound[key] = value
        return await self._connection.execute(_STATEMENTS[name].text.encode(), bound)


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


class PostgresStore(Store):
    """The store in the schema `cdc_sync` of a database; made by `open`.

    A process becomes a daemon when it claims, takes a watch, releases claims or sets conditions, and holds a lease
    until `close`.
    """

    def __init__(self, dsn: str, longest_call: float, *, read_only: bool) -> None:
        super().__init__(f"in {shown(dsn)}")
        self._dsn = dsn
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo(dsn),
            kwargs={"autocommit": True, "prepare_threshold": None},
            min_size=1,
            max_size=POOL_SIZE,
            open=False,
            timeout=_CONNECTS_WITHIN,
            reconnect_timeout=_CONNECTS_WITHIN,
            configure=configure,
        )
        # In the transaction, not in the session: a pooler gives that to others.
        self._begin = b"BEGIN READ ONLY" if read_only else b"BEGIN"
        run = partial(self._within, _RENEWS_WITHIN)
        self._lease = DaemonLease(run, longest_call)
        self.claims = Claims(self._lease, self.daemon, run)
        notify = partial(self._notify, _SHARES)
        self._sharing = Sharing(run, self.daemon, notify, lambda: self.is_woken, lambda: self._lease.others)
        self._server: str | None = None
        self._marks = Marks()
        self._lasting: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        longest_call: float = 10.0,
        read_only: bool = False,
        tables: Iterable[QualifiedName] = (),
        upgrading: Upgrading = not_reported,
    ) -> Self:
        """Open the store, and migrate its schema unless it is only read.

        Args:
            dsn: in any form of libpq.
            longest_call: most seconds in which a call's bytes may leave this host.
            read_only: refuse to write.
            tables: those watched in this database; their owners' `pg_dump` may read a store made here.
            upgrading: called during a migration.

        Raises:
            StoreError: it cannot be used.
        """
        await prepare(dsn, read_only=read_only, tables=tables, upgrading=upgrading)
        store = cls(dsn, longest_call, read_only=read_only)
        try:
            await store._pool.open()
            await store._begin_clock()
        except BaseException:
            await store.close()
            raise
        return store

    async def transact(self, work: Work[T]) -> T:
        """See `Driver`."""
        return await self._within(_ANSWERS_WITHIN, work)

    async def daemon(self) -> int:
        """See `Driver`."""
        number = await self._lease.ensure()
        if not self._lasting:
            self._lasting = [
                asyncio.create_task(self._beat(), name="store: lease"),
                asyncio.create_task(self._sharing.run(), name="store: shares"),
            ]
        for task in self._lasting:
            if task.done() and not task.cancelled():
                task.result()  # its unexpected error ends the daemon: without it others would wait for ever
        return number

    async def daemons(self) -> list[tuple[str, int]]:
        """See `Driver`."""
        return await self.ask("living")

    def expect(self, longest_call: float) -> None:
        """See `Driver`."""
        self._lease.expect(longest_call)

    async def rightful_lease(self, watch: str) -> Lease | None:
        """See `Capture`."""
        return await self._sharing.ask(watch)

    async def take(self, watch: str, session: str = "", instead_of: Lease | None = None) -> Lease:
        """See `Capture`."""
        lease = await super().take(watch, session, instead_of)
        if lease.mine:
            self._sharing.taken(watch, instead_of)
            if instead_of is not None:
                # At work, it publishes again what it waits for; else nobody should give it any.
                await self.transact(lambda t: t.run("wait_for", daemon=instead_of.number, watches=[]))
        return lease

    async def give_back(self, watch: str) -> None:
        """See `Capture`."""
        await super().give_back(watch)
        self._sharing.look(announce=True)

    async def stand_by(self, watch: str, known: Lease, within: float, able: Callable[[], bool]) -> Lease | None:
        """See `Capture`."""
        return await self._sharing.stand_by(watch, known, within, able)

    def withdraw(self, watch: str) -> None:
        """See `Capture`."""
        self._sharing.withdraw(watch)

    def capturing(self, watch: str, end: Callable[[], None]) -> AbstractContextManager[None]:
        """See `Capture`."""
        return self._sharing.capturing(watch, end)

    async def release_claims(self) -> None:
        """See `Driver`."""
        await self.daemon()
        await self._lease.expire_claims(self.clock)

    async def check_place(self) -> None:
        """See `Driver`. A server that has lost its tables reports it by itself."""

    async def close(self) -> None:
        """See `Driver`."""
        if self._lasting:
            for task in self._lasting:
                task.cancel()
            await asyncio.wait(self._lasting)
            self._lasting = []
            # Otherwise the claims last until the lease lapses.
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_ENDS_WITHIN):
                    await self._lease.end()
                    await self._notify(_SHARES)
        await self._pool.close(timeout=_ENDS_WITHIN)

    async def _within(self, seconds: float, work: Work[T]) -> T:
        """Run work within so many seconds, and again after a deadlock.

        Raises:
            StoreError: see `Driver.transact`.
        """
        tries = _TRIES
        while True:
            tries -= 1
            try:
                async with asyncio.timeout(seconds), self._pool.connection() as connection:
                    return await self._run(connection, work)
            except (TimeoutError, psycopg.Error) as error:
                if tries and isinstance(error, errors.DeadlockDetected | errors.SerializationFailure):
                    continue
                # The next server may lack this one's last commits.
                self.claims.compare_first()
                self._lease.renew_first()
                if not isinstance(error, PoolTimeout | errors.LockNotAvailable):
                    # The other connections are probably dead too: drop them at once.
                    await self._pool.drain()
                raise self._translated(error, seconds) from error

    async def _run(self, connection: Connection, work: Work[T]) -> T:
        transaction = PostgresTransaction(connection)
        await self._marks.set(connection, transaction, self._lease.number)
        # A pipeline saves a round trip for each of a dozen statements. Reading an answer raises earlier statements'
        # errors. psycopg's own transaction would wait for BEGIN and COMMIT. The pool rolls back.
        async with connection.pipeline():
            await connection.execute(self._begin)
            await connection.execute(_PINNED)
            result = await work(transaction)
            await connection.execute(b"COMMIT")
        if transaction.left_due > 0:
            await self._notify(_DUE, transaction)
        return result

    async def _notify(self, channel: str, transaction: PostgresTransaction | None = None) -> None:
        """Wake other daemons, on a finished transaction's connection or another."""
        if not self._lease.others:
            return
        with suppress(psycopg.Error, TimeoutError):  # the commit is durable
            async with asyncio.timeout(_WAKES_WITHIN):
                if transaction is not None:
                    await transaction.run("notify", channel=channel, daemon=str(self._lease.number))
                    return
                async with self._pool.connection() as connection:
                    await self._notify(channel, PostgresTransaction(connection))

    def _translated(self, error: TimeoutError | psycopg.Error, seconds: float) -> StoreError:
        if isinstance(error, errors.DivisionByZero):  # see the statement `due`
            return store_error("store-lease-ended", place=shown(self._dsn))
        if isinstance(error, psycopg.Error):
            return translate(self._dsn, error)
        return store_error("store-unanswered", place=shown(self._dsn), seconds=seconds)

    async def _beat(self) -> None:
        listening: asyncio.Task[None] | None = None
        try:
            while True:
                if not self._lease.others:
                    if listening is not None:
                        listening.cancel()
                    listening = None
                elif listening is None or listening.done():
                    listening = asyncio.create_task(self._listen(), name="store: wake-ups")
                    self._sharing.look()
                beat, self._lease.beat = self._lease.beat, BEAT
                await asyncio.sleep(beat)
                # The next claim reports an error.
                with suppress(StoreError):
                    await self._lease.renew()
                    expired = await self._lease.expire_claims(self.clock)
                    self.not_taken_over = self._lease.not_taken_over
                    if expired:
                        self.wake()
                        self._sharing.look(announce=True)
                    await self._compare_clock()
                    await self.claims.compare()
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.wait([listening])

    async def _listen(self) -> None:
        """Wake the sender at first, and at notifications, where sessions allow it."""
        try:
            with suppress(psycopg.Error):
                async with connected(self._dsn) as connection:
                    ((process,),) = await (await connection.execute(b"SELECT pg_catalog.pg_backend_pid()")).fetchall()
                    if process == connection.info.backend_pid:
                        for channel in (_SHARES, _DUE):
                            await connection.execute(f"LISTEN {channel}".encode())
                        self.is_woken = True
                        self.wake()
                        self._sharing.look()
                        async for heard in connection.notifies():
                            if heard.payload == str(self._lease.number):
                                continue
                            if heard.channel == _DUE:
                                self.wake()
                            else:
                                self._sharing.look()
        finally:
            self.is_woken = False
        await asyncio.sleep(_LISTENS_AGAIN_AFTER)

    async def _begin_clock(self) -> None:
        before = uptime()
        ((store, ahead, self._server),) = await self.ask("clock")
        after = uptime()
        newest = await self.ask("newest_event")
        reading = max([store, *(at for (at,) in newest)]) + (ahead or 0)
        self.clock = Clock(reading - after, ahead or 0)
        self.clock.compare(store, ahead or 0, before, after)

    async def _compare_clock(self) -> None:
        """Compare our clock with the store's; raise the offset if the store's went back."""
        before = uptime()
        ((store, ahead, server),) = await self._within(_RENEWS_WITHIN, lambda t: t.rows("clock"))
        if server != self._server:
            self._server, self.moves = server, self.moves + 1
            self.claims.compare_first()
        if missing := self.clock.compare(store, ahead or 0, before, uptime()):
            raised, was = str((ahead or 0) + missing), None if ahead is None else str(ahead)
            await self._within(_RENEWS_WITHIN, lambda t: t.run("raise_clock", ahead=raised, was=was))
