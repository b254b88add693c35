"""Rows of a watch for whose changes its triggers do not fire, installed as they are.

Reading a table reads the tables that inherit from it too, but its row triggers are its own: only to partitions does
PostgreSQL copy them. And for what logical replication brings, only triggers that are enabled ALWAYS fire.
"""

from cdc_sync.config import Watch
from cdc_sync.source.connection import Connection, asking

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

_SUBSCRIBED = """
WITH RECURSIVE tree (name, relation) AS (
    SELECT own.name, pg_catalog.to_regclass(own.name)::oid FROM unnest(%(own)s::text[]) AS own (name)
    UNION
    SELECT tree.name, i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.relation
)
SELECT DISTINCT tree.name FROM tree JOIN pg_catalog.pg_subscription_rel s ON s.srrelid = tree.relation ORDER BY 1
"""


async def blind_spots(connection: Connection, watch: Watch) -> list[str]:
    """What is wrong with each of them, in words, with the remedy.

    Raises:
        SourceError: the catalog cannot be read.
    """
    own = [watch.table, *(related.table for related in watch.related)]
    parameters = {"table": str(watch.table), "own": list(map(str, own))}
    async with asking(f"looking for what the triggers of {watch.table} do not see"):
        heirs = await (await connection.execute(_HEIRS, parameters)).fetchall()
        subscribed = await (await connection.execute(_SUBSCRIBED, parameters)).fetchall()
    found = [
        f"{heir} inherits from {watch.table}, whose triggers do not fire for it; list it under related, as "
        f"{{table: {heir}, key: [{', '.join(watch.key)}]}}"
        for (heir,) in heirs
    ]
    if not watch.capture.replicated:
        found += [
            f"{table} is fed by logical replication, for which ordinary triggers do not fire; set capture.replicated: "
            f"true"
            for (table,) in subscribed
        ]
    return found
