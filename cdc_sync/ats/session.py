"""The lasting session: it holds all watches' locks, listens for all of them, and is asked whether it is alive.

It is never in a transaction: a listener inside one keeps PostgreSQL from trimming its NOTIFY queue, and a full queue
makes the ATS's COMMIT fail.

Behind a pooler in transaction mode a second daemon may get the same session. So ours is marked with a token, and
refused if it has another's, if a second connection meets it too, or if it loses ours.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from time import monotonic
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import make_conninfo

from cdc_sync.core.visible import visible

from .connection import Connection, asking, connected
from .errors import SourceError, source_error
from .expressions import sections

CHANNEL = "cdc_sync"
"""The triggers' channel. The payload is the watch's name; none (triggers of 0.1.0) means any."""

ANSWERS_WITHIN = 10.0
"""Seconds for the session to answer."""

PROVED_EVERY = 15.0
"""Seconds between proofs that the session is alive."""

_ENDS_WITHIN = 2.0
"""Seconds for a terminated session to release its lock."""

_ROUNDS = 5
"""Turns of two connections that find out whether they share a session."""

_PRIMARY_ANSWERS_WITHIN = 3
"""Seconds for each host."""

_SQL = sections("sessions.sql")

_HOLDING = "listening for changes, and holding the watches' locks"


class Process(NamedTuple):
    """A session's process; `started` in ISO 8601."""

    pid: int
    started: str


class StandbyError(SourceError):
    """Another daemon captures the watch; this one stands by."""


class Session:
    """A session of its connection's own, from `own_session`. Methods take turns, and interrupt `hold`.

    Raises:
        SourceError: by each method, if the database does not answer, or the session is another's too.
    """

    def __init__(self, connection: Connection, process: Process, token: str) -> None:
        self.connection = connection
        self.process = process
        self.is_pooled = connection.info.backend_pid != process.pid
        """Whether a pooler gave the connection its session."""
        self._token = token
        self._locked: set[int] = set()
        self._listeners: dict[str, tuple[Callable[[], None], Callable[[float], None]]] = {}
        self._lock = asyncio.Lock()
        self._wanted = 0
        self._hearing: asyncio.Timeout | None = None

    async def lock(self, watch: str, *before: Process) -> None:
        """Take the watch's lock until the session ends: be its only capture on this database, over hosts and stores.

        A process `before`, which its daemon no longer uses, is ended if it holds the lock.

        Raises:
            StandbyError: another daemon holds it.
        """
        number = _lock_number(watch)
        async with self._turn(), asking("taking the watch's lock", within=ANSWERS_WITHIN):
            if number in self._locked or await self._try_lock(number):
                return
            for process in before:
                if await self._end(process, number):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_ENDS_WITHIN):
                            while not await self._try_lock(number):  # noqa: ASYNC110 - announced to nobody
                                await asyncio.sleep(0.05)
                            return
            # Its holder may just have ended.
            if not await self._try_lock(number):
                raise await _held_by(self.connection, watch)

    async def listen(self, watch: str, ring: Callable[[], None], proved: Callable[[float], None]) -> None:
        """Call `ring` at each of the watch's notifications while `hold` runs, and now, for changes before LISTEN.

        `proved` gets, now and at each proof, the used share of the server's NOTIFY queue.
        """
        async with self._turn(), asking(_HOLDING, within=ANSWERS_WITHIN):
            await self.connection.execute(f"LISTEN {CHANNEL}")
            usage = await self.prove()
        self._listeners[watch] = ring, proved
        ring()
        proved(usage)

    def stop_listening(self, watch: str) -> None:
        """Stop calling `ring` for the watch."""
        self._listeners.pop(watch, None)

    async def hold(self, prove_every: float = PROVED_EVERY) -> None:
        """Receive notifications for ever; raise when the connection is lost, and the locks with it.

        It raises at once if the server ends the connection. There is a proof every `prove_every` seconds, which the
        server must answer.
        """
        prove_at = monotonic() + prove_every
        while True:
            async with self._lock, asking(_HOLDING, within=None):
                await self._hear_until(prove_at)
                if monotonic() < prove_at:
                    continue
                async with asking(_HOLDING, within=ANSWERS_WITHIN):
                    usage = await self.prove()
                prove_at = monotonic() + prove_every
                for _, proved in self._listeners.values():
                    proved(usage)

    async def prove(self) -> float:
        """Check that the session is still ours alone, and return the used share of the server's NOTIFY queue."""
        token, usage = await _row(self.connection, "marked") or (None, 0.0)
        if token != self._token:
            raise source_error("pooled")
        return float(usage)

    async def end(self) -> None:
        """End a session that a pooler would keep, with its mark and locks; any other ends with its connection."""
        if self.is_pooled and not self.connection.closed:
            with suppress(psycopg.Error, TimeoutError):
                async with asyncio.timeout(_ENDS_WITHIN):
                    await _row(self.connection, "end_own", self.process._asdict())

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        self._wanted += 1
        try:
            if self._hearing is not None and not self._hearing.expired():
                self._hearing.reschedule(0)
            async with self._lock:
                yield
        finally:
            self._wanted -= 1

    async def _hear_until(self, end: float) -> None:
        # `notifies` delivers together what arrives together.
        try:
            while not self._wanted and (left := end - monotonic()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left) as self._hearing:
                        async for notification in self.connection.notifies(stop_after=1):
                            whom = [notification.payload] if notification.payload else list(self._listeners)
                            for ring, _ in filter(None, map(self._listeners.get, whom)):
                                ring()
        finally:
            self._hearing = None

    async def _try_lock(self, number: int) -> bool:
        row = await _row(self.connection, "lock", (number, self._token))
        if row is None:
            raise source_error("pooled")
        if row[0]:
            self._locked.add(number)
        return bool(row[0])

    async def _end(self, process: Process, number: int) -> bool:
        """Ask a process that holds a lock to end; returns whether it was asked."""
        try:
            return await _row(self.connection, "end", {**process._asdict(), "number": number}) is not None
        except psycopg.errors.InsufficientPrivilege:
            return False  # another role's


