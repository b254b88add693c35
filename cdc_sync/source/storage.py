"""Where a table's rows are stored: what changes there, no row trigger tells of.

TRUNCATE of one partition fires no trigger of the partitioned table, and ATTACH, DETACH and DROP of a partition (or
INHERIT and its like) fire none at all, though each lets rows appear or disappear. They all change the set of the tables
that are read with the watch's table, or the file that holds one of them.
"""

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.source.connection import Connection
from cdc_sync.source.reading import fetch

_FILES = """
WITH RECURSIVE tree (relation) AS (
    SELECT pg_catalog.to_regclass(%s)::oid
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.relation
)
SELECT c.oid, c.relfilenode FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.relation
"""

Storage = frozenset[tuple[int, int]]
"""The tables that are read with one, itself included, and the file of each; VACUUM FULL changes it too, for once."""


async def stored_in(pool: AsyncConnectionPool[Connection], table: QualifiedName) -> Storage:
    """Where the rows of a table are now; costs a look at the catalog.

    Raises:
        SourceError: the catalog cannot be read.
    """
    found = await fetch(pool, sql.SQL(_FILES), (str(table),), f"looking up the partitions of {table}")
    return frozenset((int(oid), int(file)) for oid, file in found)
