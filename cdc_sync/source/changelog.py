"""The change log that the triggers write, and the doorbells by which they wake the daemon.

One statement reads a batch of changes and their rows. Another deletes the batch once the result is stored; if anything
fails before, the same changes come again. In between no transaction, lock or connection is held ([decision
20](../../docs/decisions/0020-one-statement-for-a-change.md)).

The role needs SELECT and DELETE, and TRUNCATE to give the file's space back.

Rows are deleted by their place (ctid), so the log needs no index. After another daemon's DELETE and a VACUUM another
row may be there. So one of the batch's transactions, which had ended at the read, must have written it (xmin). VACUUM
FULL moves other rows of theirs, into another file, which is compared too.
"""

import asyncio
import json
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from psycopg import errors, sql

from cdc_sync.core.rows import Key
from cdc_sync.source import expressions
from cdc_sync.source.connection import Connection, Pool, Rows, on_own_path, own_row, rows_of
from cdc_sync.source.errors import SourceError, source_error
from cdc_sync.source.expressions import arrays, composed, sections
from cdc_sync.source.reading import Read, Reader
from cdc_sync.source.recorders import bell_of, missed_of, sequences_of
from cdc_sync.source.replica_guard import NOW
from cdc_sync.source.unreadable import halved

_SQL = sections("changelog.sql")

# Before the first batch, which may be empty: a missing right is reported at once.
_MAY_DELETE = "DELETE FROM cdc_sync.changes WHERE false"

_CLOCK = sql.SQL("SELECT to_json(clock_timestamp()) #>> '{}'")
_DOING = "reading the change log cdc_sync.changes"

LEASE = 60
"""Seconds for which a bell stays armed without renewal."""

_ROUNDING = 2
"""Seconds of rounding: a renewal so near the lease's end may be too late."""

_TAKE_ID = "SELECT txid_current()"
_OLDEST = "SELECT txid_snapshot_xmin(txid_current_snapshot())"

_ENDED_EVERY = 0.5
"""Seconds between checks whether transactions have ended."""

_MOST_OF_QUEUE = 0.25
"""The used share of the server's NOTIFY queue above which no bell is armed."""

_AT_ONCE = 100
"""Watches of one statement, which locks each twice, of the 64 locks per connection."""


