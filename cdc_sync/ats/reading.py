"""Reading rows: by key, by application, and in pages.

A read that proves that a row is gone is `confirming`: it includes what may have hidden the row.

A row on which an expression of the configuration fails is read alone, and blocks no others. If no row can be read, also
none of the table's first and last ones, or if a thousand rows cannot be read, the configuration is wrong.

**Row-level security** may have hidden rows: a hidden row looks like a deleted one. A confirming read asks, in its READ
COMMITTED transaction and *after* the rows, which policies filtered them. Its locks keep policies as they were, and show
the relations to ask about, but do not cover roles' attributes: the caller keeps an earlier "may hide" until a later
question (decision 24).
"""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import psycopg
from psycopg.errors import CharacterNotInRepertoire
from psycopg.sql import Composable

from cdc_sync.config import Watch
from cdc_sync.core.reasons import Reason
from cdc_sync.core.rows import BLANKS, Key, Row

from .connection import OWN_PATH, PINNED_PATH, Connection, Pool, Rows, rows_of
from .errors import RowError, SourceError, reason, row_error_text, unless_a_row_fails
from .expressions import catalog, composed, sections, spellings_in_url
from .mapping import APPLICATION_ID, CLOCK, CREATED, DELETED, LARGEST, STATUS_URL, TEXT, WHERE, Statements, Walk

_AT_ONCE = 200
"""Rows of a page of which one may be unreadable."""

_AT_EACH_END = 20
"""Rows at either end of the table, of which one must be readable."""

_MOST = 1_000
"""With so many unreadable rows the watch stops."""

_IDS = frozenset({APPLICATION_ID, STATUS_URL})
_PIECES = (WHERE, APPLICATION_ID, STATUS_URL, CREATED, DELETED)
"""What decides whose row it is, and whether another row of its application stands before it."""

_BEGIN_CONFIRMING = sections("reading.sql")["begin_confirming"]


class Hiding(NamedTuple):
    """A table with policies that may hide rows from the reading role: ours, or a view's owner.

    Names are as SQL writes them; `restrictive` are the restrictive policies for that role.
    """

    table: str
    role: str
    restrictive: tuple[str, ...]

    @property
    def remedy(self) -> str:
        """The shortest remedy, as SQL to paste."""
        if self.restrictive:
            policies = ", ".join(self.restrictive)
            return f"ALTER ROLE {self.role} BYPASSRLS;   -- by a superuser; or exclude it from the policies {policies}"
        return f"CREATE POLICY cdc_sync ON {self.table} FOR SELECT TO {self.role} USING (true);   -- by its owner"


async def hiding(connection: Connection) -> tuple[Hiding, ...]:
    """The tables with policies that may have hidden rows from this open transaction."""
    found = await rows_of(connection, catalog("hiding"), prepare=True)
    return tuple(Hiding(table, role, tuple(restrictive)) for table, role, restrictive in found)


def reason_of(found: Iterable[Hiding]) -> Reason:
    """The roles that may miss rows, and of which tables."""
    reasons = (reason("rows-hidden", table=one.table, role=one.role) for one in sorted(found))
    return reduce(lambda a, b: reason("both", reason=a, reason_other=b), reasons)


def warning_of(found: Iterable[Hiding]) -> Reason:
    """The same, with the consequence and the remedy."""
    plain = reason_of(found)
    sentence = Reason(f"{plain[0].upper()}{plain[1:]}", plain.code, plain.values)
    return reason("row-security", reason=sentence, remedies=" ".join(one.remedy for one in sorted(found)))


class Read(NamedTuple):
    """Rows, and the database's clock at the read (milliseconds since the epoch).

    Attributes:
        last: where the next page of a walk begins; None behind the last one.
        hidden_by: the policies that may have hidden rows from a confirming read.
        is_cut: whether the rows' size ended the answer.
    """

    rows: list[Row]
    at: int
    last: Key | None = None
    hidden_by: frozenset[Hiding] = frozenset()
    is_cut: bool = False


class Digests(NamedTuple):
    """A page of digests (`ats.mapping`): the text, how many rows, the clock, and where the next one begins."""

    text: str
    rows: int
    at: int
    last: Key | None


