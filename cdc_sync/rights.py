"""SQL (`rights.sql`) for the rights of other roles on what the DBA's scripts create, for the triggers and the store.

`ALTER DEFAULT PRIVILEGES` silently gives others rights on all that a role creates. A role that may put a trigger on a
table of ours runs code with the rights of each writer: the owner of the recording functions, or the daemon. So other
roles keep only what a daemon needs, unless they have the rights at stake anyway.

`objects` is a query of (kind, name, owner, acl, needed, is_new): the word for REVOKE, the quoted name, the owner's oid,
the ACL, a daemon's privileges, and whether this script has just made it. `installers` is a query of the roles with the
rights at stake. All other privileges are revoked, MAINTAIN of 17 included.

The owners of the watched tables may read what `pg_dump` reads, every table and sequence: otherwise it fails.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache

from psycopg import sql

from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.own_path import packaged_sql


def revoke(objects: str, installers: str, daemon: str) -> str:
    """A PL/pgSQL block that takes from other roles what the daemon does not need.

    `daemon` is the name of its role as an SQL literal, or NULL; the module explains the others.
    """
    return _part("revoke", granted=_part("granted", objects=objects, installers=installers), daemon=daemon)


def exposed(objects: str, installers: str) -> str:
    """A query of what other roles have beyond the daemon's needs, as (kind, name, text such as `TRIGGER to ats`)."""
    granted = _part("granted", objects=objects, installers=installers)
    return _part("exposed", granted=granted, objects=objects, installers=installers)


def owners(tables: Iterable[QualifiedName]) -> str:
    """A query of the owners of these tables."""
    return _part("owners", tables=_values(("text", "text"), ((each.schema, each.name) for each in tables)))


def readable(tables_owners: str, relations: str) -> str:
    """A PL/pgSQL block that lets these owners read what `pg_dump` reads of ours.

    A right that it may not give becomes a WARNING with the GRANT. `relations` is a condition on `c`, a pg_class.
    """
    return _part("readable", unreadable=_part("unreadable", owners=tables_owners, relations=relations))


def unreadable(tables_owners: str, relations: str) -> str:
    """A query of what they may not read, as (kind, name, text such as `no SELECT for ats`)."""
    return _part("lacking", unreadable=_part("unreadable", owners=tables_owners, relations=relations))


Grants = Mapping[str, str]
"""SQL made by `granted`."""


def granted(
    role: str,
    tables: Iterable[tuple[str | None, str, list[str] | None]],
    ours: Iterable[tuple[str, str]],
    schemas: Iterable[str],
) -> Grants:
    """The grants of a daemon's role.

    Args:
        role: as SQL.
        tables: schema (None: not named), table, and columns (None: all of it).
        ours: relation of the schema cdc_sync, and its privileges, separated by `, `.
        schemas: with USAGE.
    """
    return {
        "role": role,
        "tables": _values(("text", "text", "name[]"), tables),
        "ours": _values(("text", "text"), ours),
        "schemas": ", ".join(dict.fromkeys(map(_literal, (None, *schemas)))),
    }


def all_granted(grants: Grants) -> str:
    """A PL/pgSQL block that fails if the role lacks something: GRANT itself only warns."""
    return _part("all_granted", lacks=_part("lacks", **grants), **grants)


def missing(grants: Grants) -> str:
    """A query of the GRANTs that a role lacks."""
    return _part("missing", lacks=_part("lacks", **grants), **grants)


def take_back(grants: Grants) -> str:
    """A PL/pgSQL block that revokes it all, so that the role can be dropped."""
    return _part("take_back", acls=_part("acls"), **grants)


def _values(types: Iterable[str], rows: Iterable[tuple[object, ...]]) -> str:
    """Rows of VALUES, each once; a first one of NULLs has the types."""
    nulls = tuple(f"NULL::pg_catalog.{each}" for each in types)
    lines = (nulls, *(map(_literal, row) for row in rows))
    return ", ".join(dict.fromkeys(f"({', '.join(line)})" for line in lines))


def _literal(value: object) -> str:
    return sql.Literal(value).as_string()


def _part(name: str, **put_in: str) -> str:
    """A part of the file, with values put in."""
    return re.sub(r"\{([a-z]+)\}", lambda found: put_in[found[1]], _parts()[name])


@cache
def _parts() -> Mapping[str, str]:
    _, *parts = re.split(r"(?:^-- .*\n)*^-- name: (\w+)\n", packaged_sql("rights.sql"), flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}