def latest(changes: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    """Each key once, with the time of its last change."""
    times: dict[Key, int] = {}
    for key, at in changes:
        times[key] = max(at, times.get(key, at))
    return times


@dataclass(frozen=True, slots=True)
class Changes:
    """A batch of changes.

    Attributes:
        times: each key's last change, in milliseconds since the epoch.
        rows: the keys' rows of the same snapshot; None if they must be read apart.
        everything: whether one requires a sweep (TRUNCATE, a changed lookup table).
        searched: seconds of the search.
        size: bytes of the whole log, dead rows included.
        places: the places, the writing transactions, and the log's file, as SQL.
    """

    number: int
    times: dict[Key, int]
    rows: Read | None
    everything: bool
    full: bool
    searched: float
    size: int
    places: tuple[str, str, str]


class ChangeLog:
    """One watch's part of the change log, only read unless `consume`.

    `statement` reads a batch of so many changes with its rows; None if rows are read apart.
    """

    def __init__(self, pool: Pool, watch: str, reader: Reader | None = None, *, consume: bool = True) -> None:
        self._pool = pool
        self._watch = watch
        self._reader = reader
        self.consumes = consume
        self._may_delete = not consume
        # A batch of which nothing was deleted, without an error.
        self._kept: tuple[str, ...] = ()
        # As text: composing a statement takes longer than running it.
        self._alone = _batch(watch).as_string()
        self.statement = None if reader is None else _with_rows(watch, reader)
        self._table_size = 0
        self._may_prepare = True

    async def read(self, limit: int, *, apart: bool = False) -> Changes:
        """Read up to `limit` changes, with their rows; `apart`, without touching the table, if none is expected.

        A missing right to delete them is an error at once, before the first batch.
        """
        query, reader = self.statement, self._reader
        if apart or query is None or reader is None:
            query, reader = self._alone, None
        else:
            limit = min(limit, reader.fit)
        table_size = self._table_size if reader is not None and self._may_prepare else 0
        is_plain = reader is None or reader.mapping.is_plain

        async def ask(connection: Connection) -> tuple[Rows, float]:
            begun = time.monotonic()
            if not self._may_delete:
                await connection.execute(_MAY_DELETE)
                self._may_delete = True
            # Prepared: planning takes three times as long as running. A kept plan may read all of a small table: after
            # each doubling of the table it is another statement.
            text = f"{query} -- {table_size.bit_length()}"
            execute = connection.execute if is_plain else partial(on_own_path, connection)
            cursor = await execute(text, (limit,), prepare=bool(table_size))
            return await cursor.fetchall(), time.monotonic() - begun

        try:
            rows, searched = await self._pool.ask(_DOING, ask)
            listed, size, position, *places, found_size = json.loads(own_row(rows))
            self._pool.guard.advance(position)
        except SourceError as error:
            # Reading apart shows whether one row fails or everything.
            if reader is None or error.kind == "unreachable":
                raise
            # Being prepared may be the cause, which lasts as long as the connection.
            self._may_prepare = self._may_prepare and not table_size
            return await self.read(limit, apart=True)
        listed = listed or []
        if reader is not None:
            self._table_size = found_size or 0
        # A related table's key with NULL belongs to no application.
        times = latest((tuple(key), at) for key, at in listed if key and None not in key)
        found, is_cut = (None, False) if reader is None else reader.interpreted(rows)
        everything, full = not all(key for key, _ in listed), len(listed) == limit
        return Changes(len(listed), times, None if is_cut else found, everything, full, searched, size, tuple(places))

    async def delete(self, changes: Changes) -> None:
        """Delete the batch; raises `SourceError` also if it stays twice. Once, another daemon may have taken it."""
        if not changes.number or not self.consumes:
            return
        places, writers, file = changes.places
        query = sql.SQL(_SQL["delete"]).format(places=places, writers=writers, watch=self._watch, file=file)

        async def delete(connection: Connection) -> bool:
            # Only without parameters may several statements be one message.
            cursor, deleted = await connection.execute(query), False
            while cursor.nextset():
                deleted = deleted or cursor.rowcount > 0
            return deleted

        if await self._pool.ask(_DOING, delete):
            self._kept = ()
        elif self._kept == changes.places:
            raise source_error("log-kept")
        else:
            self._kept = changes.places

    async def give_back(self, *, nearly_full: bool) -> None:
        """Truncate the log's file if it is empty and unused."""
        query = composed(_SQL["may_give_back"], nearly_full=nearly_full)

        async def shorten(connection: Connection) -> None:
            try:
                if (True,) not in await rows_of(connection, query):
                    return
            except errors.LockNotAvailable:
                return  # being rewritten
            await connection.execute(_SQL["give_back_within"])
            try:
                await connection.execute(_SQL["give_back"])
            except errors.QueryCanceled:
                await connection.execute("ROLLBACK")

        await self._pool.ask(_DOING, shorten)

    async def clock(self) -> str:
        """The server's clock, as a text independent of DateStyle."""
        ((now,),) = await self._pool.fetch(_CLOCK, (), "asking for the time")
        return str(now)

    async def has_older(self, than: str) -> bool:
        """Whether there are changes up to a moment of the server's clock."""
        query = composed(_SQL["older"], watch=expressions.literal(self._watch), than=than)
        ((has,),) = await self._pool.fetch(query, (), _DOING)
        return bool(has)


def _batch(watch: str, width: int = 0, table_size: sql.Composable | int = 0) -> sql.Composed:
    """The statement that reads a batch, with `width` columns for its rows."""
    nulls = sql.SQL("NULL, " * width)
    return composed(_SQL["batch"], nulls=nulls, watch=expressions.literal(watch), now=NOW, table_size=table_size)


def _with_rows(watch: str, reader: Reader) -> str | None:
    """The statement that reads a batch and its rows; None if the keys must be read first (decision 20)."""
    facts = reader.mapping.facts
    if reader.statements.as_read is not None or facts.kind not in {"r", "m"}:
        return None
    parts = range(1, len(reader.mapping.key_columns) + 1)
    rows, width = reader.statements.by_key_in([composed(_SQL["part_of_keys"], part=part) for part in parts])
    table = sql.Literal(expressions.name(facts.schema, facts.name).as_string())
    batch = _batch(watch, width, composed("pg_catalog.pg_relation_size({})", table))
    return composed(_SQL["batch_and_rows"], batch=batch, rows=rows).as_string()


@dataclass(slots=True, eq=False)
class Bell:
    """A doorbell: a sequence by which the daemon asks the triggers for NOTIFY until a time of the server's clock.

    A transaction that read it before it was armed may commit later without a NOTIFY: hence the fence (decision 10). A
    bell that is not armed contains, to the hour, when the watch was last captured: by that the triggers of an abandoned
    watch stop recording. Zero or an unset bell mean nothing.

    Attributes:
        wanted: whether to arm it; never where a NOTIFY could harm the ATS: with two-phase commit, synchronous
            standbys, or a NOTIFY queue that fills up.
        begins: whether it may get a time of capture though it was never set.
        until: the armed time; None if it is not armed.
        fence: a transaction id taken after arming; None once all below it have ended.
        refused: whether it stays disarmed since the server's NOTIFY queue fills up.
        missed: how many changes were never recorded; None if unknown.
        counted: set when `missed` changes.
    """

    watch: str
    wanted: bool = False
    begins: bool = False
    until: int | None = None
    fence: int | None = None
    refused: bool = False
    missed: int | None = None
    counted: asyncio.Event = field(default_factory=asyncio.Event)
    error: SourceError | None = None

    @property
    def is_heard(self) -> bool:
        """Whether every change notifies."""
        return self.wanted and self.until is not None and self.fence is None

    @property
    def is_waiting(self) -> bool:
        """Whether it must be set or read before the next look at the log."""
        return self.missed is None or (self.wanted and self.until is None)

    @property
    def needs_a_look(self) -> bool:
        """Whether the watch is becoming idle."""
        return self.wanted and not self.refused and (self.until is None or self.fence is not None)


class Bells:
    """Sets doorbells, and reads the counts of unrecorded changes, of many watches at once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        # One statement at a time, so that the last request is the last to arrive.
        self._turn = asyncio.Lock()

    async def update(self, bells: Collection[Bell]) -> None:
        """Arm the wanted bells for `LEASE` seconds, with a new fence if one was disarmed.

        Another is set to now if it is an hour old, ahead by more than a lease, or was never set and `begins`.
        """
        async with self._turn:
            every, unfenced = list(bells), list[tuple[Bell, int]]()
            for first in range(0, len(every), _AT_ONCE):
                answers, _ = await halved(every[first : first + _AT_ONCE], self._set)
                unfenced += chain.from_iterable(answers)
            if unfenced:
                fence = await take_id(self._pool)
                for bell, until in unfenced:
                    bell.until, bell.fence = until, fence

    async def disarm(self, bell: Bell) -> None:
        """Disarm a bell: the watch is busy."""
        bell.wanted = False
        async with self._turn:
            bell.until = bell.fence = None
            bell.refused = False
            await self._disarm(bell)

    async def _set(self, bells: Sequence[Bell]) -> list[tuple[Bell, int]] | None:
        """Set these bells; returns those that need a fence, each with its armed time.

        None if a sequence that somebody has altered fails the statement.
        """
        wishes = [bell.wanted for bell in bells]
        asked = [(bell.watch, *sequences_of(bell.watch), bell.wanted, bell.begins) for bell in bells]
        parameters: dict[str, Any] = arrays(("watches", "bells", "missed", "wanted", "begins"), asked)
        parameters |= {"most": _MOST_OF_QUEUE, "lease": LEASE}
        try:
            rows = await self._pool.fetch(_SQL["bells"], parameters, "arming the doorbells cdc_sync.bell_*")
        except SourceError as error:
            if error.kind == "unreachable":
                raise
            if len(bells) == 1:
                bells[0].error = error
            return None
        found, unfenced = {watch: answer for watch, *answer in rows}, list[tuple[Bell, int]]()
        for bell, wanted in zip(bells, wishes, strict=True):
            before, until, missed = found[bell.watch]
            bell.error = None
            if missed != bell.missed:
                bell.missed = missed
                bell.counted.set()
            if bell.missed is None or (wanted and until is None):
                await self._find_error(bell)
            elif wanted:
                bell.refused = not until
                was_armed = before is not None and before == bell.until and until - LEASE <= before - _ROUNDING
                if bell.refused:
                    bell.until = bell.fence = None
                elif was_armed:
                    # A renewal keeps an older fence, which still has to be passed.
                    bell.until = until
                else:
                    unfenced.append((bell, until))
        return unfenced

    async def _find_error(self, bell: Bell) -> None:
        name = missed_of(bell.watch)
        count = composed(_SQL["count"], sql.Identifier("cdc_sync", name))
        try:
            await self._disarm(bell)
            await self._pool.fetch(count, (), f"reading cdc_sync.{name}")
        except SourceError as error:
            bell.error = error

    async def _disarm(self, bell: Bell) -> None:
        name = sql.Literal(sql.Identifier("cdc_sync", bell_of(bell.watch)).as_string())
        await self._pool.fetch(composed(_SQL["disarm"], name=name), (), "disarming the doorbell")


async def take_id(pool: Pool) -> int:
    """A transaction id above those of all present writers; a standby assigns none.

    Once a snapshot's xmin has passed it, what they wrote is visible or gone. A snapshot's xmax may be too low (decision
    3).
    """
    ((taken,),) = await pool.fetch(_TAKE_ID, (), "taking a transaction id")
    return int(taken)


async def all_ended(pool: Pool) -> None:
    """Wait until every present writer has ended, however long that takes."""
    taken = await take_id(pool)
    while not await have_ended(pool, taken):  # noqa: ASYNC110 - the server announces it to nobody
        await asyncio.sleep(_ENDED_EVERY)


async def have_ended(pool: Pool, taken: int) -> bool:
    """Whether all transactions below an id have ended."""
    ((oldest,),) = await pool.fetch(_OLDEST, (), "reading the server's snapshot")
    return int(oldest) > taken
