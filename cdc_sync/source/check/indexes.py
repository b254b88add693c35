"""What the planner says to the daemon's own statements: whether an index serves them.

Nothing is executed: EXPLAIN alone plans. Sequential scans and sorts are forbidden while it does, so that the answer is
about the indexes that there are, and not about the size that the table has today.
"""

import json
from collections.abc import Sequence
from typing import Any

from psycopg import sql

from cdc_sync.config import PlainColumn
from cdc_sync.core import query_plan
from cdc_sync.core.findings import Finding, State, Tell
from cdc_sync.core.identifiers import written
from cdc_sync.core.query_plan import Plan
from cdc_sync.source import expressions
from cdc_sync.source.check.shortly import asking_shortly
from cdc_sync.source.connection import Connection
from cdc_sync.source.mapping import Mapping
from cdc_sync.source.polling import watermark_type
from cdc_sync.source.statements import Statements, id_in_url
from cdc_sync.source.unrecorded import PARTITIONED_INDEXES_SINCE

_ONLY_BY_INDEX = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off
"""

# The bare condition: an order that is asked for as well could be had by another index, at the cost of reading it all.
_WHERE = sql.SQL("SELECT FROM {} WHERE {}")

_LEADING = """
SELECT c.relname::text, CASE WHEN i.indkey[0] > 0 THEN pg_catalog.pg_get_indexdef(c.oid, 1, false) END
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
 WHERE c.relname::text = ANY (%s)
"""

_PARTITIONED, _TABLES = "p", "rp"

# Partitions of partitions, which have none of their own either, are looked through.
_ON_EACH_PARTITION = sql.SQL("""DO $cdc_sync$
DECLARE
    part regclass;
BEGIN
    FOR part IN
        WITH RECURSIVE parts (part) AS (
            SELECT {table}::regclass::oid
            UNION ALL
            SELECT i.inhrelid FROM pg_inherits i JOIN parts p ON i.inhparent = p.part
        )
        SELECT c.oid FROM parts p JOIN pg_class c ON c.oid = p.part WHERE c.relkind = 'r'
    LOOP
        EXECUTE 'CREATE INDEX ON ' || part || {columns};
    END LOOP;
END
$cdc_sync$;""")

BIG = 10_000
"""Rows, by the planner's estimate, from which on reading all of them every few seconds is a burden."""


async def check_indexes(connection: Connection, name: str, mapping: Mapping, tell: Tell) -> None:
    """Tell of each way in which the daemon looks for rows whether an index serves it.

    Raises:
        SourceError: the planner cannot be asked.
    """
    statements, watch = Statements(mapping), mapping.watch

    def judge(
        check: str, what: str, without: str, on: sql.Composable | None, *, served: bool, often: bool = False
    ) -> None:
        if served:
            tell(Finding(check, "ok", f"{what}, and an index serves that", watch=name))
            return
        rows = mapping.facts.estimate
        state: State = "failed" if often and rows >= BIG else "warning"
        message = f"{what}, and no index serves that: {without} (of about {rows} rows now)"
        tell(Finding(check, state, message, _remedy(mapping, on, connection.info.server_version), name))

    plan = await _plan(connection, statements.first_page, [1000])
    judge(
        "key-index",
        "a sweep reads the table in pages, in the key's order",
        "each page sorts the whole table",
        sql.SQL(", ").join(map(sql.Identifier, watch.key)),
        served=query_plan.is_in_order(plan),
    )
    on: sql.Composable | None
    given: sql.Composable | None
    if statements.id_is_given is not None:
        by, column, given = "its id", watch.columns.application_id, statements.id_is_given
        on = sql.Identifier(column.name) if isinstance(column, PlainColumn) else None
    else:
        by, column, given = "the id in its status URL", watch.columns.status_url, statements.url_is_given
        on = id_in_url(sql.Identifier(column.name)) if isinstance(column, PlainColumn) else None
    if given is None:
        raise AssertionError("the configuration requires application_id or status_url")
    judge(
        "application-id-index",
        f"an application's rows are looked for by {by}",
        "each such look reads the whole table, and a change may take one",
        on,
        # A list of NULL is one of every type, and unlike an empty one leaves the planner something to look for.
        served=await _seeks(connection, mapping, given, [None]),
    )
    if watch.capture.mode == "poll" and watch.capture.watermark is not None:
        watermark = watch.capture.watermark
        since = sql.SQL("{} >= %s::{}").format(
            expressions.column(watermark), sql.SQL(watermark_type(mapping, watermark))
        )
        judge(
            "watermark-index",
            f"changed rows are looked for by {written(watermark)}",
            f"the whole table is read every {watch.capture.poll_interval.total_seconds():g} s",
            sql.Identifier(watermark),
            served=await _seeks(connection, mapping, since, "infinity"),
            often=True,
        )


def _remedy(mapping: Mapping, on: sql.Composable | None, version: int) -> str:
    facts = mapping.facts
    table = sql.Identifier(facts.schema, facts.name)
    if facts.kind not in _TABLES:
        return f"{table.as_string()} is no table: let its owner create the index on the table beneath it."
    if on is None:
        return (
            "Create an index on the expression, cast to text and without `t.`, if all its functions are IMMUTABLE; or "
            "keep the value in a column of its own, with an index."
        )
    if facts.kind == _PARTITIONED and version < PARTITIONED_INDEXES_SINCE:
        columns = sql.SQL(" ({})").format(on).as_string()
        return _ON_EACH_PARTITION.format(table=sql.Literal(table.as_string()), columns=sql.Literal(columns)).as_string()
    # On a partitioned table as a whole PostgreSQL builds no index concurrently.
    how = sql.SQL("" if facts.kind == _PARTITIONED else " CONCURRENTLY")
    return sql.SQL("CREATE INDEX{} ON {} ({});").format(how, table, on).as_string()


async def _seeks(connection: Connection, mapping: Mapping, condition: sql.Composable, value: Any) -> bool:
    plan = await _plan(connection, _WHERE.format(mapping.table, condition), [value])
    async with asking_shortly(connection, "looking up indexes"):
        found = await connection.execute(_LEADING, (list(query_plan.indexes(plan)),))
        leading: dict[str, str | None] = dict(await found.fetchall())
    return query_plan.seeks(plan, leading)


async def _plan(connection: Connection, query: sql.Composed, parameters: Sequence[Any]) -> Plan:
    async with asking_shortly(connection, "asking how rows would be found"):
        await connection.execute(_ONLY_BY_INDEX)
        explained = await connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(query), parameters)
        ((answer,),) = await explained.fetchall()
    plans = json.loads(answer) if isinstance(answer, str) else answer
    plan: Plan = plans[0]["Plan"]
    return plan
