"""Rows on which an expression of the configuration fails: found by halving, so that they hold up no others.

PostgreSQL does not say which row an error is about, and gives nothing of a statement that fails. So the rows of such a
statement are read by key, in halves, until each that fails stands alone; then its expressions are evaluated one by one.
A bad row costs about twenty short statements the first time, some five when it is met again.

If no row can be read, of those that were asked for and of the table's first and last ones, it is the configuration that
is wrong: that is an error, as it would be without all this.
"""

from __future__ import annotations

import re
from collections import abc
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.core.rows import Key, Row
from cdc_sync.source.connection import Connection, asking
from cdc_sync.source.errors import SourceError, is_of_a_row, is_of_an_encoding, said_of_a_row, unless_a_row_fails
from cdc_sync.source.mapping import APPLICATION_ID, STATUS_URL, WHERE, Mapping
from cdc_sync.source.statements import CLOCK, Statements

if TYPE_CHECKING:
    from cdc_sync.source.reading import Read

Fetch = Callable[[sql.Composed, Sequence[Any], int], Awaitable[list[tuple[Any, ...]]]]
"""Runs one statement of so many columns; raises `SourceError`."""

ReadKeys = Callable[[Sequence[Key]], Awaitable["Read"]]
"""Reads the rows of some keys by one statement; raises `SourceError`."""

_MANY = 20
"""So many bad rows and no good one: is it the configuration? As many rows are tried at either end of the table."""

_REMEMBERED = 100_000
"""Keys of bad rows, at most: to forget one costs the statements that find it again."""

_LONGEST = 20.0
"""Seconds for telling rows apart in one go: the change log's transaction is open meanwhile, for a minute at most."""

NOT_TOLD_APART = (
    "an expression fails on it, or on one of the rows that were read with it: too many fail to be told apart at once, "
    "and the next sweep goes on with it"
)
"""Why a row is left out beyond that. The next time goes on from there, since bad rows are remembered."""

_PAGE = 1_000
_OF_AN_ID = re.compile(rf"[^:]*\b(?:{re.escape(APPLICATION_ID)}|{re.escape(STATUS_URL)})\b[^:]* cannot be read: ")
_INTEGERS = frozenset({WHERE, "columns.deleted"})