async def _row(connection: Connection, statement: str, parameters: Any = ()) -> tuple[Any, ...] | None:
    return await (await connection.execute(_SQL[statement], parameters)).fetchone()


@asynccontextmanager
async def own_session(dsn: str) -> AsyncIterator[Session]:
    """Connect, and make sure that the session is the connection's alone."""
    async with connected(dsn) as connection:
        token = secrets.token_hex(8)
        async with asking("marking the session"):
            ours = await _row(connection, "ours")
            if ours is None or not await _row(connection, "mark", (token,)):
                raise source_error("pooled")
            session = Session(connection, Process(*ours), token)
        try:
            if session.is_pooled:
                # With little other traffic both get one session, with much a connection meets several.
                async with (
                    connected(dsn) as other,
                    asking("looking whether the session is shared", within=ANSWERS_WITHIN),
                ):
                    for _ in range(_ROUNDS):
                        if token in (await _row(other, "marked") or ()):
                            raise source_error("pooled")
                        await session.prove()
            yield session
        finally:
            await session.end()


@asynccontextmanager
async def primary_session(dsn: str) -> AsyncIterator[Session | None]:
    """A session on the primary, if the DSN leads there: daemons of different standbys meet only there."""
    async with AsyncExitStack() as stack:
        session: Session | None = None
        with suppress(SourceError):  # libpq before version 14 knows no primary
            primary = make_conninfo(dsn, target_session_attrs="primary", connect_timeout=_PRIMARY_ANSWERS_WITHIN)
            session = await stack.enter_async_context(own_session(primary))
        yield session


async def _held_by(connection: Connection, watch: str) -> SourceError:
    """Who holds the watch's lock; any role can, since its number is no secret."""
    row = await _row(connection, "holders", {"number": _lock_number(watch)})
    if row is None:
        return source_error("lock-taken", watch=watch)
    process, is_ours, description = row
    code, kind = ("standby", StandbyError) if is_ours else ("lock-foreign", SourceError)
    end = f"SELECT pg_terminate_backend({process});"
    return source_error(code, kind, watch=watch, who=visible(description), end=end)


def _lock_number(watch: str) -> int:
    """The same for every daemon; no application would choose it."""
    digest = hashlib.sha256(f"cdc-sync watch {watch}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
