"""Which columns the configuration's expressions use: as `depends_on` says, and as PostgreSQL finds.

PostgreSQL notes which columns a view's rule uses. So each expression becomes a temporary view, in a transaction that is
rolled back.
"""

from collections.abc import Mapping
from typing import NamedTuple

import psycopg

from cdc_sync.ats import expressions
from cdc_sync.ats.connection import Connection, asking, on_own_path, rows_of
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.expressions import catalog, composed, undeclared
from cdc_sync.ats.facts import TableFacts, bounds
from cdc_sync.config import SqlColumn, Watch
from cdc_sync.config.problems import ConfigurationError, Problem
from cdc_sync.core.watch_names import SEPARATOR

# A comparison with NULL gives every expression a type that a view's column can have.
_VIEW = "CREATE TEMPORARY VIEW cdc_sync_expression AS SELECT {} IS NOT NULL AS is_there FROM {} AS t"

_REFUSED = "notify mode needs depends_on here, the columns that the triggers compare"
_REMEDY = "paste the list that `cdc-sync check` prints"


class Used(NamedTuple):
    """The watched table's columns that an expression uses, and the other tables that it reads."""

    columns: tuple[str, ...]
    tables: tuple[str, ...]


async def used(connection: Connection, table: TableFacts, expression: SqlColumn) -> Used:
    """Let PostgreSQL find the columns of an expression; a whole row has all of them.

    Raises:
        SourceError: the expression is wrong, the role may create no temporary view, or the server is a standby.
    """
    watched = expressions.name(table.schema, table.name)
    view = composed(_VIEW, expressions.expression(expression), watched)
    async with asking("finding the columns of an expression"), connection.transaction(force_rollback=True):
        await connection.execute(bounds("READ WRITE"))
        await on_own_path(connection, view, ())
        ((columns, tables),) = await rows_of(connection, catalog("used_by_view"), {"table": table.oid})
    return Used(tuple(columns), tuple(tables))


def why_not(error: SourceError) -> str:
    """Why `used` failed, in the server's own words: they quote the expression, and no row."""
    cause = error.__cause__
    own = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
    return own or error.message


def refuse_undeclared(watches: Mapping[str, Watch]) -> None:
    """Raise `ConfigurationError` with the compared expressions without `depends_on`, of watches in notify mode."""
    in_notify_mode = {name: watch for name, watch in watches.items() if watch.capture.needs.log}
    places = (f"{_section(name)}.{place}" for name, watch in in_notify_mode.items() for place in undeclared(watch))
    problems = [Problem(place, None, _REFUSED, _REMEDY) for place in dict.fromkeys(places)]
    if problems:
        raise ConfigurationError("the configuration", problems)


def _section(watch: str) -> str:
    """The section of a watch; a tenant's is the template's."""
    return f"watches.{watch.partition(SEPARATOR)[0]}"
