"""What the server and the table are: version, identity, column types."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import psycopg
from psycopg import sql

from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import SourceError, translate
from cdc_sync.source.replica_guard import IDENTITY

_SERVER = sql.SQL("""
SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), {identity},
       current_setting('max_prepared_transactions')::int, current_setting('synchronous_standby_names')::text
""").format(identity=sql.SQL(IDENTITY))

_TABLE = """
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, greatest(c.reltuples, 0)::bigint
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = pg_catalog.to_regclass(%s)
"""

# A domain is followed down to its base type: arrays of domains exist since PostgreSQL 11 only.
_COLUMNS = """
WITH RECURSIVE base (attname, type, typmod, depth) AS (
    SELECT a.attname, a.atttypid, a.atttypmod, 0
      FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attname, t.typbasetype, t.typtypmod, b.depth + 1
      FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type
     WHERE t.typtype = 'd'
)
SELECT DISTINCT ON (attname) attname::text, pg_catalog.format_type(type, typmod)
  FROM base
 ORDER BY attname, depth DESC
"""

_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'cdc_sync')
 LIMIT 5000
"""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server behind a connection.

    Attributes:
        version: as `server_version_num`: 150004 for 15.4.
        in_recovery: whether it is a standby.
        identity: names the database so that a copy elsewhere has another one.
        prepares_transactions: whether transactions may be committed in two phases.
        waits_for_standbys: whether commits may wait for a synchronous standby.
    """

    version: int
    in_recovery: bool
    identity: str
    prepares_transactions: bool
    waits_for_standbys: bool


@dataclass(frozen=True, slots=True)
class TableFacts:
    """The watch's table. `columns` maps names to types as SQL writes them; `estimate` is the planner's row count."""

    schema: str
    name: str
    kind: str
    estimate: int
    columns: Mapping[str, str]


async def server_facts(connection: Connection) -> ServerFacts:
    """Ask the server who it is."""
    try:
        row = await (await connection.execute(_SERVER)).fetchone()
    except psycopg.Error as error:
        raise translate(error, "asking the server for its version and identity") from error
    if row is None:
        raise AssertionError("a SELECT without FROM gives one row")
    version, in_recovery, identity, prepared, standbys = row
    return ServerFacts(
        version,
        in_recovery,
        identity=identity,
        prepares_transactions=prepared > 0,
        waits_for_standbys=standbys.strip() != "",
    )


async def table_facts(connection: Connection, table: QualifiedName) -> TableFacts:
    """Look the table up.

    Raises:
        SourceError: it does not exist, or is not visible; similar names are suggested.
    """
    try:
        row = await (await connection.execute(_TABLE, (str(table),))).fetchone()
        if row is None:
            names = [name for (name,) in await (await connection.execute(_TABLES)).fetchall()]
            raise SourceError("table-missing", _missing(table, names))
        oid, schema, name, kind, estimate = row
        columns: dict[str, str] = dict(await (await connection.execute(_COLUMNS, (oid,))).fetchall())
    except psycopg.Error as error:
        raise translate(error, f"looking up the table {table}") from error
    return TableFacts(schema, name, kind, estimate, columns)


def _missing(table: QualifiedName, names: list[str]) -> str:
    close = get_close_matches(str(table), names, n=3) or [
        name for name in names if name.rpartition(".")[2] == str(table).rpartition(".")[2]
    ]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return (
        f"The table {table} does not exist in this database, or its schema is not visible to this role.{hint} "
        f"Correct the watch's table, or let the DBA run what `cdc-sync sql grants` prints."
    )
