"""Rows that cannot be read alone, since an expression of the configuration fails on them: they block no others.

If no row can be read, also none of the table's first and last ones, or if a thousand rows cannot be read, the
configuration is wrong.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.errors import CharacterNotInRepertoire

from cdc_sync.ats.connection import Pool, Rows, with_position
from cdc_sync.ats.errors import RowError, SourceError, row_error_text, unless_a_row_fails
from cdc_sync.ats.expressions import composed
from cdc_sync.ats.mapping import APPLICATION_ID, CREATED, DELETED, STATUS_URL, WHERE, Mapping, columns_of
from cdc_sync.ats.statements import CLOCK, Statements
from cdc_sync.core.reasons import coded
from cdc_sync.core.rows import BLANKS, Key, Row

_AT_EACH_END = 20
"""Rows at either end of the table, of which one must be readable."""

_MOST = 1_000
"""With so many unreadable rows the watch stops."""

_IDS = frozenset({APPLICATION_ID, STATUS_URL})
_PIECES = (WHERE, APPLICATION_ID, STATUS_URL, CREATED, DELETED)
"""What decides whose row it is, and whether another row of its application stands before it."""


class UnreadableRows:
    """Examines a watch's rows that cannot be read alone, and remembers them.

    Attributes:
        met: their keys, each with the places of the pieces that cannot be read.
    """

    def __init__(
        self,
        pool: Pool,
        mapping: Mapping,
        statements: Statements,
        fetch: Callable[[str, Sequence[Any]], Awaitable[Rows]],
    ) -> None:
        self.met: dict[Key, frozenset[str]] = {}
        self._pool, self._mapping, self._statements, self._fetch = pool, mapping, statements, fetch

    async def examine(self, key: Key, error: RowError) -> tuple[list[Row], int]:
        """What can be read of a row whose reading failed, if there is one, and the database's clock.

        Raises:
            SourceError: not this row is wrong, but the configuration.
        """
        if isinstance(error.__cause__, CharacterNotInRepertoire) and not self._mapping.knows_its_encoding:
            # With an encoding in database.dsn every row can be read.
            raise error.followed_by(f"It is so of the row {'/'.join(key)}.") from error.__cause__
        there = await convertible(self._pool, [key], self._mapping.key_types)
        clock = await self._piece(key, CLOCK) if there else []
        read = self._mapping.expressions
        pieces = {place: await unless_a_row_fails(self._piece(key, read[place])) for place in _PIECES if clock}
        if not clock or [] in pieces.values():
            self.met.pop(key, None)
            return [], 0
        failing = frozenset(place for place, found in pieces.items() if found is None)
        row = _row(key, {place: found[0][0] for place, found in pieces.items() if found}, failing, error)
        if key not in self.met:
            await self._insist_on_readable(row, error)
        self.met[key] = failing
        if len(self.met) >= _MOST:
            raise _stopped(f"{_MOST} rows cannot be read.", row, error) from error.__cause__
        return [row], clock[0][0]

    async def keys_where(self, condition: sql.Composable, places: Collection[str], values: Sequence[Key]) -> list[Key]:
        """The keys of the rows for which a condition on some places holds, as far as these can be read."""
        without = [key for key, failing in self.met.items() if not failing.isdisjoint(places)]
        parameters = columns_of(values)
        if without:
            # Only CASE orders the evaluation.
            condition = composed("CASE WHEN {} THEN false ELSE {} END", self._statements.key_is_given, condition)
            parameters = [*columns_of(without), *parameters]
        found = await self._fetch(self._statements.keys_where(condition), parameters)
        return list(map(self._mapping.key, found))

    async def _piece(self, key: Key, piece: sql.Composable) -> Rows:
        """A piece of a row; empty without such a row."""
        query = composed("{} WHERE {} LIMIT 1", self._statements.select(piece), self._statements.key_is_given)
        return await self._fetch(with_position(query, 1), columns_of([key]))

    async def _insist_on_readable(self, row: Row, error: RowError) -> None:
        """Find a row that can be read at either end of the table; raise if there is none."""
        reading = self._statements.by_key
        for query in (self._statements.by_keys.first.keys, self._statements.last_keys):
            for key in map(self._mapping.key, await self._fetch(query, [_AT_EACH_END])):
                asking = self._fetch(reading, [None, *columns_of([key])])
                if await unless_a_row_fails(asking):
                    return
        raise _stopped("No row that was tried can be read.", row, error) from error.__cause__


def _row(key: Key, read: dict[str, Any], failing: frozenset[str], error: RowError) -> Row:
    """A row by the pieces that could be read. One that may be in scope, live or the latest is."""
    return Row(
        key,
        in_scope=read.get(WHERE, 1) == 1,
        application_id=read.get(APPLICATION_ID),
        status_url=read.get(STATUS_URL),
        status=None,
        job_id=None,
        created=read.get(CREATED),
        event_date=None,
        source=None,
        deleted=read.get(DELETED) == 1,
        extra=(),
        unreadable=coded("unreadable", "it cannot be read: %(message)s", message=row_error_text(error)),
        id_unreadable=not failing.isdisjoint(_IDS) and not (read.get(APPLICATION_ID) or "").strip(BLANKS),
    )


def _stopped(why: str, row: Row, error: RowError) -> SourceError:
    return error.followed_by(f"{why} Of the row {'/'.join(row.key)}: {row.unreadable}.")


async def convertible(pool: Pool, keys: Sequence[Key], types: Sequence[sql.Composable]) -> list[Key]:
    """The keys that these types, one for each part, can hold; any other is in no row.

    A related table may keep a number as text.
    """
    query, found = composed("SELECT {}", [composed("%s::{}", type_) for type_ in types]), list[Key]()
    for key in keys:
        try:
            await pool.fetch(query, key, "asking whether a key can exist")
            found.append(key)
        except RowError as error:
            # A type that is gone says nothing of a key.
            if isinstance(error.__cause__, psycopg.ProgrammingError):
                raise
    return found