class UnreadableRows:
    """Reads a watch's rows apart where a statement fails on one of them, and remembers which rows those were.

    `clock` gives seconds that do not go back.
    """

    def __init__(self, mapping: Mapping, statements: Statements, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._mapping = mapping
        self._statements = statements
        self._fetch = fetch
        self._keys = sql.SQL(", ").join(mapping.key_texts)
        self._keys_width = len(mapping.key_texts) + 1
        self._met: set[Key] = set()
        self._without_id: set[Key] = set()
        self._culprits: dict[str, frozenset[str]] = {}
        self._some_can_be_read = False
        self._clock = clock

    def expect(self, skips: abc.Mapping[Key, str]) -> None:
        """Remember rows that an earlier run could not read, and why: to find them takes a walk through the table."""
        self._without_id.update(
            key
            for key, reason in skips.items()
            if len(key) == len(self._mapping.key_columns) and _OF_AN_ID.match(reason)
        )

    async def apart(self, keys: Collection[Key], read: ReadKeys) -> tuple[list[Read], list[Row], int]:
        """Read rows of which one at least makes a common statement fail.

        Returns what was read, the rows that cannot be, and the database's clock at the last of these.

        Raises:
            SourceError: the database cannot answer, or no row can be read.
        """
        reads: list[Read] = []
        failed: dict[Key, SourceError] = {}
        left: list[Key] = []
        until = self._clock() + _LONGEST
        met = self._met.intersection(keys)
        if others := [key for key in keys if key not in met]:
            left += await self._halve(others, read, reads, failed, until=until)
        for key in met:
            left += await self._halve([key], read, reads, failed, until=until)
        if any(one.rows for one in reads):
            self._some_can_be_read = True
        elif failed and not self._some_can_be_read:
            await self._insist_on_readable(failed, read)
        gone = met.difference(failed, left)
        self._met -= gone
        self._without_id -= gone
        examined = [await self._examine(key, error) for key, error in failed.items()]
        rows = [row for row, _ in examined if row is not None] + [_not_told_apart(key, self._mapping) for key in left]
        return reads, rows, max((at for _, at in examined), default=0)

    async def _halve(
        self,
        keys: Sequence[Key],
        read: ReadKeys,
        reads: list[Read],
        failed: dict[Key, SourceError],
        *,
        until: float,
    ) -> list[Key]:
        """Read these rows in halves; returns those that are left when the time is over."""
        if self._clock() > until:
            return list(keys)
        try:
            reads.append(await read(keys))
        except SourceError as error:
            if not is_of_a_row(error):
                raise
            if len(keys) > 1:
                return [
                    key for half in _halves(keys) for key in await self._halve(half, read, reads, failed, until=until)
                ]
            if is_of_an_encoding(error) and not self._mapping.knows_its_encoding:
                # Not the row's fault: database.dsn can say what the bytes are, and then every row can be read.
                raise error.followed_by(f"It is so of the row {'/'.join(keys[0])}.") from error.__cause__
            failed[keys[0]] = error
            if len(failed) == _MANY and not any(one.rows for one in reads):
                await self._insist_on_readable(failed, read)
        return []

    async def keys_where(self, condition: sql.Composable, parameters: Sequence[Any]) -> list[Key]:
        """The keys of the rows for which a condition holds, and of those on which it fails.

        Raises:
            SourceError: the database cannot answer.
        """
        select, given = sql.SQL("SELECT {}, {} FROM {} WHERE {}"), self._statements.key_is_given

        def where(condition: sql.Composable) -> sql.Composed:
            return select.format(self._keys, CLOCK, self._mapping.table, condition)

        found = await unless_a_row_fails(self._fetch(where(condition), parameters, self._keys_width))
        if found is not None:
            return list(map(self._mapping.key, found))
        # CASE: nothing else keeps the planner from evaluating the condition first. A copy: others look at rows, too.
        without_id = set(self._without_id)
        if without_id:
            but = where(sql.SQL("CASE WHEN {} THEN false ELSE {} END").format(given, condition))
            parts = _columns_of(list(without_id))
            found = await unless_a_row_fails(self._fetch(but, [*parts, *parameters], self._keys_width))
        if found is None:
            only = where(sql.SQL("{0} AND CASE WHEN {0} THEN {1} END").format(given, condition))
            found = []
            after: Key | None = ()
            while after is not None:
                page = await self._fetch(self._statements.keys_behind(after), [*after, _PAGE], self._keys_width)
                keys = list(map(self._mapping.key, page))
                if keys:
                    found += await self._matching(keys, only, parameters, without_id)
                after = keys[-1] if len(keys) == _PAGE else None
            self._without_id |= without_id
        return [*map(self._mapping.key, found), *without_id]

    async def _matching(
        self, keys: Sequence[Key], query: sql.Composed, parameters: Sequence[Any], without_id: set[Key]
    ) -> list[Any]:
        """The rows that a query finds among these keys; those on which it fails have no id that could be read."""
        parts = _columns_of(keys)
        found = await unless_a_row_fails(self._fetch(query, [*parts, *parts, *parameters], self._keys_width))
        if found is not None:
            return found
        if len(keys) == 1:
            without_id.add(keys[0])
            return []
        return [row for half in _halves(keys) for row in await self._matching(half, query, parameters, without_id)]

    async def _insist_on_readable(self, failed: dict[Key, SourceError], read: ReadKeys) -> None:
        """Find a row that can be read, at either end of the table.

        Raises:
            SourceError: there is none: it is the configuration.
        """
        for query in (self._statements.keys_behind(()), self._statements.last_keys):
            for key in map(self._mapping.key, await self._fetch(query, [_MANY], self._keys_width)):
                found = None if key in failed else await unless_a_row_fails(read([key]))
                if found is not None and found.rows:
                    self._some_can_be_read = True
                    return
        key, error = next(iter(failed.items()))
        examined, _ = await self._examine(key, error)
        why = "" if examined is None else f" In the row {'/'.join(key)}, {examined.unreadable}."
        raise error.followed_by(f"No row that was tried can be read.{why}") from error.__cause__

    async def _examine(self, key: Key, error: SourceError) -> tuple[Row | None, int]:
        """What can be read of a row, and which expression fails; None if the row is gone by now."""
        message = said_of_a_row(error)
        places = self._culprits.get(message)
        found = None if places is None else await self._without(key, places)
        if found is None:
            failing: set[str] = set()
            for place in self._mapping.expressions:
                if await self._without(key, self._mapping.expressions.keys() - {place}) is None:
                    failing.add(place)
            places = frozenset(failing)
            found = await self._without(key, places)
            if found is None:  # it changes as we look
                places = frozenset(self._mapping.expressions)
                found = await self._without(key, places)
            if len(places) == 1:  # else a row of which only one fails would have both blamed
                self._culprits = {**({} if len(self._culprits) > _MANY else self._culprits), message: places}
        if not found:
            return None, 0
        (columns,) = found
        row, at = self._mapping.row(columns), int(columns[-1])
        if not places:
            return row, at
        named = [place for place in self._mapping.expressions if place in places]
        id_fails = APPLICATION_ID in places or (STATUS_URL in places and row.application_id is None)
        if len(self._met) < _REMEMBERED:
            self._met.add(key)
            if id_fails:
                self._without_id.add(key)
        reason = f"{', '.join(named)} cannot be read: {message}"
        return row._replace(in_scope=row.in_scope or WHERE in places, unreadable=reason, id_unreadable=id_fails), at

    async def _without(self, key: Key, places: Collection[str]) -> list[tuple[Any, ...]] | None:
        """A row without some expressions, as a list of one or, if it is gone, of none; None if another one fails."""
        items = [
            (sql.SQL("NULL::int") if place in _INTEGERS else sql.SQL("NULL::text")) if place in places else expression
            for place, expression in self._mapping.expressions.items()
        ]
        query = sql.SQL("SELECT {}, {}, {} FROM {} WHERE {} LIMIT 1").format(
            self._keys, sql.SQL(", ").join(items), CLOCK, self._mapping.table, self._statements.key_is_given
        )
        return await unless_a_row_fails(self._fetch(query, _columns_of([key]), self._mapping.width + 1))


def _not_told_apart(key: Key, mapping: Mapping) -> Row:
    nothing = mapping.row([*key, 1, *[None] * (len(mapping.expressions) - 1)])
    return nothing._replace(unreadable=NOT_TOLD_APART, id_unreadable=True)


def _halves(keys: Sequence[Key]) -> tuple[Sequence[Key], Sequence[Key]]:
    middle = len(keys) // 2
    return keys[:middle], keys[middle:]


def _columns_of(keys: Sequence[Key]) -> list[list[str]]:
    return [list(parts) for parts in zip(*keys, strict=True)]


async def convertible(
    pool: AsyncConnectionPool[Connection], keys: Sequence[Key], types: Sequence[sql.Composable]
) -> list[Key]:
    """Those of the keys that these types, one for each part of a key, can hold.

    Keys and ids do not all come from the column that they are looked for in. A related table may keep an application's
    number as text, beside numbers of other things; an id may stand in a status URL while the id's own column is a uuid.
    A value that the column's type cannot hold is in no row, and must not keep all the others from being read.

    Found by halving, since PostgreSQL does not tell which value an error is about (`pg_input_is_valid` came with 16).

    Raises:
        SourceError: the database cannot be asked.
    """
    if await _all_convert(pool, keys, types):
        return list(keys)
    if len(keys) == 1:
        return []
    middle = len(keys) // 2
    return [*await convertible(pool, keys[:middle], types), *await convertible(pool, keys[middle:], types)]


async def _all_convert(
    pool: AsyncConnectionPool[Connection], keys: Sequence[Key], types: Sequence[sql.Composable]
) -> bool:
    query = sql.SQL("SELECT {}").format(
        sql.SQL(", ").join(sql.SQL("%s::text[]::{}[]").format(type_) for type_ in types)
    )
    values: list[Any] = [list(parts) for parts in zip(*keys, strict=True)]
    async with asking("asking which keys can exist"), pool.connection() as connection:
        try:
            await connection.execute(query, values)
        except psycopg.DataError:
            return False
    return True
