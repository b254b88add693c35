"""The store as `cdc-sync check` finds it: looked at and left as it is, beside daemons that may be working on it."""

from collections.abc import Iterable

import psycopg

from cdc_sync.config.dsn import shown
from cdc_sync.core import clock_skew
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, Tell
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store.postgres.connecting import check_server, connected, translate, version_of
from cdc_sync.store.postgres.scripts import TABLES, exposed, owners, unreadable
from cdc_sync.store.postgres.transaction import Connection, PostgresTransaction
from cdc_sync.store.statements import migrations
from cdc_sync.wall_clock import wall_clock

_REMEDY = (
    "cdc-sync sql install --store --apply --dsn OWNER   # or let the DBA run what they print without --apply\n"
    "cdc-sync sql grants --store --apply --dsn OWNER"
)

_MAY_CREATE = """
SELECT CASE WHEN to_regnamespace('cdc_sync') IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege('cdc_sync', 'CREATE') END
"""

# Tables that an older schema lacks are left to what is said of its version.
_REFUSED = """
SELECT t.name
  FROM unnest(%s::text[]) AS t (name)
 WHERE to_regclass('cdc_sync.' || t.name) IS NOT NULL
   AND NOT (has_table_privilege('cdc_sync.' || t.name, 'SELECT')
            AND has_table_privilege('cdc_sync.' || t.name, 'INSERT')
            AND has_table_privilege('cdc_sync.' || t.name, 'UPDATE')
            AND has_table_privilege('cdc_sync.' || t.name, 'DELETE'))
"""


async def check_store(dsn: str, tell: Tell, tables: Iterable[QualifiedName] = ()) -> str | None:
    """Tell of the database, the tables and the daemons.

    Args:
        dsn: where the store is.
        tell: takes each finding.
        tables: those that are watched in the store's database.

    Returns the identity of the database that the store belongs to; None if it belongs to none yet.
    """
    try:
        async with connected(dsn) as connection:
            check_server(connection, dsn)
            return await _check_content(connection, dsn, tell, tables)
    except (psycopg.Error, StoreError) as error:
        message = str(translate(dsn, error) if isinstance(error, psycopg.Error) else error)
        refused = isinstance(error, psycopg.errors.InsufficientPrivilege)
        remedy = _REMEDY if refused else "Correct state.dsn (database.dsn, if that is null)."
        tell(Finding("store", "failed", message, remedy))
    return None


async def _check_content(connection: Connection, dsn: str, tell: Tell, tables: Iterable[QualifiedName]) -> str | None:
    newest = len(migrations("postgres"))
    version = await version_of(connection)
    row = await (await connection.execute(_MAY_CREATE)).fetchone()
    may_create = row is not None and bool(row[0])
    where = f"the store in {shown(dsn)}"
    if version > newest:
        message = f"{where} was written by a newer cdc-sync (schema {version}; this one knows {newest})"
        tell(Finding("store", "failed", message, "Run that version, or restore the backup from before the upgrade."))
        return None
    if version < newest and not may_create:
        message = f"{where} is not set up for this version (schema {version} of {newest}), and this role may not do it"
        tell(Finding("store", "failed", message, _REMEDY))
        return None
    if version == 0:
        tell(Finding("store", "ok", f"{where} does not exist yet: the daemon makes it at its first start"))
        return None
    refused = [name for (name,) in await (await connection.execute(_REFUSED, (list(TABLES),))).fetchall()]
    if refused:
        message = f"this role may not read and write {', '.join(refused)} of {where}"
        tell(Finding("store", "failed", message, "cdc-sync sql grants --store --apply --dsn OWNER"))
        return None
    daemons = await PostgresTransaction(connection).rows("living")
    by = ", ".join(f"process {process} on {host}" for host, process in daemons) or "nobody: no daemon runs"
    if version < newest and daemons:
        message = f"{where} has schema {version} of {newest}, and an older cdc-sync works on it: {by}"
        tell(Finding("store", "failed", message, "Stop all daemons that share the store, then start this version."))
        return None
    undumped = await (await connection.execute(unreadable(owners(tables)).encode())).fetchall()
    others = await (await connection.execute(exposed().encode())).fetchall()
    if others:
        said = "; ".join(f"{name}: {what}" for _, name, what in others)
        message = f"of {where} another role has rights by which it could act as this one, or disturb ({said})"
        remedy = (
            "cdc-sync sql install --store --apply --dsn OWNER   # revokes them; drop triggers that are not cdc-sync's"
        )
        tell(Finding("store", "failed", message, remedy))
    elif undumped:
        said = "; ".join(f"{name}: {what}" for _, name, what in undumped)
        message = f"pg_dump by the owner of a watched table fails, who may not read {where} ({said})"
        tell(Finding("store", "failed", message, "cdc-sync sql install --store --apply --dsn OWNER   # grants it"))
    elif version < newest:
        tell(Finding("store", "ok", f"{where} has schema {version}; the daemon's next start brings it to {newest}"))
    else:
        tell(Finding("store", "ok", f"{where} can be written, and has this version's schema"))
    tell(Finding("store-lock", "ok", f"the store is worked on by {by}"))
    before = wall_clock()
    for row in await PostgresTransaction(connection).rows("clock"):
        found = clock_skew.skew(int(row[0]), before, wall_clock())
        tell(clock_skew.judged("store-clock", "the clock of the store's server", found))
    bound = await PostgresTransaction(connection).rows("about", name="database")
    return str(bound[0][0]) if bound else None
