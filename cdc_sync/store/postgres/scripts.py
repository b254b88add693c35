"""The DBA's scripts for the store; the daemon runs them itself where it may."""

import re
from collections.abc import Iterable
from textwrap import indent

from psycopg import sql

from cdc_sync import own_path
from cdc_sync.core.identifiers import QualifiedName, requoted
from cdc_sync.store.statements import MIGRATIONS, SCHEMA, schema, text

TABLES = tuple(re.findall(r"CREATE TABLE IF NOT EXISTS cdc_sync\.(\w+)", schema("postgres")))
"""All tables of the store."""


def install(tables: Iterable[QualifiedName] = ()) -> str:
    """Create the store's tables, or migrate them.

    The owners of `tables`, those watched in the store's database, may read the whole store, for `pg_dump`.
    """
    tables = list(tables)
    watched = sql.SQL(", ").join([*map(own_path.oid_of, tables)] or [sql.SQL("NULL").format()]).as_string()
    script = text("postgres/install.sql").format(
        begin=own_path.begin(tables),
        tables=", ".join(TABLES),
        gives_by_default=own_path.gives_by_default("current_user"),
        known=", ".join(map(str, (0, *MIGRATIONS, SCHEMA))),
        newest=SCHEMA,
        from_0_1=_inside(text("postgres/from_0_1.sql")),
        from_0_2=_inside(text("postgres/from_0_2.sql")),
        schema=_inside(schema("postgres")),
        watched=watched,
    )
    return requoted(script, [watched])


def _inside(statements: str) -> str:
    """Statements in a block of the script."""
    return indent(statements.rstrip(), " " * 8)


def grants(role: str) -> str:
    """The least privileges of the role of the daemon and its commands."""
    return _filled("grants", role)


def revokes(role: str) -> str:
    """Revoke all that `grants` gives."""
    return _filled("revokes", role)


def uninstall() -> str:
    """Remove the store's tables, and the schema if it is empty then."""
    return _filled("uninstall")


def _filled(name: str, role: str = "") -> str:
    literal, tables = sql.Literal(role), [sql.Identifier("cdc_sync", table) for table in TABLES]
    script = sql.SQL(requoted(text(f"postgres/{name}.sql"), [literal.as_string()]))
    facts = {"tables": sql.SQL(",\n    ").join(tables), "begin": sql.SQL(own_path.begin())}
    return script.format(name=literal, role=sql.Identifier(role), **facts).as_string()
