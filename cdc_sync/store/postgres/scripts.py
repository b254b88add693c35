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

TABLES = tuple(name for name in re.findall(r"CREATE TABLE cdc_sync\.(\w+)", _MIGRATIONS) if name not in _DROPPED)[::-1]
"""All tables of the store."""

_LEADER = 12
"""The version of the schema since which one daemon leads."""

_NAMES = ", ".join(f"'{name}'" for name in TABLES)


def _sql(name: str) -> str:
    """A part of a script, with the tables' names."""
    return text(f"postgres/{name}.sql").rstrip("\n").replace("(TABLES)", f"({_NAMES})")


def install(tables: Iterable[QualifiedName] = ()) -> str:
    """Create the store's tables, or migrate them.

    The owners of `tables`, those watched in the store's database, may read the whole store, for `pg_dump`.
    """
    scripts, tables = migrations(), list(tables)
    # No older daemon may register between this check and the commit.
    facts = {"newest": max(scripts), "leader": _LEADER, "kind": LOCK, "begin": own_path.begin(tables)}
    gives = own_path.gives_by_default("current_user")
    parts = [text("postgres/install.sql").format(tables=", ".join(reversed(TABLES)), gives_by_default=gives, **facts)]
    for number, script in scripts.items():
        statements = "\n".join(f"        {line}".rstrip() for line in script.splitlines())
        parts.append(text("postgres/migration.sql").format(number=number, statements=statements))
    watched = sql.SQL(", ").join([*map(own_path.oid_of, tables)] or [sql.SQL("NULL").format()]).as_string()
    parts += [_sql("readers").replace("{watched}", watched), "\nEND\n$cdc_sync$;\n\nCOMMIT;\n"]
    return requoted("".join(parts), [watched])


def grants(role: str) -> str:
    """The least privileges of the role of the daemon and its commands."""
    return _for_role("grants", role)


def revokes(role: str) -> str:
    """Revoke all that `grants` gives."""
    return _for_role("revokes", role)


def _for_role(name: str, role: str) -> str:
    literal = sql.Literal(role)
    return (
        sql.SQL(requoted(_sql(name), [literal.as_string()]))
        .format(
            tables=_tables(reversed(TABLES)),
            name=literal,
            role=sql.Identifier(role),
            begin=sql.SQL(own_path.begin()),
        )
        .as_string()
        + "\n"
    )


def uninstall() -> str:
    """Remove the store's tables, and the schema if it is empty then."""
    return sql.SQL(_sql("uninstall") + "\n").format(tables=_tables(TABLES), begin=sql.SQL(own_path.begin())).as_string()


def _tables(names: Iterable[str]) -> sql.Composable:
    return sql.SQL(",\n    ").join(sql.Identifier("cdc_sync", name) for name in names)
