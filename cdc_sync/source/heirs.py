"""Tables that inherit from a watched one, and have no triggers of the watch.

Reading a table reads its heirs too, but its row triggers are its own: only to partitions does PostgreSQL copy them.
"""

import psycopg

from cdc_sync.config import Watch
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import translate

_HEIRS = """
WITH RECURSIVE heirs (relation) AS (
    SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(%(table)s) AND c.relkind = 'r'
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN heirs ON i.inhparent = heirs.relation
)
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname)
  FROM heirs
  JOIN pg_catalog.pg_class c ON c.oid = heirs.relation
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT EXISTS (SELECT FROM unnest(%(own)s::text[]) AS own (name) WHERE pg_catalog.to_regclass(own.name) = c.oid)
 ORDER BY 1
"""


async def heirs_without_triggers(connection: Connection, watch: Watch) -> list[str]:
    """What is wrong with each heir that the watch does not list, in words, with the remedy.

    Raises:
        SourceError: the catalog cannot be read.
    """
    own = [str(watch.table), *(str(related.table) for related in watch.related)]
    try:
        rows = await (await connection.execute(_HEIRS, {"table": own[0], "own": own})).fetchall()
    except psycopg.Error as error:
        raise translate(error, f"looking for the heirs of {watch.table}") from error
    return [
        f"{heir} inherits from {watch.table}, whose triggers do not fire for it; list it under related, as "
        f"{{table: {heir}, key: [{', '.join(watch.key)}]}}"
        for (heir,) in rows
    ]