class Reader:
    """Reads one watch's table through its mapping.

    A row on which an expression fails is returned as `unreadable`. Rows have digests if a `shape` is given. Reads of
    many rows take turns (`Pool.turns`).

    Raises:
        SourceError: by each method, if the database does not answer: a failed read is never an empty answer.
    """

    def __init__(self, pool: Pool, mapping: Statements) -> None:
        self.pool = pool
        self.mapping = mapping
        self._doing = f"reading {mapping.watch.table}"
        self._rows_of = partial(rows_of, own_path=not mapping.is_plain)
        self.unreadable = UnreadableRows(self)

    async def hidden_by(self) -> frozenset[Hiding]:
        """The policies that may hide rows of the table now; reads no row."""
        return (await self._confirmed(self.mapping.by_keys.first.rows, [None, 0])).hidden_by

    async def by_key(self, keys: Collection[Key], shape: str | None = None, *, confirming: bool = False) -> Read:
        """The rows of these keys; a key that the columns cannot hold has none."""
        return _whole([part async for part, _ in self.parts_by_key(keys, shape=shape, confirming=confirming)])

    async def parts_by_key(
        self, keys: Collection[Key], shape: str | None = None, *, confirming: bool = False
    ) -> AsyncIterator[tuple[Read, list[Key]]]:
        """As `by_key`, in parts of bounded size, each with the keys that it answers."""
        # Keys from before an edit of `key` may have other columns: no row has them.
        fitting = [key for key in keys if len(key) == len(self.mapping.key_columns)]
        alone = [key for key in fitting if key in self.unreadable.met]
        parts = [[key for key in fitting if key not in self.unreadable.met]]
        if len(fitting) < len(keys):
            yield Read([], 0), [key for key in keys if len(key) != len(self.mapping.key_columns)]
        while parts and parts[-1]:
            some = parts.pop()
            try:
                found = await self._by_key(some, shape, confirming=confirming)
            except RowError:
                alone += some
                continue
            if found.is_cut and len(some) > 1:
                middle = len(some) // 2
                parts += [some[middle:], some[:middle]]
            else:
                yield found, some
        for key in alone:
            yield await self._alone(key, shape, confirming=confirming), [key]

    async def _by_key(self, keys: Sequence[Key], shape: str | None, *, confirming: bool) -> Read:
        query, parameters = self.mapping.by_key, [shape, *_columns_of(keys)]
        if confirming:
            return await self._confirmed(query, parameters)
        # To parse and to plan it takes five times as long as to run it.
        asking = partial(self._rows_of, query=query, parameters=parameters, prepare=True)
        return self._read_of(await self.pool.read(self._doing, asking))

    async def _alone(self, key: Key, shape: str | None, *, confirming: bool) -> Read:
        """A row that is read alone, whether it can be read or not."""
        try:
            found = await self._by_key([key], shape, confirming=confirming)
        except RowError as error:
            rows, at = await self.unreadable.examine(key, error)
            return Read(rows, at, hidden_by=await self.hidden_by() if confirming else frozenset())
        self.unreadable.met.pop(key, None)
        return found

    async def by_application(self, application_ids: Collection[str]) -> Read:
        """All rows that carry one of these ids: in key order those by column, then those by status URL; confirming.

        Among those by URL may be some with similar ids.
        """
        if not application_ids:
            return Read([], 0)
        by_id, by_url, found = self.mapping.id_is_given, self.mapping.url_is_given, Read([], 0)
        if by_id is not None:
            ids = [(id_,) for id_ in application_ids]
            found = await self._where(by_id, {APPLICATION_ID}, ids, self.mapping.id_type)
        if by_url is not None:
            spellings = {(spelling,) for id_ in application_ids for spelling in spellings_in_url(id_)}
            found = _whole([found, await self._where(by_url, {APPLICATION_ID, STATUS_URL}, sorted(spellings), TEXT)])
        return found

    async def _where(
        self, condition: Composable, places: Collection[str], values: Sequence[Key], type_: Composable
    ) -> Read:
        """The rows for which a condition on some places holds, also if a statement fails on a row; confirming."""
        query = self.mapping.where(condition)
        found = await unless_a_row_fails(self._confirmed(query, [None, *_columns_of(values)]))
        if found is not None:
            return found
        possible = await convertible(self.pool, values, [type_])
        asking = partial(self.unreadable.keys_where, condition, places, possible)
        keys = await unless_a_row_fails(asking())
        if keys is None:
            # Through the whole table, for its unreadable rows.
            page = await self.page(None, _AT_ONCE)
            while page.last is not None:
                page = await self.page(page.last, _AT_ONCE)
            keys = await asking()
        read = await self.by_key(keys, confirming=True)
        return read._replace(hidden_by=read.hidden_by | await self.hidden_by())

    async def page(self, after: Key | None, size: int, shape: str | None = None) -> Read:
        """The next `size` rows in key order, or fewer large ones, without NULL keys."""
        return await self.walk(self.mapping.by_keys, after or (), size, shape)

    async def walk(self, walk: Walk, place: Key, size: int, shape: str | None = None) -> Read:
        """The next `size` rows of a walk, or fewer large ones, from its marks on or behind its marks and a key."""
        page = walk.following if len(place) > walk.marks else walk.first
        try:
            fetched = await self.fetch(page.rows, [shape, *place, size], takes_turn=True)
            read = self._read_of(fetched)
        except RowError:
            size = min(size, _AT_ONCE)
            fetched = await self.fetch(page.keys, [*place, size], takes_turn=True)
            if not fetched:
                raise  # without rows it is none's
            read = await self.by_key(list(map(self.mapping.key, fetched)), shape)
        if not fetched:
            return Read([], 0)
        last = fetched[-1]
        at, *marks, so_far = last[-2 - walk.marks :]
        is_last = len(fetched) < size and (so_far or 0) < LARGEST
        return Read(read.rows, at, None if is_last else (*marks, *self.mapping.key(last)))

    async def digests(self, after: Key | None, size: int, shape: str) -> Digests | None:
        """The same rows' digests; None if an expression fails, so that they must be read."""
        query = self.mapping.first_digests if after is None else self.mapping.following_digests
        found = await unless_a_row_fails(self.fetch(query, [shape, *(after or ()), size], takes_turn=True))
        if found is None:
            return None
        ((text, rows, at, *last),) = found
        return Digests(text or "[]", rows, at, tuple(last) if rows == size else None)

    async def fetch(self, query: str, parameters: Sequence[Any], *, takes_turn: bool = False) -> Rows:
        """The rows of a statement `with_position`, maybe with expressions of the configuration."""
        asking = partial(self._rows_of, query=query, parameters=parameters)
        return await self.pool.read(self._doing, asking, takes_turn=takes_turn)

    async def _confirmed(self, query: str, parameters: Sequence[Any]) -> Read:
        """The rows of a statement; confirming. Without an index of ids it reads the whole table, so it takes a turn."""
        hidden_by = frozenset[Hiding]()

        async def read(connection: Connection) -> Rows:
            nonlocal hidden_by
            # The pool commits, or rolls back after an exception. Not in a pipeline, as `on_own_path` is: PostgreSQL 10
            # was seen not to end the idle transaction then.
            await connection.execute(_BEGIN_CONFIRMING)
            await connection.execute(OWN_PATH)
            found = await rows_of(connection, query, parameters)
            await connection.execute(PINNED_PATH)
            hidden_by = frozenset(await hiding(connection))
            return found

        rows = await self.pool.read(self._doing, read, takes_turn=True)
        return self._read_of(rows)._replace(hidden_by=hidden_by)

    def _read_of(self, fetched: Rows) -> Read:
        """The rows of a statement."""
        width, split, rows = self.mapping.width, len(self.mapping.key_columns), list[Row]()
        first_extra = split + 10
        for columns in fetched:
            in_scope, id_, url, status, job, created, event_date, source, deleted, account = columns[split:first_extra]
            key, extra, digest = columns[:split], columns[first_extra:width], columns[width]
            texts = id_, url, status, job, created, event_date, source
            rows.append(Row(key, in_scope == 1, *texts, deleted == 1, extra, digest, account=account))
        is_cut = bool(fetched) and (fetched[-1][-1] or 0) >= LARGEST
        return Read(rows, int(fetched[0][width + 1]) if fetched else 0, is_cut=is_cut)


