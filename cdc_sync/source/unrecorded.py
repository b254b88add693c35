"""Changes that triggers do not record, or may not have recorded, and what tells of them.

- Only tables have row triggers; `untriggered` says of the other relations why not. Poll and sweep read every kind. The
  facts are those of PostgreSQL's documentation, "CREATE TRIGGER".
- Reading a table reads the tables that inherit from it too, but its row triggers are its own: only to partitions does
  PostgreSQL copy them. And for what logical replication brings, only triggers that are enabled ALWAYS fire
  (`blind_spots`).
- TRUNCATE of one partition fires no trigger of the partitioned table, and ATTACH, DETACH and DROP of a partition (or
  INHERIT and its like) fire none at all, though each lets rows appear or disappear. They all change the set of the
  tables that are read with a watch's table or one of its related ones, or the file that holds one of them
  (`stored_in`).
- The log was full, or writing to it failed: the triggers count that in a sequence (`missed_changes`), since it is
  counted up in the ATS's own transaction and not rolled back with it. So it may count what was never committed, which
  costs one sweep in vain, and it counts before the commit, so whoever sweeps must first wait until the transactions
  have ended that were writing when it was read (`transactions.all_ended`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.config import Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.source.columns_of import compared
from cdc_sync.source.connection import Connection, asking
from cdc_sync.source.reading import fetch
from cdc_sync.source.recorders import missed_of, render, template

PARTITIONED_TRIGGERS_SINCE = 110000
"""The first version (`server_version_num`) with row triggers on a partitioned table."""

PARTITIONED_INDEXES_SINCE = 110000
"""The first version with an index, hence a unique key, of a partitioned table as a whole."""

_ANY_VERSION = 10**6

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

_COUNT = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {}"

_IS_FULL = "SELECT coalesce(pg_relation_size(to_regclass('cdc_sync.changes')), 0) >= %s"
_BY_WATCH = "SELECT watch, count(*) FROM cdc_sync.changes GROUP BY watch ORDER BY count(*) DESC, watch"


@dataclass(frozen=True, slots=True)
class Untriggered:
    """Why a relation's changes set off no trigger, as the rest of a sentence about it, and what to do instead."""

    reason: str
    remedy: str


_BENEATH = (
    "Name the tables beneath it instead: as the watch's table the one that has the key, the others under related; an "
    "expression of columns may still read the view. Or use capture.mode poll."
)
_BY_KIND = {
    "v": Untriggered("is a view, and a view has no row triggers", _BENEATH),
    "m": Untriggered("is a materialized view, which changes only when it is refreshed and has no triggers", _BENEATH),
    "f": Untriggered(
        "is a foreign table, whose rows change on another server, where no trigger of this one fires",
        "Point database.dsn at the server that has the table. Or use capture.mode poll.",
    ),
}
_PARTITIONED = Untriggered(
    "is a partitioned table, and before PostgreSQL 11 it has no row triggers",
    "Use capture.mode poll; under related, list its partitions instead.",
)


def untriggered(kind: str, version: int) -> Untriggered | None:
    """Say why a relation of this kind (`pg_class.relkind`) sets off no trigger; None if it does.

    Args:
        kind: the relation's kind.
        version: the server's `server_version_num`.
    """
    if kind == "p" and version < PARTITIONED_TRIGGERS_SINCE:
        return _PARTITIONED
    return _BY_KIND.get(kind)


def tables_of(watch: Watch) -> list[QualifiedName]:
    """The tables that a watch has triggers on."""
    return [watch.table, *(related.table for related in watch.related)]


def only_tables(watch: Watch) -> str:
    """The part of the installation script that says so of a watch's tables before PostgreSQL does, with the remedy."""
    depends = compared(watch)
    tables = tables_of(watch)
    kinds = [(kind, _ANY_VERSION, why) for kind, why in _BY_KIND.items()]
    kinds.append(("p", PARTITIONED_TRIGGERS_SINCE, _PARTITIONED))
    lines = [
        sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, (kind, before, why.reason, why.remedy))))
        for kind, before, why in kinds
    ]
    return render(
        template("only_tables.sql"),
        watched=sql.Literal(str(watch.table)),
        # Of a whole row, the columns that others are generated from are compared too.
        compared=sql.SQL(", ").join(map(sql.Literal, depends.columns if depends.complete else ())),
        tables=sql.SQL(", ").join(sql.Literal(str(table)) for table in tables),
        untriggered=sql.SQL(",\n            ").join(lines),
    )


async def blind_spots(connection: Connection, watch: Watch) -> list[str]:
    """Rows of a watch for whose changes its triggers do not fire, installed as they are: in words, with the remedy.

    Raises:
        SourceError: the catalog cannot be read.
    """
    parameters = {"table": str(watch.table), "own": list(map(str, tables_of(watch)))}
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


async def stored_in(pool: AsyncConnectionPool[Connection], tables: Sequence[QualifiedName]) -> Storage:
    """Where the rows of tables are now; costs a look at the catalog.

    Raises:
        SourceError: the catalog cannot be read.
    """
    names = list(map(str, tables))
    found = await fetch(pool, sql.SQL(_FILES), (names,), f"looking up the partitions of {', '.join(names)}")
    return frozenset((int(oid), int(file)) for oid, file in found)


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
