"""Rows that cannot be read alone, since an expression of the configuration fails on them: they block no others.

If no row can be read, also none of the table's first and last ones, or if a thousand rows cannot be read, the
configuration is wrong.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.errors import CharacterNotInRepertoire

from cdc_sync.ats.connection import Pool, Rows, with_position
from cdc_sync.ats.errors import SourceError, is_of_a_row, row_error_text, unless_a_row_fails
from cdc_sync.ats.expressions import composed
from cdc_sync.ats.mapping import APPLICATION_ID, STATUS_URL, WHERE, Mapping, columns_of
from cdc_sync.ats.statements import CLOCK, Statements
from cdc_sync.core.reasons import Reason, coded
from cdc_sync.core.rows import Key, Row

_AT_EACH_END = 20
"""Rows at either end of the table, of which one must be readable."""

_MOST = 1_000
"""With so many unreadable rows the watch stops."""

_OF_AN_ID = frozenset({APPLICATION_ID, STATUS_URL})


class UnreadableRows:
    """Examines a watch's rows that cannot be read alone, and remembers them.

    Attributes:
        met: their keys, each with whether an id or a status URL cannot be read.
    """

    def __init__(
        self,
        pool: Pool,
        mapping: Mapping,
        statements: Statements,
        fetch: Callable[[str, Sequence[Any]], Awaitable[Rows]],
    ) -> None:
        self.met: dict[Key, bool] = {}
        self._pool, self._mapping, self._statements, self._fetch = pool, mapping, statements, fetch

    async def examine(self, key: Key, error: SourceError) -> tuple[list[Row], int]:
        """What can be read of a row whose reading failed, if there is one, and the database's clock.

        Raises:
            SourceError: not this row is wrong, but the configuration.
        """
        if isinstance(error.__cause__, CharacterNotInRepertoire) and not self._mapping.knows_its_encoding:
            # With an encoding in database.dsn every row can be read.
            raise error.followed_by(f"It is so of the row {'/'.join(key)}.") from error.__cause__
        values, failing, at = list[Any](), list[str](), 0
        there = await convertible(self._pool, [key], self._mapping.key_types)
        for place, expression in self._mapping.expressions.items():
            found = await self._piece(key, expression) if there else []
            if found == []:
                self.met.pop(key, None)
                return [], 0
            if found is None:
                failing.append(place)
                # A row that may be in scope is.
                values.append(1 if place == WHERE else None)
            else:
                value, at, _ = found[0]
                values.append(value)
        is_of_id = not _OF_AN_ID.isdisjoint(failing)
        row = self._mapping.row([*key, *values])
        row = row._replace(unreadable=_why(failing, error), id_unreadable=is_of_id and row.application_id is None)
        if key not in self.met:
            await self._insist_on_readable(row, error)
        self.met[key] = is_of_id
        if len(self.met) >= _MOST:
            raise _stopped(f"{_MOST} rows cannot be read.", row, error) from error.__cause__
        return [row], at

    async def keys_where(self, condition: sql.Composable, values: Sequence[Key]) -> list[Key]:
        """The keys of the rows for which a condition on an id holds, without those met whose id cannot be read."""
        without_id, parameters = [key for key, is_without_id in self.met.items() if is_without_id], columns_of(values)
        if without_id:
            # Only CASE orders the evaluation.
            condition = composed("CASE WHEN {} THEN false ELSE {} END", self._statements.key_is_given, condition)
            parameters = [*columns_of(without_id), *parameters]
        keys = self._statements.select(*self._mapping.key_texts)
        rows = composed("{} WHERE ({}) AND {}", keys, condition, self._mapping.has_key)
        query = with_position(rows, len(self._mapping.key_texts))
        return list(map(self._mapping.key, await self._fetch(query, parameters)))

    async def _piece(self, key: Key, expression: sql.Composable) -> Rows | None:
        """An expression's value for a row; empty without such a row, None if it fails."""
        piece = self._statements.select(expression, CLOCK)
        query = composed("{} WHERE {} LIMIT 1", piece, self._statements.key_is_given)
        return await unless_a_row_fails(self._fetch(with_position(query, 2), columns_of([key])))

    async def _insist_on_readable(self, row: Row, error: SourceError) -> None:
        """Find a row that can be read at either end of the table; raise if there is none."""
        reading = self._statements.by_key
        for query in (self._statements.by_keys.keys[0], self._statements.last_keys):
            for key in map(self._mapping.key, await self._fetch(query, [_AT_EACH_END])):
                asking = self._fetch(reading, [None, *columns_of([key])])
                if await unless_a_row_fails(asking):
                    return
        raise _stopped("No row that was tried can be read.", row, error) from error.__cause__


def _why(failing: Sequence[str], error: SourceError) -> Reason:
    return coded(
        "unreadable",
        "%(places)s cannot be read: %(message)s",
        places=", ".join(failing) or "the row",
        message=row_error_text(error),
    )


def _stopped(why: str, row: Row, error: SourceError) -> SourceError:
    return error.followed_by(f"{why} In the row {'/'.join(row.key)}, {row.unreadable}.")


async def convertible(pool: Pool, keys: Sequence[Key], types: Sequence[sql.Composable]) -> list[Key]:
    """The keys that these types, one for each part, can hold; any other is in no row.

    A related table may keep a number as text.
    """
    query, found = composed("SELECT {}", [composed("%s::{}", type_) for type_ in types]), list[Key]()
    for key in keys:
        try:
            await pool.fetch(query, key, "asking whether a key can exist")
            found.append(key)
        except SourceError as error:
            # A type that is gone says nothing of a key.
            if isinstance(error.__cause__, psycopg.ProgrammingError) or not is_of_a_row(error):
                raise
    return found
