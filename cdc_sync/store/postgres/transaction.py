"""A transaction of the store in PostgreSQL: statements by name, their rows as arrays."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection

from cdc_sync.store.driver import Row
from cdc_sync.store.statements import statements

Connection = AsyncConnection[tuple[Any, ...]]

_AT_ONCE = 5_000
"""Rows in one statement, at most: both sides hold them in memory."""

_LEAVE_DUE = {"enqueue", "revive", "hasten", "unclaim"}
"""Statements after which entries may be due."""


class PostgresTransaction:
    """See `Transaction`; what is open on `connection` belongs to it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.left_due = 0
        """How many entries it may leave due that nobody has claimed."""

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """See `Transaction`."""
        found = await (await self._execute(name, parameters)).fetchall()
        if name == "due" and len(found) < parameters["limit"]:
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
            arrays = {
                column: [text(value) if kind == "text" and value else value for value in values]
                for (column, kind), values in zip(statement.columns, columns, strict=True)
            }
            await self._connection.execute(statement.text.encode(), arrays)

    async def _execute(self, name: str, parameters: dict[str, Any]) -> psycopg.AsyncCursor[tuple[Any, ...]]:
        bound: dict[str, Any] = {}
        for key, value in parameters.items():
            match value:
                case str():
                    bound[key] = text(value)
                case [(str(), str(), *_), *_]:
                    bound[f"{key}_first"], bound[f"{key}_second"] = (
                        [pair[place] for pair in value] for place in (0, 1)
                    )
                case [str(), *_]:
                    bound[key] = list(map(text, value))
                case _:
                    bound[key] = value
        return await self._connection.execute(_STATEMENTS[name].text.encode(), bound)


_STATEMENTS = statements("postgres")


def text(value: str) -> str:
    """A text as PostgreSQL can hold it: without U+0000, which a reply's body can have."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
