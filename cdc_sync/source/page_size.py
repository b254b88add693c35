"""Pages bounded in bytes: what one row brings is bounded by its mapping, and a page is of thousands of rows.

The server ends a page with the row that makes it too large, whatever the rows before it were like. What it reads beyond
that is in vain; so each page is asked for as many rows as fit, by the size of those that were read last. Pages of
ordinary rows end by their number, and cost no further statement.
"""

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from cdc_sync.core.rows import Key

_LARGEST = 4_000_000
"""Bytes of a page, about, as the server has it. Until it is recorded it takes some ten times as much of memory."""

_AT_FIRST = 200
"""Rows to have in memory at once where the server does not bound them, until it is known how large they are."""

_BOUNDED = """
SELECT {columns}, so_far
  FROM (SELECT sized.*, pg_catalog.sum(size) OVER (ROWS UNBOUNDED PRECEDING) AS so_far
          FROM (SELECT page.*, pg_catalog.pg_column_size(page.*) AS size
                  FROM ({query} OFFSET 0) AS page ({columns}) OFFSET 0) AS sized) AS summed
 WHERE so_far - size < {largest}
"""


def bounded(query: sql.Composable, width: int) -> sql.Composed:
    """A query of so many columns, ended by the row that makes its answer too large; see `PageSize.taken`.

    Without an order of their own, rows come through a window as they come to it.
    """
    columns = sql.SQL(", ").join(sql.Identifier(f"c{number}") for number in range(width))
    return sql.SQL(_BOUNDED).format(columns=columns, query=query, largest=sql.Literal(_LARGEST))


class PageSize:
    """How many rows of a table fit into a page, as far as is known."""

    def __init__(self) -> None:
        self._fit: int | None = None

    def of(self, wanted: int) -> int:
        """How many rows to ask for by a `bounded` query, where so many are wanted at most."""
        return wanted if self._fit is None else min(wanted, self._fit)

    def unbounded(self, wanted: int) -> int:
        """The same, where no query bounds them."""
        return min(wanted, self._fit or _AT_FIRST)

    def cut(self, keys: list[Key]) -> tuple[list[Key], list[Key]]:
        """So many keys as fit, and the others."""
        size = self.of(len(keys))
        return keys[:size], keys[size:]

    def taken(self, fetched: Sequence[Sequence[Any]], width: int) -> bool:
        """Learn from what a `bounded` query of so many columns gave; tells whether its rows are too large together."""
        if not fetched:
            return False
        size = int(max(row[width] for row in fetched))
        self.learn(len(fetched), size)
        return size >= _LARGEST

    def learn(self, rows: int, size: int) -> None:
        """So many rows had so many bytes. One more fits, so that a page of such rows is ended by its size."""
        self._fit = _LARGEST * rows // max(size, 1) + 1
