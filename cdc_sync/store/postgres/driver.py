"""The store's driver for PostgreSQL: a transaction is one on a connection of a small pool.

What one daemon enqueues and does not claim, all of them may claim at once. So each listens on a session of its own,
while others live, and notifies after a commit, in a transaction that writes nothing. In the commit's own, the cluster's
one lock of NOTIFY would be held for as long as the commit is flushed, and whoever else notifies would wait, the ATS
where it shares the server; and a full queue would make the commit fail.

What is lost, because the daemon dies in between or a session was lost, a look every few seconds finds. Behind a pooler,
whose sessions are anybody's, nobody listens: there the sender looks each second, as one that is alone does.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from cdc_sync.config.dsn import shown
from cdc_sync.config.sessions import POOL_SIZE
from cdc_sync.core.failures import StoreError
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store.clock import Clock, uptime
from cdc_sync.store.driver import Row, Work
from cdc_sync.store.errors import store_error
from cdc_sync.store.postgres.claims import BEAT, Claims, Living
from cdc_sync.store.postgres.schema import Connection, configure, connected, conninfo, prepare, translate
from cdc_sync.store.postgres.sharing import Sharing
from cdc_sync.store.protocol import Lease, Upgrading, not_reported
from cdc_sync.store.statements import statements
from cdc_sync.store.store import Store

T = TypeVar("T")

_ANSWERS_WITHIN = 30.0
"""Seconds within which a step is done; a page of a baseline takes a moment."""

_RENEWS_WITHIN = 5.0
_CONNECTS_WITHIN = 5.0
_ENDS_WITHIN = 2.0

_LISTENS_AGAIN_AFTER = 30.0
"""Seconds after which a session is made again that was lost, or could not be made."""

_WAKES_WITHIN = 1.0
"""Seconds for a wake-up: it may be lost, and must not make what is durable look as if it were not."""

_TRIES = 5
"""How often a step is begun again after a deadlock."""


_AT_ONCE = 5_000
"""Rows in one statement, at most: both sides hold them in memory."""

_LEAVE_DUE = {"enqueue", "revive", "hasten", "unclaim", "set_health"}
"""Statements after which entries may be due, or calls to an endpoint may begin or must wait."""

_DUE, _SHARES = "cdc_sync_due", "cdc_sync_shares"
"""Channels: entries are due; a watch is free, or a daemon waits for one."""

_STATEMENTS = statements("postgres")


class PostgresTransaction:
    """See `Transaction`; what is open on `connection` belongs to it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.left_due = 0
        """How many entries it may leave due that nobody has claimed."""

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """See `Transaction`."""
        found = await (await self._execute(name, parameters)).fetchall()
        if name == "due" and len(found) < min(parameters["limits"]):
            self.left_due -= len(found)  # else there are older ones, and it may leave as many as it enqueues
        return found

    async def run(self, name: str, /, **parameters: Any) -> None:
        """See `Transaction`."""
        await self._execute(name, parameters)

    async def count(self, name: str, /, **parameters: Any) -> int:
        """See `Transaction`. The statement gives it: while statements are sent ahead, nobody else knows."""
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
    """A text as PostgreSQL can hold it: without U+0000, which a reply's body can have."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def array(values: Iterable[str | float | None]) -> str:
    """An array as PostgreSQL reads it. psycopg escapes JSON in it by a template in Python: 100 µs for each text."""
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: str | float | None) -> str:
    if isinstance(value, str):
        escaped = text(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return "NULL" if value is None else str(value)


class PostgresStore(Store):
    """The store in the schema `cdc_sync` of a database; made by `open`.

    The schema may be opened by several daemons, and by operator commands beside them. A daemon is whoever claims, takes
    a watch, releases claims or notes conditions: it then holds a lease until it is closed.
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
        # Nothing of the session: behind a pooler it would be another's next.
        self._begin = b"BEGIN READ ONLY" if read_only else b"BEGIN"
        run = partial(self._within, _RENEWS_WITHIN)
        self._living = Living(run, longest_call)
        self.claims = Claims(self._living, self.daemon, run)
        notify = partial(self._notify, _SHARES)
        self._sharing = Sharing(run, self.daemon, notify, lambda: self.is_woken, lambda: self._living.others)
        self._server: str | None = None
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
        """Open the store, and bring its schema up to date unless it is only read.

        Args:
            dsn: the database, in whatever form libpq takes.
            longest_call: seconds in which the bytes of a call may leave this host, at most.
            read_only: refuse to write.
            tables: those that are watched in the same database, whose owners' `pg_dump` reads a store made here.
            upgrading: hears that the schema is brought up to date, while that goes on.

        Raises:
            StoreError: it cannot be used; the message says why.
        """
        await prepare(dsn, read_only=read_only, tables=tables, upgrading=upgrading)
        store = cls(dsn, longest_call, read_only=read_only)
        await store._pool.open()
        try:
            await store._begin_clock()
        except BaseException:
            await store.close()
            raise
        return store

    async def transact(self, work: Work[T]) -> T:
        """See `Driver`."""
        return await self._within(_ANSWERS_WITHIN, work)

    async def separately(self, work: Work[T]) -> T:
        """See `Driver`: each statement commits with its answer, which spares two messages and a round trip."""
        return await self._within(_ANSWERS_WITHIN, work, together=False)

    async def daemon(self) -> int:
        """See `Driver`."""
        number = await self._living.ensure()
        if not self._lasting:
            self._lasting = [
                asyncio.create_task(self._beat(), name="store: lease"),
                asyncio.create_task(self._sharing.run(), name="store: shares"),
            ]
        return number

    async def daemons(self) -> list[tuple[str, int]]:
        """See `Driver`."""
        return await self.ask("living")

    def expect(self, longest_call: float) -> None:
        """See `Driver`."""
        self._living.expect(longest_call)

    async def whose_turn(self, watch: str) -> Lease | None:
        """See `Capture`."""
        return await self._sharing.ask(watch)

    async def take(self, watch: str, session: str = "", instead_of: Lease | None = None) -> Lease:
        """See `Capture`."""
        lease = await super().take(watch, session, instead_of)
        if lease.mine:
            self._sharing.taken(watch, instead_of)
            if instead_of is not None:
                # Should it live, it says anew what it waits for; if it is dead, nobody is to give it anything.
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
        """See `Driver`. Those of daemons that ended in order at once, of others when it is certain."""
        await self.daemon()
        await self._living.bury_dead(self.clock)

    async def check_place(self) -> None:
        """See `Driver`. A server that has lost its tables says so."""

    async def close(self) -> None:
        """See `Driver`."""
        if self._lasting:
            for task in self._lasting:
                task.cancel()
            await asyncio.wait(self._lasting)
            self._lasting = []
            # Without it the claims wait for the lease to lapse; nothing is lost.
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_ENDS_WITHIN):
                    await self._living.end()
                    await self._notify(_SHARES)
        await self._pool.close(timeout=_ENDS_WITHIN)

    async def _within(self, seconds: float, work: Work[T], *, together: bool = True) -> T:
        """Run work within so many seconds, and again after a deadlock; the driver's errors are a `StoreError`."""
        tries = _TRIES
        while True:
            tries -= 1
            try:
                async with asyncio.timeout(seconds), self._pool.connection() as connection:
                    return await self._run(connection, work, together=together)
            except (TimeoutError, psycopg.Error) as error:
                if tries and isinstance(error, errors.DeadlockDetected | errors.SerializationFailure):
                    continue
                # The next answer may be from another server, which does not know all that this one knew.
                self.claims.doubt()
                self._living.doubt()
                if not isinstance(error, PoolTimeout):
                    # The pool's other connections are likely to be as dead: not one failure for each.
                    await self._pool.drain()
                raise self._translated(error, seconds) from error

    async def _run(self, connection: Connection, work: Work[T], *, together: bool) -> T:
        transaction = PostgresTransaction(connection)
        if not together:
            result = await work(transaction)
        else:
            # Statements are sent without waiting for each one's answer; whoever reads an answer waits for those before
            # it too. A step is a dozen, half of them writes: each would cost the way to the server and back. An error
            # is raised where the next answer is read, at the latest at the end, which is after the COMMIT. BEGIN and
            # COMMIT are among them: psycopg's own transaction waits for both. What fails, the pool rolls back.
            async with connection.pipeline():
                await connection.execute(self._begin)
                result = await work(transaction)
                await connection.execute(b"COMMIT")
        if transaction.left_due > 0:
            await self._notify(_DUE, transaction)
        return result

    async def _notify(self, channel: str, transaction: PostgresTransaction | None = None) -> None:
        """Wake the other daemons, if there are any, by the connection of a transaction that is over, or another."""
        if not self._living.others:
            return
        with suppress(psycopg.Error, TimeoutError):  # what it is about is durable all the same
            async with asyncio.timeout(_WAKES_WITHIN):
                if transaction is not None:
                    await transaction.run("notify", channel=channel, daemon=str(self._living.number))
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
                if not self._living.others:
                    if listening is not None:
                        listening.cancel()
                    listening = None
                elif listening is None or listening.done():
                    listening = asyncio.create_task(self._listen(), name="store: wake-ups")
                    self._sharing.look()
                beat, self._living.beat = self._living.beat, BEAT
                await asyncio.sleep(beat)
                # Whoever claims next says what is wrong; until it is renewed nothing is sent.
                with suppress(StoreError):
                    await self._living.renew()
                    if await self._living.bury_dead(self.clock):
                        self.wake()
                        self._sharing.look(announce=True)
                    await self._compare_clock()
                    await self.claims.compare()
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.wait([listening])

    async def _listen(self) -> None:
        """Wake the sender at once, and whenever another daemon notifies; as far as that can be done."""
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
                            if heard.payload == str(self._living.number):
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
        # As it was for whoever wrote it: people read the store's clock.
        reading = max([store, *(at for (at,) in newest)]) + (ahead or 0)
        self.clock = Clock(reading - after, ahead or 0)
        self.clock.compare(store, ahead or 0, before, after)

    async def _compare_clock(self) -> None:
        """Compare our clock with the store's, and raise the offset if the store's went back."""
        before = uptime()
        ((store, ahead, server),) = await self._within(_RENEWS_WITHIN, lambda t: t.rows("clock"))
        if server != self._server:
            self._server, self.moves = server, self.moves + 1
            self.claims.doubt()
        if missing := self.clock.compare(store, ahead or 0, before, uptime()):
            raised, was = str((ahead or 0) + missing), None if ahead is None else str(ahead)
            await self._within(_RENEWS_WITHIN, lambda t: t.run("raise_clock", ahead=raised, was=was))
