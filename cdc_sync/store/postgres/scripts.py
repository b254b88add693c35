"""The DBA's scripts for the store; the daemon runs them itself where it may."""

import re
from collections.abc import Iterable
from importlib.resources import files

from psycopg import sql

from cdc_sync import own_path
from cdc_sync.core.identifiers import QualifiedName, requoted
from cdc_sync.store.statements import LOCK, text


def migrations() -> dict[int, str]:
    """The scripts `NNN_what.sql`, by the number of the schema to which each leads."""
    names = sorted(entry.name for entry in files("cdc_sync.store").joinpath("sql", "postgres").iterdir())
    return {int(name[:3]): text(f"postgres/{name}") for name in names if name[:3].isdigit()}


_MIGRATIONS = "".join(migrations().values())

_DROPPED = set(re.findall(r"DROP TABLE cdc_sync\.(\w+)", _MIGRATIONS))

TABLES = tuple(name for name in re.findall(r"CREATE TABLE cdc_sync\.(\w+)", _MIGRATIONS) if name not in _DROPPED)
"""All tables of the store."""

_LEADER = 12
"""The version of the schema since which one daemon leads."""


def install(tables: Iterable[QualifiedName] = ()) -> str:
    """Create the store's tables, or migrate them.

    The owners of `tables`, those watched in the store's database, may read the whole store, for `pg_dump`.
    """
    scripts, tables = migrations(), list(tables)
    # No older daemon may register between this check and the commit.
    facts = {"newest": max(scripts), "leader": _LEADER, "kind": LOCK, "begin": own_path.begin(tables)}
    gives = own_path.gives_by_default("current_user")
    parts = [text("postgres/install.sql").format(tables=", ".join(TABLES), gives_by_default=gives, **facts)]
    for number, script in scripts.items():
        statements = "\n".join(f"        {line}".rstrip() for line in script.splitlines())
        parts.append(text("postgres/migration.sql").format(number=number, statements=statements))
    watched = sql.SQL(", ").join([*map(own_path.oid_of, tables)] or [sql.SQL("NULL").format()]).as_string()
    parts += [text("postgres/readers.sql").replace("{watched}", watched), "END\n$cdc_sync$;\n\nCOMMIT;\n"]
    return requoted("".join(parts), [watched])


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