class UnreadableRows:
    """Examines a watch's rows that cannot be read alone, and remembers them.

    Attributes:
        met: their keys, each with the places of the pieces that cannot be read.
    """

    def __init__(self, reader: Reader) -> None:
        self.met: dict[Key, frozenset[str]] = {}
        self._reader, self._mapping = reader, reader.mapping

    async def examine(self, key: Key, error: RowError) -> tuple[list[Row], int]:
        """What can be read of a row whose reading failed, if there is one, and the database's clock.

        Raises:
            SourceError: not this row is wrong, but the configuration.
        """
        if isinstance(error.__cause__, CharacterNotInRepertoire) and not self._mapping.knows_its_encoding:
            # With an encoding in database.dsn every row can be read.
            raise error.followed_by(f"It is so of the row {'/'.join(key)}.") from error.__cause__
        there = await convertible(self._reader.pool, [key], self._mapping.key_types)
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

    async def keys_where(self, condition: Composable, places: Collection[str], values: Sequence[Key]) -> list[Key]:
        """The keys of the rows for which a condition on some places holds, as far as these can be read."""
        if not values:
            return []
        without = [key for key, failing in self.met.items() if not failing.isdisjoint(places)]
        parameters = _columns_of(values)
        if without:
            # Only CASE orders the evaluation.
            condition = composed("CASE WHEN {} THEN false ELSE {} END", self._mapping.key_is_given, condition)
            parameters = [*_columns_of(without), *parameters]
        found = await self._reader.fetch(self._mapping.keys_where(condition), parameters)
        return list(map(self._mapping.key, found))

    async def _piece(self, key: Key, piece: Composable) -> Rows:
        """A piece of a row; empty without such a row."""
        query = composed("{} WHERE {} LIMIT 1", self._mapping.select(piece), self._mapping.key_is_given)
        return await self._reader.fetch(self._mapping.positioned(query, 1), _columns_of([key]))

    async def _insist_on_readable(self, row: Row, error: RowError) -> None:
        """Find a row that can be read at either end of the table; raise if there is none."""
        reading = self._mapping.by_key
        for query in (self._mapping.by_keys.first.keys, self._mapping.last_keys):
            for key in map(self._mapping.key, await self._reader.fetch(query, [_AT_EACH_END])):
                asking = self._reader.fetch(reading, [None, *_columns_of([key])])
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
        unreadable=reason("unreadable", message=row_error_text(error)),
        id_unreadable=not failing.isdisjoint(_IDS) and not (read.get(APPLICATION_ID) or "").strip(BLANKS),
    )


