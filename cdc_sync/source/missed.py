"""How many changes the triggers could not record: the log was full, or writing to it failed.

A sequence, since it is counted up in the ATS's own transaction and not rolled back with it. So it may count what was
never committed, which costs one sweep in vain, and it counts before the commit, so whoever sweeps must first wait until
the transactions have ended that were writing when it was read.
"""

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.source.connection import Connection
from cdc_sync.source.reading import fetch
from cdc_sync.source.recorders import missed_of

_COUNT = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {}"

_IS_FULL = "SELECT coalesce(pg_relation_size(to_regclass('cdc_sync.changes')), 0) >= %s"
_BY_WATCH = "SELECT watch, count(*) FROM cdc_sync.changes GROUP BY watch ORDER BY count(*) DESC, watch"


async def missed_changes(pool: AsyncConnectionPool[Connection], watch: str) -> int:
    """How many changes of a watch were not recorded since its triggers were installed first.

    Raises:
        SourceError: it cannot be read.
    """
    query = sql.SQL(_COUNT).format(sql.Identifier("cdc_sync", missed_of(watch)))
    ((count,),) = await fetch(pool, query, (), f"reading cdc_sync.{missed_of(watch)}")
    return int(count)


async def log_filled_by(pool: AsyncConnectionPool[Connection], limit: int) -> dict[str, int] | None:
    """Whose changes fill the log, by watch, the most first, if it has reached `limit` bytes; None if it has not.

    Costs a walk through a full log. What was taken since leaves an empty mapping until its space is
    given back.

    Raises:
        SourceError: it cannot be read.
    """
    ((is_full,),) = await fetch(pool, sql.SQL(_IS_FULL), (limit,), "asking for the size of cdc_sync.changes")
    return (
        dict(await fetch(pool, sql.SQL(_BY_WATCH), (), "reading the change log cdc_sync.changes")) if is_full else None
    )
