"""The DBA's scripts for the store; the daemon runs them itself where it may."""

import re
from collections.abc import Iterable

from psycopg import sql

from cdc_sync import own_path, rights
from cdc_sync.core.identifiers import QualifiedName, requoted
from cdc_sync.store.statements import migrations, text

_MIGRATIONS = "".join(map(text, migrations("postgres")))

_DROPPED = set(re.findall(r"DROP TABLE cdc_sync\.(\w+)", _MIGRATIONS))

TABLES = tuple(name for name in re.findall(r"CREATE TABLE cdc_sync\.(\w+)", _MIGRATIONS) if name not in _DROPPED)[::-1]
"""All tables of the store."""

KIND = int.from_bytes(b"cdcs", "big")
"""The first number of the leader's advisory lock, which no other application would choose."""

_LEADER = 9
"""The version of the schema since which one daemon leads."""

_NAMES = ", ".join(f"'{name}'" for name in TABLES)


def _sql(name: str) -> str:
    """A part of a script, with the tables' names."""
    return text(f"postgres/{name}.sql").rstrip("\n").replace("(TABLES)", f"({_NAMES})")


# With the sequences of identity columns.
_RELATIONS = _sql("relations")

_OURSELVES = "SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user"

_OWNER = "SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass('cdc_sync.about')"

_OURS = _sql("ours").replace("(RELATIONS)", _RELATIONS)

_NOT_OURS = "\n" + _sql("not_ours")


def install(daemon: str | None = None, tables: Iterable[QualifiedName] = ()) -> str:
    """Create the store's tables, or migrate them.

    The role `daemon` keeps its rights; if unknown, every role keeps its own. The owners of `tables`, those watched in
    the store's database, may read the whole store, for `pg_dump`.
    """
    scripts, tables = migrations("postgres"), list(tables)
    # No older daemon may register between this check and the commit.
    facts = {"newest": len(scripts), "leader": _LEADER, "kind": KIND, "begin": own_path.begin(tables)}
    parts = [text("postgres/install.sql").format(tables=", ".join(reversed(TABLES)), **facts)]
    for number, script in enumerate(scripts, start=1):
        statements = "\n".join(f"        {line}".rstrip() for line in text(script).splitlines())
        parts.append(text("postgres/migration.sql").format(number=number, statements=statements))
    parts += [rights.revoke(_OURS, _OURSELVES, "{daemon}"), "\n", "{readable}", "\nEND\n$cdc_sync$;\n\nCOMMIT;\n"]
    name, readable = sql.Literal(daemon).as_string(), rights.readable(rights.owners(tables), _RELATIONS)
    put_in = {"{daemon}": name, "{readable}": readable}
    return re.sub(r"\{(daemon|readable)\}", lambda found: put_in[found[0]], requoted("".join(parts), put_in.values()))


def unreadable(tables: Iterable[QualifiedName]) -> str:
    """The query for what these tables' owners may not read of the store: their `pg_dump` would fail."""
    return rights.unreadable(rights.owners(tables), _RELATIONS)


def exposed() -> str:
    """The query for other roles' rights on the store beyond a daemon's needs, and for foreign triggers."""
    return rights.exposed(_OURS.replace("is_new_schema", "false").replace("version = 0", "false"), _OWNER) + _NOT_OURS


def grants(role: str) -> str:
    """The least privileges of the role of the daemon and its commands."""
    name, check = sql.Literal(role), rights.all_granted(_granted(role))
    quotes = sql.SQL(requoted("$cdc_sync$", [name.as_string()]))
    parts = {"name": name, "quotes": quotes, "role": sql.Identifier(role), "check": sql.SQL(check)}
    parts["begin"] = sql.SQL(own_path.begin())
    return sql.SQL(_sql("grants")).format(tables=_tables(reversed(TABLES)), **parts).as_string() + "\n"


def revokes(role: str) -> str:
    """Revoke all that `grants` gives."""
    block = rights.take_back(_granted(role))
    quotes = requoted("$cdc_sync$", [block])
    return _sql("revokes").format(block=block, quotes=quotes, begin=own_path.begin()) + "\n"


def _granted(role: str) -> rights.Grants:
    """The same as data."""
    ours = [(name, "SELECT, INSERT, UPDATE, DELETE") for name in TABLES]
    return rights.granted(sql.Literal(role).as_string(), [], ours, ["cdc_sync"])


def uninstall() -> str:
    """Remove the store's tables, and the schema if it is empty then."""
    return sql.SQL(_sql("uninstall") + "\n").format(tables=_tables(TABLES), begin=sql.SQL(own_path.begin())).as_string()


def _tables(names: Iterable[str]) -> sql.Composable:
    return sql.SQL(",\n    ").join(sql.Identifier("cdc_sync", name) for name in names)
