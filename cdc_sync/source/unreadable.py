"""Rows on which an expression of the configuration fails: found by halving, so that they block no others.

PostgreSQL does not name an error's row. So rows are read by key, in halves, until each failing one is alone; then its
expressions one by one. If no row can be read, also none of the table's first and last ones, the configuration is wrong.
"""

from __future__ import annotations

import re
from collections import abc
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import sql
from psycopg.errors import CharacterNotInRepertoire

from cdc_sync.core.reasons import coded
from cdc_sync.core.rows import Key, Row
from cdc_sync.source.connection import Pool, Rows, with_position
from cdc_sync.source.errors import SourceError, is_of_a_row, row_error_text, unless_a_row_fails
from cdc_sync.source.expressions import composed
from cdc_sync.source.mapping import APPLICATION_ID, STATUS_URL, WHERE
from cdc_sync.source.statements import CLOCK

if TYPE_CHECKING:
    from cdc_sync.source.reading import Read, Reader

T = TypeVar("T")
Item = TypeVar("Item")

ReadKeys = Callable[[Sequence[Key]], Awaitable["Read"]]
"""Reads the rows of some keys by one statement; raises `SourceError`."""

_MANY = 20
"""With so many bad rows and no good one, as many at either end of the table are tried."""

_REMEMBERED = 100_000
"""Most remembered bad rows. A forgotten one only has to be found again."""

_LONGEST = 20.0
"""Seconds for isolating rows at once."""

NOT_ISOLATED = coded(
    "not-isolated",
    "an expression fails on it, or on one of the rows that were read with it: too many rows fail to isolate them at "
    "once; the next sweep continues",
)
"""Why further rows are left out; the next sweep continues, since bad rows are remembered."""

_PAGE = 1_000
_OF_AN_ID = re.compile(rf"[^:]*\b(?:{re.escape(APPLICATION_ID)}|{re.escape(STATUS_URL)})\b[^:]* cannot be read: ")
_INTEGERS = frozenset({WHERE, "columns.deleted"})


