"""How our sessions and scripts look up names: in PostgreSQL's own schema only, whatever search_path the login has.

Another role may have put functions, operators or types into a schema of that path. They would run with the rights of
the daemon, or of the role that runs a script. So each session and script keeps the login's own path in two settings,
and then sets `PINNED`. Two things still go by the own path: tables that the configuration names without a schema, which
are looked up once, and the configuration's expressions (`ats.connection.on_own_path`). The SQL is in `own_path.sql`.
"""

from collections.abc import Iterable

from psycopg import sql

from cdc_sync.core.identifiers import QualifiedName

from .packaged import sections, text

PINNED = "pg_catalog, pg_temp"
"""The search_path of our sessions and scripts."""

_PARTS = sections(text("own_path.sql"))


def session_start() -> str:
    """The statements that keep a session's own path, once, and pin it; they look up nothing on it."""
    return f"SELECT {_kept('false')}; SET search_path TO {PINNED}"


def begin(tables: Iterable[QualifiedName] = ()) -> str:
    """The beginning of a script that names these tables: a transaction, and its search_path."""
    keep = "" if all(each.schema for each in tables) else _PARTS["keep"].replace("{kept}", _kept("true")) + "\n"
    return f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;\n{keep}{_PARTS['pin']}"


def _kept(local: str) -> str:
    return _PARTS["kept"].replace("{local}", local)


def in_transaction(statements: str, tables: Iterable[QualifiedName] = ()) -> str:
    """Statements that name these tables, as a script."""
    return f"{begin(tables)}\n{statements.rstrip()}\nCOMMIT;\n"


def naming(table: QualifiedName, statements: str) -> str:
    """Statements of a script that name a table as the configuration does, and look up nothing else."""
    if table.schema is not None:
        return statements
    return f"{_PARTS['on_own_path']}\n{statements.rstrip()}\n{_PARTS['pin']}\n"


def oid_of(table: QualifiedName) -> sql.Composed:
    """An expression for a table's oid, also without a right on its schema, which `to_regclass` asks for; NULL: none."""
    part = _PARTS["in_own_schemas" if table.schema is None else "in_schema"]
    return sql.SQL(part).format(schema=sql.Literal(table.schema), name=sql.Literal(table.name))


def existing(table: QualifiedName) -> sql.Composed:
    """An expression for a table, as regclass; PostgreSQL's own error if there is none."""
    named = sql.Literal(sql.Identifier(*filter(None, table)).as_string())
    if table.schema is not None:
        return sql.SQL("{}::regclass").format(named)
    return sql.SQL(_PARTS["existing"]).format(found=oid_of(table), name=named)


def gives_by_default(role: str) -> str:
    """A condition: default privileges of a role, an SQL expression, give others more than reading."""
    return _PARTS["gives_by_default"].replace("{role}", role)


def new_name(table: QualifiedName) -> sql.Composable:
    """An expression for the name, with a schema, of a table that is to be made."""
    if table.schema is None:
        return sql.SQL(_PARTS["in_first_schema"]).format(name=sql.Literal(table.name))
    return sql.Literal(sql.Identifier(table.schema, table.name).as_string())


def packaged_sql(path: str) -> str:
    """A file of SQL of the package. ON_OWN_PATH(c) is written out: whether the own path leads to `c`, a pg_class."""
    condition = f"c.oid = {_PARTS['in_own_schemas']}".replace("{name}", "c.relname")
    return text(path).replace("ON_OWN_PATH(c)", condition)
