"""One statement that asks several tables for rows with given application ids."""

from collections.abc import Collection, Mapping
from typing import Any

from psycopg import sql

from cdc_sync.ats import expressions
from cdc_sync.ats.connection import Pool, with_position
from cdc_sync.ats.expressions import composed
from cdc_sync.ats.mapping import ACCOUNT, APPLICATION_ID, STATUS_URL
from cdc_sync.ats.mapping import Mapping as TableMapping
from cdc_sync.ats.reading import Read, confirmed
from cdc_sync.ats.statements import Statements
from cdc_sync.core.rows import Row

_WIDTH = 5


class Ids:
    """What asks one table: the rows by their ids, and by the ids in their status URLs."""

    def __init__(self, mapping: TableMapping) -> None:
        statements = Statements(mapping)
        of_a_row = (mapping.expressions[each] for each in (APPLICATION_ID, STATUS_URL, "columns.deleted", ACCOUNT))
        rows = statements.select(sql.SQL("%s::int"), *of_a_row)
        self.by_id = _where(rows, statements.id_is_given)
        self.by_url = _where(rows, statements.url_is_given)


def _where(rows: sql.Composable, condition: sql.Composable | None) -> sql.SQL | None:
    # As text, which takes less memory: a daemon may keep a thousand.
    return None if condition is None else sql.SQL(composed("{} WHERE {}", rows, condition).as_string())


async def carrying(pool: Pool, tables: Mapping[str, Ids], application_ids: Collection[str]) -> list[tuple[str, Read]]:
    """The rows of each table that carry one of these ids, or a similar one; of a row id, URL, deletion and account.

    Raises:
        SourceError: the statement fails, maybe on one row of one table, or on an id that a column cannot hold.
    """
    ids = list(application_ids)
    spellings = sorted({each for id_ in ids for each in expressions.spellings_in_url(id_)})
    names, parts, parameters = list(tables), list[sql.SQL](), list[Any]()
    for place, of in enumerate(tables.values()):
        for part, given in ((of.by_id, ids), (of.by_url, spellings)):
            if part is not None:
                parts.append(part)
                parameters += [place, given]
    query = with_position(sql.SQL(" UNION ALL ").join(parts), _WIDTH)
    rows, hidden_by = await confirmed(pool, "asking other watches' tables for ids", query, parameters)
    found: dict[str, list[Row]] = {name: [] for name in names}
    for place, id_, url, deleted, account in (row[:_WIDTH] for row in rows):
        row = Row((), True, id_, url, None, None, None, None, None, deleted == 1, (), account=account)  # noqa: FBT003
        found[names[place]].append(row)
    return [(name, Read(of_one, 0, hidden_by=hidden_by)) for name, of_one in found.items()]