class UnreadableRows:
    """Isolates a watch's rows on which a statement fails, and remembers them."""

    def __init__(self, reader: Reader, clock: Callable[[], float]) -> None:
        self._mapping, self._statements, self._fetch = reader.mapping, reader.statements, reader.fetch
        self._met: set[Key] = set()
        self._without_id: set[Key] = set()
        self._culprits: dict[str, frozenset[str]] = {}
        self._some_can_be_read = False
        self._clock = clock

    def expect(self, skips: abc.Mapping[Key, str]) -> None:
        """Remember an earlier run's rows: finding them again takes a walk through the table."""
        self._without_id.update(
            key
            for key, reason in skips.items()
            if len(key) == len(self._mapping.key_columns) and _OF_AN_ID.match(reason)
        )

    async def apart(self, keys: Collection[Key], read: ReadKeys) -> tuple[list[Read], list[Row], int]:
        """Read rows that fail together; raises also if no row can be read.

        Returns what was read, the unreadable rows, and the database's clock at the last of these.
        """
        reads: list[Read] = []
        failed: dict[Key, SourceError] = {}
        left: list[Key] = []
        until = self._clock() + _LONGEST

        async def ask(some: Sequence[Key]) -> bool | None:
            if self._clock() > until:
                left.extend(some)
                return True
            try:
                reads.append(await read(some))
            except SourceError as error:
                if not is_of_a_row(error):
                    raise
                if len(some) == 1:
                    failed[some[0]] = self._blamed(some[0], error)
                    if len(failed) == _MANY and not any(one.rows for one in reads):
                        await self._insist_on_readable(failed, read)
                return None
            return True

        met = self._met.intersection(keys)
        await halved([key for key in keys if key not in met], ask)
        for key in met:
            await ask([key])
        if any(one.rows for one in reads):
            self._some_can_be_read = True
        elif failed and not self._some_can_be_read:
            await self._insist_on_readable(failed, read)
        gone = met.difference(failed, left)
        self._met -= gone
        self._without_id -= gone
        examined = [await self._examine(key, error) for key, error in failed.items()]
        rows = [row for row, _ in examined if row is not None]
        nothing = [1, *[None] * (len(self._mapping.expressions) - 1)]
        rows += [
            self._mapping.row([*key, *nothing])._replace(unreadable=NOT_ISOLATED, id_unreadable=True) for key in left
        ]
        return reads, rows, max((at for _, at in examined), default=0)

    def _blamed(self, key: Key, error: SourceError) -> SourceError:
        if isinstance(error.__cause__, CharacterNotInRepertoire) and not self._mapping.knows_its_encoding:
            # With an encoding in database.dsn every row can be read.
            raise error.followed_by(f"It is so of the row {'/'.join(key)}.") from error.__cause__
        return error

    async def keys_where(self, condition: sql.Composable, parameters: Sequence[Any]) -> list[Key]:
        """The keys of the rows for which a condition holds, or on which it fails."""
        given = self._statements.key_is_given
        found = await self._keys_if(condition, parameters)
        if found is not None:
            return found
        # Only CASE orders the evaluation. A copy, since other tasks use the set.
        without_id = set(self._without_id)
        if without_id:
            but = composed("CASE WHEN {} THEN false ELSE {} END", given, condition)
            found = await self._keys_if(but, [*columns_of(list(without_id)), *parameters])
        if found is None:
            only = composed("{0} AND CASE WHEN {0} THEN {1} END", given, condition)

            async def matching(some: Sequence[Key]) -> list[Key] | None:
                return await self._keys_if(only, [*columns_of(some) * 2, *parameters])

            found, after = [], None
            while after != ():
                page = await self._fetch(self._statements.keys[after is not None], [*(after or ()), _PAGE])
                keys = list(map(self._mapping.key, page))
                answers, failing = await halved(keys, matching)
                found += [key for answer in answers for key in answer]
                without_id.update(failing)
                after = keys[-1] if len(keys) == _PAGE else ()
            self._without_id |= without_id
        return [*found, *without_id]

    async def _keys_if(self, condition: sql.Composable, parameters: Sequence[Any]) -> list[Key] | None:
        keys = self._statements.select(*self._mapping.key_texts)
        query = with_position(composed("{} WHERE {}", keys, condition), len(self._mapping.key_texts))
        found = await unless_a_row_fails(self._fetch(query, parameters))
        return None if found is None else list(map(self._mapping.key, found))

    async def _insist_on_readable(self, failed: dict[Key, SourceError], read: ReadKeys) -> None:
        """Find a row that can be read at either end of the table; raise if there is none."""
        for query in (self._statements.keys[0], self._statements.last_keys):
            for key in map(self._mapping.key, await self._fetch(query, [_MANY])):
                found = None if key in failed else await unless_a_row_fails(read([key]))
                if found is not None and found.rows:
                    self._some_can_be_read = True
                    return
        key, error = next(iter(failed.items()))
        examined, _ = await self._examine(key, error)
        why = "" if examined is None else f" In the row {'/'.join(key)}, {examined.unreadable}."
        raise error.followed_by(f"No row that was tried can be read.{why}") from error.__cause__

    async def _examine(self, key: Key, error: SourceError) -> tuple[Row | None, int]:
        """What can be read of a row, and which expression fails; None if the row is gone."""
        message = row_error_text(error)
        every = frozenset(self._mapping.expressions)
        places = self._culprits.get(message)
        found = None if places is None else await self._without(key, places)
        if places is None or found is None:
            places = frozenset([place for place in every if await self._without(key, every - {place}) is None])
            found = await self._without(key, places)
            if found is None:  # it changes meanwhile
                places, found = every, await self._without(key, every)
            if len(places) == 1:  # of two, another row with this message may have only one
                self._culprits = {**({} if len(self._culprits) > _MANY else self._culprits), message: places}
        if not found:
            return None, 0
        (columns,) = found
        row, at = self._mapping.row(columns), int(columns[self._mapping.width])
        if not places:
            return row, at
        named = [place for place in self._mapping.expressions if place in places]
        id_fails = APPLICATION_ID in places or (STATUS_URL in places and row.application_id is None)
        if len(self._met) < _REMEMBERED:
            self._met.add(key)
            if id_fails:
                self._without_id.add(key)
        reason = coded("unreadable", "%(places)s cannot be read: %(message)s", places=", ".join(named), message=message)
        return row._replace(in_scope=row.in_scope or WHERE in places, unreadable=reason, id_unreadable=id_fails), at

    async def _without(self, key: Key, places: Collection[str]) -> Rows | None:
        """A row without some expressions, in a list; empty if it is gone, None if another expression fails."""
        items = [
            sql.SQL("NULL::int" if place in _INTEGERS else "NULL::text") if place in places else expression
            for place, expression in self._mapping.expressions.items()
        ]
        row = self._statements.select(*self._mapping.key_texts, *items, CLOCK)
        query = composed("{} WHERE {} LIMIT 1", row, self._statements.key_is_given)
        return await unless_a_row_fails(self._fetch(with_position(query, self._mapping.width + 1), columns_of([key])))


def columns_of(keys: Sequence[Key]) -> list[list[str]]:
    """Keys as parameters, a list for each part."""
    return [list(parts) for parts in zip(*keys, strict=True)]


async def halved(
    items: Sequence[Item], ask: Callable[[Sequence[Item]], Awaitable[T | None]]
) -> tuple[list[T], list[Item]]:
    """Ask about items, in halves where the answer is None; returns the answers, and the items without one."""
    if not items:
        return [], []
    answer = await ask(items)
    if answer is not None:
        return [answer], []
    if len(items) == 1:
        return [], [items[0]]
    middle = len(items) // 2
    answers, failing = await halved(items[:middle], ask)
    more, others = await halved(items[middle:], ask)
    return [*answers, *more], [*failing, *others]


async def convertible(pool: Pool, keys: Sequence[Key], types: Sequence[sql.Composable]) -> list[Key]:
    """The keys that these types, one for each part, can hold; any other is in no row.

    A related table may keep a number as text. PostgreSQL does not name an error's value (`pg_input_is_valid` since 16).
    """
    given = [composed("%s::text[]::{}[]", type_) for type_ in types]
    query = composed("SELECT {}", given)

    async def ask(some: Sequence[Key]) -> Sequence[Key] | None:
        asked = pool.ask("asking which keys can exist", lambda connection: connection.execute(query, columns_of(some)))
        return None if await unless_a_row_fails(asked) is None else some

    answers, _ = await halved(keys, ask)
    return [key for answer in answers for key in answer]
