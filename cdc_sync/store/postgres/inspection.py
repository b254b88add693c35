"""The store as `cdc-sync check` finds it: looked at and left as it is, beside daemons that may be working on it."""

from collections.abc import Iterable
from typing import Any

import psycopg

from cdc_sync.config.dsn import shown
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, Tell, check_clock, clock_skew
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store.driver import about
from cdc_sync.store.errors import failed, usable
from cdc_sync.store.postgres.driver import PostgresTransaction
from cdc_sync.store.postgres.schema import Connection, check_server, connected, translate, version_of
from cdc_sync.store.postgres.scripts import TABLES, exposed, owners, unreadable
from cdc_sync.store.statements import migrations
from cdc_sync.wall_clock import wall_clock


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
        said = translate(dsn, error) if isinstance(error, psycopg.Error) else error
        is_refused = isinstance(error, psycopg.errors.InsufficientPrivilege)
        tell(failed("refused" if is_refused else "unreachable", said=said))
    return None


async def _check_content(connection: Connection, dsn: str, tell: Tell, tables: Iterable[QualifiedName]) -> str | None:
    transaction, newest = PostgresTransaction(connection), len(migrations("postgres"))
    store, version = f"the store in {shown(dsn)}", await version_of(connection)
    facts = {"store": store, "version": version, "newest": newest}

    async def ask(query: str) -> list[tuple[Any, ...]]:
        return await (await connection.execute(query.encode())).fetchall()

    if version > newest:
        tell(failed("newer", **facts))
        return None
    if version < newest and not (await transaction.rows("may_create"))[0][0]:
        tell(failed("not-set-up", **facts))
        return None
    if version == 0:
        tell(Finding("store", "ok", f"{store} does not exist yet: the daemon makes it at its first start"))
        return None
    if refused := [name for (name,) in await transaction.rows("refused", tables=list(TABLES))]:
        tell(failed("tables-refused", tables=", ".join(refused), store=store))
        return None
    daemons = await transaction.rows("living")
    by = ", ".join(f"process {process} on {host}" for host, process in daemons) or "nobody: no daemon runs"
    if version < newest and daemons:
        tell(failed("older-daemon", by=by, **facts))
        return None
    undumped = await ask(unreadable(owners(tables)))
    if others := await ask(exposed()):
        tell(failed("rights-of-others", store=store, said=_listed(others)))
    elif undumped:
        tell(failed("not-dumped", store=store, said=_listed(undumped)))
    else:
        tell(usable(store, version, newest))
    tell(Finding("store-lock", "ok", f"the store is worked on by {by}"))
    before = wall_clock()
    ((theirs, *_),) = await transaction.rows("clock")
    found = clock_skew(theirs, before, wall_clock())
    tell(check_clock("store-clock", "the clock of the store's server", found))
    return await about(transaction, "database")


def _listed(found: list[tuple[Any, ...]]) -> str:
    return "; ".join(f"{name}: {what}" for _, name, what in found)