def _stopped(why: str, row: Row, error: RowError) -> SourceError:
    return error.followed_by(f"{why} Of the row {'/'.join(row.key)}: {row.unreadable}.")


async def convertible(pool: Pool, keys: Sequence[Key], types: Sequence[Composable]) -> list[Key]:
    """The keys that these types, one for each part, can hold; any other is in no row.

    A related table may keep a number as text.
    """
    query, found = composed("SELECT {}", [composed("%s::{}", type_) for type_ in types]), list[Key]()
    for key in keys:
        try:
            await pool.fetch("asking whether a key can exist", query, key)
            found.append(key)
        except RowError as error:
            # A type that is gone says nothing of a key.
            if isinstance(error.__cause__, psycopg.ProgrammingError):
                raise
    return found


async def prepared(pool: Pool, watch: Watch) -> Statements:
    """See `Statements.prepare`."""
    return await pool.ask(f"preparing to read {watch.table}", partial(Statements.prepare, watch=watch))


def _columns_of(keys: Sequence[Key]) -> list[list[str]]:
    """Keys as parameters, a list for each part."""
    return [list(parts) for parts in zip(*keys, strict=True)]


def _whole(parts: Sequence[Read]) -> Read:
    """Parts as one answer."""
    return Read(
        [row for part in parts for row in part.rows],
        max((part.at for part in parts), default=0),
        hidden_by=frozenset[Hiding]().union(*(part.hidden_by for part in parts)),
    )
