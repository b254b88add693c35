"""Whether indexes serve the daemon's own statements, for `cdc-sync check`.

The planner answers: EXPLAIN without sequential scans and sorts, so that the table's size today does not matter.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from psycopg import sql

from cdc_sync.ats import expressions
from cdc_sync.ats.checked import PARTITIONED, TABLES, Checked, how
from cdc_sync.ats.connection import rows_of, rows_on_own_path
from cdc_sync.ats.expressions import catalog, composed
from cdc_sync.ats.facts import TableFacts, table_facts
from cdc_sync.ats.poll import watermark_type
from cdc_sync.ats.recorders import PARTITIONED_SINCE
from cdc_sync.ats.statements import id_in_url, in_side_table, is_given_url
from cdc_sync.config import Column, PlainColumn
from cdc_sync.core.findings import Finding, Plan, plan_indexes, plan_is_in_order, plan_schemas, plan_seeks
from cdc_sync.core.identifiers import written

_Of: TypeAlias = Callable[[sql.Composable], sql.Composable]

_BIG = 10_000
"""Estimated rows that are a burden to read every few seconds."""


async def key_index(one: Checked) -> Finding:
    """Whether an index gives the pages of a sweep in their order."""
    columns = composed("{}", map(sql.Identifier, one.watch.key))
    plan = await _plan(one, sql.SQL(one.statements.by_keys.first.rows), None, 1000)
    return _finding(one, "key-index", _making_index(one, columns, one.facts), served=plan_is_in_order(plan))


async def id_index(one: Checked) -> Finding | None:
    """Whether an index finds an application's rows by its id."""
    mapped, is_given = one.watch.columns.application_id, one.statements.is_given_id
    return None if mapped is None else await _id_index(one, "its id", mapped, is_given, lambda id_: id_)


async def url_index(one: Checked) -> Finding | None:
    """Whether an index finds an application's rows by its status URL."""
    mapped, by = one.watch.columns.status_url, "the id in its status URL"
    return None if mapped is None else await _id_index(one, by, mapped, is_given_url, id_in_url)


async def _id_index(one: Checked, by: str, mapped: Column, is_given: _Of, indexed: _Of) -> Finding:
    side = expressions.side_table(one.watch, mapped)
    table = one.facts if side is None else await table_facts(one.connection, side.table)
    column = side.column if side is not None else mapped.name if isinstance(mapped, PlainColumn) else None
    if side is None:
        query = _where(one, is_given(expressions.expression(mapped)))
    else:
        query = composed("SELECT {}", in_side_table(side, is_given))
    making = _making_index(one, None if column is None else indexed(sql.Identifier(column)), table)
    # NULL has every type; for an empty list the planner would look for nothing.
    return _finding(one, "application-id-index", making, served=await _seeks(one, query, None), by=by)


async def watermark_index(one: Checked) -> Finding | None:
    """Whether an index finds the rows behind the watermark."""
    if (watermark := one.watch.capture.needs.watermark) is None:
        return None
    mark, type_ = expressions.column(watermark), watermark_type(one.mapping, watermark)
    since = _where(one, composed("{} {} %s::{}", mark, expressions.operator(">="), sql.SQL(type_)))
    about = {"column": written(watermark), "pause": one.watch.capture.poll_interval.total_seconds()}
    making = _making_index(one, sql.Identifier(watermark), one.facts)
    missing = "burden" if one.facts.estimate >= _BIG else "missing"
    served = await _seeks(one, since, "infinity")
    return _finding(one, "watermark-index", making, served=served, missing=missing, **about)


def _where(one: Checked, condition: sql.Composable) -> sql.Composed:
    # No order, which another index could provide by reading the whole table.
    return composed("SELECT FROM {} WHERE {}", one.mapping.table, condition)


async def _plan(one: Checked, query: sql.Composable, *values: Any) -> Plan:
    await one.connection.execute(catalog("only_by_index"))
    explain = composed("EXPLAIN (VERBOSE, FORMAT JSON) {}", query)
    (((explained,),),) = await rows_on_own_path(one.connection, explain, values)
    plan: Plan = explained["Plan"]
    return plan


async def _seeks(one: Checked, query: sql.Composable, value: Any) -> bool:
    """Whether an index serves a query's condition."""
    plan = await _plan(one, query, value)
    met = {"indexes": list(plan_indexes(plan)), "schemas": list(plan_schemas(plan))}
    leading = await rows_of(one.connection, catalog("leading_columns"), met)
    return plan_seeks(plan, dict(leading))


def _finding(
    one: Checked, check: str, making: str | None, *, served: bool, missing: str = "missing", **about: Any
) -> Finding:
    if served:
        return one.found(f"{check}/there", **about)
    rows = one.facts.estimate
    size = f"about {rows} rows now" if rows else "an unknown number of rows"
    return one.found(f"{check}/{missing}", making, size=size, **about)


def _making_index(one: Checked, on: sql.Composable | None, facts: TableFacts) -> str | None:
    """What creates an index; None for an expression of the configuration."""
    table = sql.Identifier(facts.schema, facts.name)
    if facts.kind not in TABLES:
        return f"{table.as_string()} is no table: let its owner create the index on the table beneath it."
    if on is None:
        return None
    if facts.kind == PARTITIONED and one.version < PARTITIONED_SINCE:
        return composed("CREATE INDEX ON … ({});   -- of each partition of {}", on, table).as_string()
    return composed("CREATE INDEX{} ON {} ({});", sql.SQL(how(facts)), table, on).as_string()
