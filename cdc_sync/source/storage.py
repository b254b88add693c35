"""Where the rows of tables are stored: what changes there, no row trigger tells of.

TRUNCATE of one partition fires no trigger of the partitioned table, and ATTACH, DETACH and DROP of a partition (or
INHERIT and its like) fire none at all, though each lets rows appear or disappear. They all change the set of the tables
that are read with a watch's table or one of its related ones, or the file that holds one of them.
"""

from collections.abc import Sequence

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.source.connection import Connection
from cdc_sync.source.reading import fetch

_FILES = """
WITH RECURSIVE tree (relation) AS (
    SELECT pg_catalog.to_regclass(name)::oid FROM pg_catalog.unnest(%s::text[]) AS name
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.relation
)
SELECT c.oid, c.relfilenode FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.relation
"""

Storage = frozenset[tuple[int, int]]
"""The tables that are read with some, these included, and the file of each; VACUUM FULL changes it too, for once."""


async def stored_in(pool: AsyncConnectionPool[Connection], tables: Sequence[QualifiedName]) -> Storage:
    """Where the rows of tables are now; costs a look at the catalog.

    Raises:
        SourceError: the catalog cannot be read.
    """
    names = list(map(str, tables))
    found = await fetch(pool, sql.SQL(_FILES), (names,), f"looking up the partitions of {', '.join(names)}")
    return frozenset((int(oid), int(file)) for oid, file in found)
